package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

// authorities is the answer of `_authorities`.
type authorities struct {
	EnabledBackend string             `json:"enabledBackend"`
	RotationTo     string             `json:"rotationTo"`
	Backends       []authorityBackend `json:"backends"`
	Total          int                `json:"total"`
	Ready          int                `json:"ready"`
	Pending        []pendingProxy     `json:"pending"`
}

type authorityBackend struct {
	Name        string    `json:"name"`
	Type        string    `json:"type"`
	KeyType     string    `json:"keyType"`
	NotAfter    time.Time `json:"notAfter"`
	Fingerprint string    `json:"fingerprint"`
	Dataplanes  int       `json:"dataplanes"`
}

type pendingProxy struct {
	Type      string `json:"type"`
	Name      string `json:"name"`
	Connected bool   `json:"connected"`
	Reason    string `json:"reason"`
}

func newInspectAuthorityCommand(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "authority", Short: "Show the certificate authorities of a mesh and how far a rotation is",
		Long: "Show the certificate authorities that the proxies of a mesh trust, when they expire, how many data plane proxies have a\n" +
			"certificate of each, and which proxies do not trust all of them or have no certificate of the one that signs.",
		Example: "  kumactl inspect authority --mesh default",
		Args:    args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(cmd, output); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			body, all, err := a.authorities(cmd.Context(), c)
			if err != nil {
				return fmt.Errorf("inspect authority: %w", err)
			}
			if output != "table" {
				return a.show(output, body, nil)
			}
			return a.printAuthorities(all)
		},
	}
	outputFlag(cmd, &output)
	return cmd
}

func (a *app) authorities(ctx context.Context, c *client.Client) (body []byte, all *authorities, err error) {
	if body, err = c.Do(ctx, http.MethodGet, []string{"meshes", a.mesh, "_authorities"}, nil, nil); err != nil {
		return nil, nil, err
	}
	all = &authorities{}
	if err := json.Unmarshal(body, all); err != nil {
		return nil, nil, fmt.Errorf("read the answer: %w", err)
	}
	return body, all, nil
}

func (a *app) printAuthorities(all *authorities) error {
	if all.EnabledBackend == "" {
		_, err := fmt.Fprintf(a.stdout, "mTLS of mesh %s is off\n", printable(a.mesh))
		return err
	}
	t := &table{header: []string{"BACKEND", "TYPE", "STATE", "KEY", "EXPIRES", "CERTIFICATES", "SHA-256"}}
	for _, b := range all.Backends {
		state := "trusted"
		if b.Name == all.EnabledBackend {
			state = "signs"
		}
		t.rows = append(t.rows, []string{
			b.Name, b.Type, state, b.KeyType, b.NotAfter.UTC().Format(time.DateOnly), strconv.Itoa(b.Dataplanes), fmt.Sprintf("%.16s", b.Fingerprint),
		})
	}
	if err := t.print(a.stdout); err != nil {
		return err
	}
	out := &printer{a.stdout}
	out.line("")
	if all.RotationTo != "" {
		out.line("Rotation to %s: %s", printable(all.RotationTo), all.next().what)
	}
	out.line("%d of %d proxies trust all of them and have a certificate of %s", all.Ready, all.Total, printable(all.EnabledBackend))
	for _, p := range all.Pending {
		out.line("  %s", p)
	}
	return nil
}

func (p pendingProxy) String() string {
	return printable(fmt.Sprintf("%s %s: %s", p.Type, p.Name, p.Reason))
}
