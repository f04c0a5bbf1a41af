package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
	"github.com/kuma-dp/kuma-dp/transparentproxy/settings"
)

// Exit codes of `kumactl transparent-proxy status`.
const (
	exitDrift   = 1
	exitAbsent  = 2
	exitUnknown = 3
)

func newTransparentProxyCommand(a *app) *cobra.Command {
	return group("transparent-proxy", "Look after the redirection of this host's traffic",
		newStatusCommand(a), newVerifyCommand(a), newConfirmCommand(a), newRollbackCommand(a), newGuardCommand(a))
}

func newStatusCommand(a *app) *cobra.Command {
	var output, backend string
	var keepSSH, repair, watch bool
	all, how := pflag.NewFlagSet("", pflag.ContinueOnError), pflag.NewFlagSet("", pflag.ContinueOnError)
	settings.Bind(all)
	settings.BindRemoval(how)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Compare this host's redirection with what was installed",
		Long: `Compare this host's redirection with what was installed last, or with the configuration that flags give.

Without --repair and --watch nothing is changed. --repair applies again what differs. --watch does so as long as it
runs, as soon as the kernel tells of changed nftables or iptables-nft rules or of a new IPv6 address, or resolv.conf
changes; of legacy iptables rules the kernel tells nothing, they are looked at whenever it tells of something else.

Exit codes: 0 in sync (or repaired), 1 something differs, 2 nothing is redirected, 3 it cannot be said.`,
		Example: `  kumactl transparent-proxy status
  kumactl transparent-proxy status -o json
  kumactl transparent-proxy status --repair
  kumactl transparent-proxy status --watch`,
		Args: args(0, 0, "none"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case output != "text" && output != "json":
				return usage(cmd, fmt.Sprintf("output format %q is none of text, json", output))
			case repair && watch:
				return usage(cmd, "--watch repairs already: leave --repair out")
			case watch && output != "text":
				return usage(cmd, "--watch prints nothing but its log: leave -o out")
			}
			if err := tp.CheckPrivileges(); err != nil {
				return &exitError{exitUnknown, err}
			}
			s, err := a.process().Settings(cmd)
			if err != nil {
				return &exitError{exitUnknown, err}
			}
			m, err := a.process().Manager(cmd.Context(), s.Options, backend)
			if err != nil {
				return usage(cmd, err.Error())
			}
			cfg := given(all, how, s.Config)
			if cfg != nil && keepSSH && (repair || watch) {
				a.process().KeepSSH(cfg)
			}
			if watch {
				err = keepWatch(cmd.Context(), m, cfg)
			} else {
				err = a.status(cmd.Context(), m, cfg, output, repair)
			}
			if _, ok := errors.AsType[*exitError](err); err == nil || ok {
				return err
			}
			return &exitError{exitUnknown, err}
		},
	}
	f := cmd.Flags()
	f.StringVarP(&output, "output", "o", "text", "output format: one of text|json")
	f.BoolVar(&repair, "repair", false, "apply again what differs")
	f.BoolVar(&watch, "watch", false, "keep on repairing")
	bindConfiguration(f, all, &backend, &keepSSH)
	return cmd
}

// status compares once, and repairs if asked.
func (a *app) status(ctx context.Context, m *redirect.Manager, cfg *tp.Config, output string, repair bool) error {
	ctx, cancel := context.WithTimeout(ctx, redirectionTime)
	defer cancel()
	var st *redirect.Status
	var err error
	if repair {
		st, err = m.Repair(ctx, cfg)
	} else {
		st, err = m.Status(ctx, cfg)
	}
	if err != nil {
		return err
	}
	if output == "json" {
		e := json.NewEncoder(a.stdout)
		e.SetIndent("", "  ")
		err = e.Encode(struct {
			*redirect.Status
			Repaired bool `json:"repaired,omitempty"`
		}{st, repair && st.State != redirect.InSync})
	} else {
		err = printStatus(a.stdout, st, repair)
	}
	if err != nil {
		return fmt.Errorf("print status: %w", err)
	}
	switch {
	case repair, st.State == redirect.InSync:
		return nil
	case st.State == redirect.Absent:
		return &exitError{code: exitAbsent}
	default:
		return &exitError{code: exitDrift}
	}
}

func printStatus(w io.Writer, st *redirect.Status, repaired bool) error {
	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	switch st.State {
	case redirect.InSync:
		line("in sync: the kernel has what was installed")
	case redirect.Absent:
		line("absent: nothing is redirected")
	default:
		line("drift: %s", counted(len(st.Differences), "difference", "differences"))
	}
	if st.Backend != "" {
		line("backend: %s", st.Backend)
	}
	if st.InstalledAt != nil {
		line("installed: %s", st.InstalledAt.Format(time.DateTime))
	}
	if st.ConfirmBefore != nil {
		line("waits for confirmation until: %s", st.ConfirmBefore.Format(time.DateTime))
	}
	for _, warning := range st.Warnings {
		line("limited: %s", warning)
	}
	for _, d := range st.Differences {
		line("  %v", d)
	}
	if repaired && st.State != redirect.InSync {
		line("repaired")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// keepWatch ends without an error when it is told to.
func keepWatch(ctx context.Context, m *redirect.Manager, cfg *tp.Config) error {
	if cfg != nil {
		if _, err := m.Apply(ctx, *cfg); err != nil {
			return err
		}
	}
	err := m.Watch(ctx)
	if errors.Is(err, redirect.ErrUninstalled) {
		return &exitError{exitAbsent, err}
	}
	return err
}
