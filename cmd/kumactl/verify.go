package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kuma-dp/kuma-dp/cmd/internal/redirection"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
	"github.com/kuma-dp/kuma-dp/transparentproxy/settings"
	"github.com/kuma-dp/kuma-dp/transparentproxy/verify"
)

// Exit codes of `kumactl transparent-proxy verify`.
const (
	exitBroken  = 1
	exitNotSure = 2
)

// verifyTime is the default of --timeout.
const verifyTime = 10 * time.Second

func newVerifyCommand(a *app) *cobra.Command {
	var output, backend string
	var keepSSH bool
	var timeout time.Duration
	all, how := pflag.NewFlagSet("", pflag.ContinueOnError), pflag.NewFlagSet("", pflag.ContinueOnError)
	settings.Bind(all)
	settings.BindRemoval(how)
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Send packets that say whether this host's redirection does what it promises",
		Long: `Send packets that say whether this host's redirection does what it promises.

What was installed last, or the configuration that flags give, is taken apart into promises: what applications, users
that are excluded, kuma-dp and other hosts send, to where, by IPv4 and IPv6, and DNS. For each the first packet of
such a connection is sent, and connection tracking says where it went. No connection is established, neither kuma-dp
nor Envoy notices, and what is not redirected gets no further than the next router. It also names rules of others that
take connections first, and listeners that cannot answer.

It needs CAP_NET_ADMIN and CAP_NET_RAW; to send as other users also CAP_SETUID, and to send from outside, over a link to a
network namespace that exists for that moment, CAP_SYS_ADMIN. What it cannot try is unknown, and why.

Exit codes: 0 everything holds, 1 something is broken, 2 something or everything cannot be said, or nothing is
installed.`,
		Example: `  kumactl transparent-proxy verify
  kumactl transparent-proxy verify -o json`,
		Args: args(0, 0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case output != "table" && output != "json":
				return usage(cmd, fmt.Sprintf("output format %q is none of table, json", output))
			case timeout <= 0:
				return usage(cmd, "--timeout must be positive")
			}
			s, err := a.process().Settings(cmd)
			if err != nil {
				return &exitError{exitNotSure, err}
			}
			m, err := a.process().Manager(cmd.Context(), s.Options, backend)
			if err != nil {
				return usage(cmd, err.Error())
			}
			cfg := given(all, how, s.Config)
			if cfg != nil && keepSSH {
				a.process().KeepSSH(cfg)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return a.verify(ctx, m, cfg, output)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&output, "output", "o", "table", "output format: one of table|json")
	f.DurationVar(&timeout, "timeout", verifyTime, "how long all of it may take")
	bindConfiguration(f, all, &backend, &keepSSH)
	return cmd
}

// bindConfiguration adds the flags that give a configuration to compare this host with.
func bindConfiguration(f, all *pflag.FlagSet, backend *string, keepSSH *bool) {
	redirection.BindHost(f, backend, keepSSH)
	all.VisitAll(func(s *pflag.Flag) {
		if s.Name != "dry-run" && s.Name != "verbose" {
			f.AddFlag(s)
		}
	})
}

// given is the configuration that flags give, nil when they give none; how are those that say nothing about what is redirected.
func given(all, how *pflag.FlagSet, cfg tp.Config) *tp.Config {
	var out *tp.Config
	all.VisitAll(func(f *pflag.Flag) {
		if f.Changed && how.Lookup(f.Name) == nil && f.Name != "disable-comments" && f.Name != "cni-mode" {
			out = &cfg
		}
	})
	return out
}

func (a *app) verify(ctx context.Context, m *redirect.Manager, cfg *tp.Config, output string) error {
	err := tp.CheckPrivileges()
	var installed *redirect.Installation
	if err == nil {
		installed, err = m.Installation(ctx, cfg)
	}
	var report *verify.Report
	if err == nil {
		report, err = verify.Run(ctx, verify.Input{
			Config: installed.Config, Host: installed.Host, Backend: installed.Backend, Leftovers: installed.Leftovers, Legacy: m.LegacyNAT,
		})
	}
	if err != nil {
		return &exitError{exitNotSure, err}
	}
	if output == "json" {
		e := json.NewEncoder(a.stdout)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		err = e.Encode(report)
	} else {
		err = printReport(a.stdout, report)
	}
	switch {
	case err != nil:
		return &exitError{exitNotSure, fmt.Errorf("print the report: %w", err)}
	case report.Result == verify.Broken:
		return &exitError{code: exitBroken}
	case report.Result == verify.Unknown:
		return &exitError{code: exitNotSure}
	}
	return nil
}

// printReport prints a line for each promise, what to do below those that do not hold, and a last line that counts.
func printReport(out io.Writer, report *verify.Report) error {
	var columns strings.Builder
	w := tabwriter.NewWriter(&columns, 0, 0, 2, ' ', 0)
	count := map[verify.Result]int{}
	fmt.Fprintln(w, "RESULT\tCHECK\tPROMISE\tSEEN")
	for _, c := range report.Checks {
		count[c.Result]++
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Result, c.ID, c.Promise, c.Seen)
	}
	err := w.Flush()
	var todo strings.Builder
	seen := map[string]bool{}
	for _, c := range report.Checks {
		if c.Remedy != "" && !seen[c.Remedy] {
			seen[c.Remedy] = true
			fmt.Fprintf(&todo, "%s: %s\n", c.ID, c.Remedy)
		}
	}
	if todo.Len() > 0 {
		fmt.Fprintf(&columns, "\nWhat to do:\n%s", todo.String())
	}
	fmt.Fprintf(&columns, "\n%d hold, %d broken, %d unknown\n", count[verify.Holds], count[verify.Broken], count[verify.Unknown])
	_, werr := io.WriteString(out, columns.String())
	return errors.Join(err, werr)
}
