package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newGenerateCommand(a *app) *cobra.Command {
	return group("generate", "Generate tokens, keys and certificates",
		newDataplaneTokenCommand(a), newZoneTokenCommand(a), newUserTokenCommand(a),
		newSigningKeyCommand(a), newPublicKeyCommand(a), newCertificateCommand(a))
}

// tokenFlags are those that all tokens have.
type tokenFlags struct {
	validFor     time.Duration
	kid, keyPath string
}

func (t *tokenFlags) add(cmd *cobra.Command, validity string) {
	cmd.Flags().DurationVar(&t.validFor, "valid-for", 0, "how long the token is valid, such as 720h"+validity)
	cmd.Flags().StringVar(&t.keyPath, "signing-key-path", "", "PEM of the private signing key: makes the token here, without the control plane")
	cmd.Flags().StringVar(&t.kid, "kid", "", "ID of the signing key; needed with --signing-key-path")
}

func (t *tokenFlags) check(cmd *cobra.Command) error {
	switch {
	case t.validFor < 0:
		return usage(cmd, "--valid-for must be positive")
	case t.keyPath != "" && t.kid == "":
		return usage(cmd, "--signing-key-path needs --kid, by which the control plane finds the public key")
	case t.keyPath == "" && t.kid != "":
		return usage(cmd, "--kid is for --signing-key-path")
	}
	return nil
}

func newDataplaneTokenCommand(a *app) *cobra.Command {
	var name, proxyType string
	var tags []string
	var t tokenFlags
	cmd := &cobra.Command{
		Use: "dataplane-token", Short: "Generate a token with which a proxy joins a mesh",
		Long: "Generate a dataplane token and print it. It allows what all given flags allow together; without --name and\n" +
			"--tag it is for every proxy of the mesh, so bind it where you can.",
		Example: "  kumactl generate dataplane-token --tag kuma.io/service=web --valid-for 720h > web.token",
		Args:    args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := t.check(cmd); err != nil {
				return err
			}
			sets, err := tagSets(tags)
			if err != nil {
				return usage(cmd, err.Error())
			}
			if types := []string{"dataplane", "ingress", "egress"}; !slices.Contains(types, proxyType) {
				return usage(cmd, fmt.Sprintf("--proxy-type %q is none of dataplane, ingress, egress", proxyType))
			}
			return a.token(cmd, t, tokenRequest{
				path:   "dataplane",
				body:   map[string]any{"name": name, "mesh": a.mesh, "tags": sets, "type": proxyType},
				claims: map[string]any{"Name": name, "Mesh": a.mesh, "Tags": sets, "Type": proxyType},
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the Dataplane")
	cmd.Flags().StringArrayVar(&tags, "tag", nil, "tag that the Dataplane must have, key=value or key=value,value; may be repeated, for several values too")
	cmd.Flags().StringVar(&proxyType, "proxy-type", "dataplane", "type of the proxy: one of dataplane|ingress|egress")
	t.add(cmd, " (default 10 years)")
	return cmd
}

// tagSets reads key=value,value,key=value: a part without "=" is one more value of the key before it.
func tagSets(given []string) (map[string][]string, error) {
	sets := map[string][]string{}
	for _, text := range given {
		key := ""
		for part := range strings.SplitSeq(text, ",") {
			value := part
			if k, v, ok := strings.Cut(part, "="); ok {
				key, value = k, v
			}
			if key == "" || value == "" {
				return nil, fmt.Errorf("--tag %q is not of the form key=value", text)
			}
			sets[key] = append(sets[key], value)
		}
	}
	return sets, nil
}

func newZoneTokenCommand(a *app) *cobra.Command {
	var zone string
	var scope []string
	var t tokenFlags
	cmd := &cobra.Command{
		Use: "zone-token", Short: "Generate a token with which a zone ingress or egress joins a zone",
		Example: "  kumactl generate zone-token --zone east --scope egress --valid-for 720h > egress.token",
		Args:    args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := t.check(cmd); err != nil {
				return err
			}
			for _, s := range scope {
				if s != "ingress" && s != "egress" {
					return usage(cmd, fmt.Sprintf("--scope %q is none of ingress, egress", s))
				}
			}
			if len(scope) == 0 {
				return usage(cmd, "--scope must name ingress, egress or both")
			}
			return a.token(cmd, t, tokenRequest{
				path:   "zone",
				body:   map[string]any{"zone": zone, "scope": scope},
				claims: map[string]any{"Zone": zone, "Scope": scope},
			})
		},
	}
	cmd.Flags().StringVar(&zone, "zone", "", "name of the zone (default any)")
	cmd.Flags().StringSliceVar(&scope, "scope", []string{"ingress", "egress"}, "what the token is for: ingress, egress or both")
	t.add(cmd, " (default 10 years)")
	return cmd
}

func newUserTokenCommand(a *app) *cobra.Command {
	var name string
	var groups []string
	var t tokenFlags
	cmd := &cobra.Command{
		Use: "user-token", Short: "Generate a token with which a person or program uses the control plane",
		Example: "  kumactl generate user-token --name ci --group mesh-system:admin --valid-for 24h",
		Args:    args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := t.check(cmd); err != nil {
				return err
			}
			switch {
			case name == "":
				return usage(cmd, "--name is required")
			case t.validFor == 0:
				return usage(cmd, "--valid-for is required and must be positive")
			}
			return a.token(cmd, t, tokenRequest{
				path:   "user",
				body:   map[string]any{"name": name, "groups": groups},
				claims: map[string]any{"Name": name, "Groups": groups},
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the user")
	cmd.Flags().StringSliceVar(&groups, "group", nil, "group of the user; may be repeated")
	t.add(cmd, "; required")
	return cmd
}

// tokenRequest is one token, as the control plane is asked for it and as its claims (contract controlplane.md §2.5).
type tokenRequest struct {
	path         string
	body, claims map[string]any
}

// token prints a token as it is, without a newline, as 2.9 does.
func (a *app) token(cmd *cobra.Command, t tokenFlags, r tokenRequest) error {
	raw, err := a.makeToken(cmd, t, r)
	if err != nil {
		return fmt.Errorf("generate %s token: %w", r.path, err)
	}
	_, err = a.stdout.Write(raw)
	return err
}

func (a *app) makeToken(cmd *cobra.Command, t tokenFlags, r tokenRequest) ([]byte, error) {
	if t.keyPath != "" {
		return signToken(t, r.claims, time.Now())
	}
	if t.validFor > 0 {
		r.body["validFor"] = t.validFor.String()
	}
	body, err := json.Marshal(r.body)
	if err != nil {
		return nil, err
	}
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Do(cmd.Context(), http.MethodPost, []string{"tokens", r.path}, nil, body)
}
