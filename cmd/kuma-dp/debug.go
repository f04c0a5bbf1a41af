package main

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/agent/admin"
	"github.com/kuma-dp/kuma-dp/internal/command"
	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
)

// newDebug asks a running agent of this user.
func newDebug(s command.Streams) *cobra.Command {
	var dir string
	c := &cobra.Command{Use: "debug", Short: "Look into a running kuma-dp of this user", Args: command.NoArgs}
	c.PersistentFlags().StringVar(&dir, "work-dir", "", "its work directory; needed only when several run")
	for _, page := range []struct{ name, help string }{
		{"status", "Connection to the control plane, configuration by type, what is missing"},
		{"identity", "The workload's certificate"},
	} {
		c.AddCommand(&cobra.Command{
			Use: page.name, Short: page.help, Args: command.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error { return show(c.Context(), s, dir, page.name) },
		})
	}
	c.AddCommand(newDebugDNS(s, &dir), newDebugMTLS(s, &dir))
	return c
}

// show prints a page of the agent's admin endpoint.
func show(ctx context.Context, s command.Streams, dir, page string) error {
	body, err := admin.Get(ctx, dir, page)
	if err != nil {
		return err
	}
	_, err = s.Out.Write(body)
	return err
}

// newDebugMTLS shows who comes with mTLS, or tries a service.
func newDebugMTLS(s command.Streams, dir *string) *cobra.Command {
	var service string
	var quiet time.Duration
	c := &cobra.Command{
		Use: "mtls", Short: "Who comes to the workload with mTLS and who without; or what a service does with either", Args: command.NoArgs,
		Example: "  kuma-dp debug mtls\n  kuma-dp debug mtls --quiet 24h\n  kuma-dp debug mtls --check backend",
		RunE: func(c *cobra.Command, _ []string) error {
			if service != "" {
				return show(c.Context(), s, *dir, "mtls/check?"+url.Values{"service": {service}}.Encode())
			}
			return show(c.Context(), s, *dir, "mtls?"+url.Values{"quiet": {quiet.String()}}.Encode())
		},
	}
	c.Flags().StringVar(&service, "check", "", "connect to the proxies of this service with an identity, in clear, without a certificate and with a foreign one")
	c.Flags().DurationVar(&quiet, "quiet", mtlsreport.DefaultQuiet, "how long nobody may have come without an identity")
	return c
}

// newDebugDNS shows the resolver, or follows one name through it.
func newDebugDNS(s command.Streams, dir *string) *cobra.Command {
	var name, qtype string
	c := &cobra.Command{
		Use: "dns", Short: "Names of the mesh, where they come from, name servers, cache; or how one name resolves", Args: command.NoArgs,
		Example: "  kuma-dp debug dns\n  kuma-dp debug dns --query backend.svc.mesh.local\n  kuma-dp debug dns --query example.com --type AAAA",
		RunE: func(c *cobra.Command, _ []string) error {
			page := "dns"
			switch {
			case name == "" && c.Flags().Changed("type"):
				return errors.New("--type goes with --query")
			case name != "":
				page += "?" + url.Values{"query": {name}, "type": {qtype}}.Encode()
			}
			return show(c.Context(), s, *dir, page)
		},
	}
	c.Flags().StringVar(&name, "query", "", "resolve this name and tell every step")
	c.Flags().StringVar(&qtype, "type", "A", "with --query: type of the records, such as AAAA or TYPE65")
	return c
}
