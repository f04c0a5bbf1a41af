package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newDataplaneTokenCommand(a *app) *cobra.Command {
	var name, proxyType string
	var tags []string
	var validFor time.Duration
	cmd := &cobra.Command{
		Use: "dataplane-token", Short: "Generate a token with which a proxy joins a mesh",
		Long: "Generate a dataplane token and print it. It allows what all given flags allow together; without --name and\n" +
			"--tag it is for every proxy of the mesh, so bind it where you can.",
		Example: "  kumactl generate dataplane-token --tag kuma.io/service=web --valid-for 720h > /etc/kuma/web.token",
		Args:    args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			sets := map[string][]string{}
			for _, t := range tags {
				key, value, ok := strings.Cut(t, "=")
				if !ok || key == "" || value == "" {
					return usage(cmd, fmt.Sprintf("--tag %q is not of the form key=value", t))
				}
				sets[key] = append(sets[key], value)
			}
			if types := []string{"dataplane", "ingress", "egress"}; !slices.Contains(types, proxyType) {
				return usage(cmd, fmt.Sprintf("--proxy-type %q is none of dataplane, ingress, egress", proxyType))
			}
			return a.token(cmd, "dataplane", validFor, map[string]any{"name": name, "mesh": a.mesh, "tags": sets, "type": proxyType})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the Dataplane")
	cmd.Flags().StringArrayVar(&tags, "tag", nil, "tag that the Dataplane must have, key=value; may be given several times, for several values too")
	cmd.Flags().StringVar(&proxyType, "proxy-type", "dataplane", "type of the proxy: one of dataplane|ingress|egress")
	cmd.Flags().DurationVar(&validFor, "valid-for", 0, "how long the token is valid, such as 720h (default 10 years)")
	return cmd
}

func newUserTokenCommand(a *app) *cobra.Command {
	var name string
	var groups []string
	var validFor time.Duration
	cmd := &cobra.Command{
		Use: "user-token", Short: "Generate a token with which a person or program uses the control plane",
		Example: "  kumactl generate user-token --name ci --group mesh-system:admin --valid-for 24h",
		Args:    args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case name == "":
				return usage(cmd, "--name is required")
			case validFor <= 0:
				return usage(cmd, "--valid-for is required and must be positive")
			}
			return a.token(cmd, "user", validFor, map[string]any{"name": name, "groups": groups})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the user")
	cmd.Flags().StringSliceVar(&groups, "group", nil, "group of the user; may be given several times")
	cmd.Flags().DurationVar(&validFor, "valid-for", 0, "how long the token is valid, such as 24h")
	return cmd
}

// token asks for a token and prints it as it is, without a newline, as 2.9 does.
func (a *app) token(cmd *cobra.Command, kind string, validFor time.Duration, request map[string]any) error {
	if validFor < 0 {
		return usage(cmd, "--valid-for must be positive")
	}
	if validFor > 0 {
		request["validFor"] = validFor.String()
	}
	raw, err := a.post(cmd.Context(), []string{"tokens", kind}, request)
	if err != nil {
		return fmt.Errorf("generate %s token: %w", kind, err)
	}
	_, err = a.stdout.Write(raw)
	return err
}

func (a *app) post(ctx context.Context, path []string, request any) ([]byte, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	return c.Do(ctx, http.MethodPost, path, nil, body)
}
