package redirection

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/internal/command"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
	"github.com/kuma-dp/kuma-dp/transparentproxy/settings"
)

// NewInstall makes the command that installs redirection.
func NewInstall(p Process) *cobra.Command {
	var output, backend string
	var keepSSH bool
	var confirm time.Duration
	cmd := &cobra.Command{
		Use:   name,
		Short: "Redirect this host's traffic to Envoy",
		Long: `Redirect this host's TCP connections, and if asked its DNS queries, to Envoy and kuma-dp.

Traffic of the user that runs kuma-dp is left alone. Installing again replaces what is installed, without a moment
in which traffic passes by; rules of others are not touched. SSH is redirected like everything else, except the port of
the SSH session that installs: keep others out with --exclude-inbound-ports 22.

It needs the capabilities CAP_NET_ADMIN and CAP_NET_RAW. Every setting can also come from a variable KUMA_TRANSPARENT_PROXY_*,
from the annotations of a pod, or from a file (docs/reference/transparent-proxy.md): a flag goes before a variable, that before
an annotation, that before a file.`,
		Example: `  # what would be done, in words
  kumactl install transparent-proxy --kuma-dp-user kuma-dp --redirect-dns --dry-run --output table

  # a host reached by SSH
  kumactl install transparent-proxy --kuma-dp-user kuma-dp --redirect-dns --exclude-inbound-ports 22`,
		Args:         command.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := findForm(output)
			if err != nil {
				return command.Usage(cmd, err)
			}
			s, err := p.Settings(cmd)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("output") && !s.Options.DryRun {
				return command.Usage(cmd, errors.New("--output is of --dry-run, which is not given"))
			}
			if confirm < 0 {
				return command.Usage(cmd, errors.New("--confirm-timeout must not be negative"))
			}
			if keepSSH {
				p.KeepSSH(&s.Config)
			}
			return p.install(cmd.Context(), s, f, backend, confirm)
		},
	}
	settings.Bind(cmd.Flags())
	BindHost(cmd.Flags(), &backend, &keepSSH)
	if p.Confirm != nil {
		cmd.Long += `

With --confirm-timeout the installation is taken back by itself unless it is confirmed in time, also when the session
that installs is lost: for a host that is reached by the network only.`
		cmd.Flags().DurationVar(&confirm, "confirm-timeout", 0, "take the installation back after this time unless it is confirmed")
	}
	cmd.Flags().StringVarP(&output, "output", "o", forms[0].name, "form in which --dry-run prints: one of "+formNames())
	return cmd
}

// install works out the plan and applies or prints it.
func (p Process) install(ctx context.Context, s settings.Settings, f form, backend string, confirm time.Duration) error {
	if err := tp.CheckPrivileges(); err != nil {
		if !s.Options.DryRun {
			return err
		}
		p.log().Warn("installing will not work, printing does", "error", err)
	}
	bounded, cancel := context.WithTimeout(ctx, s.Options.Deadline())
	defer cancel()
	m, err := p.Manager(bounded, s.Options, backend)
	if err != nil {
		return err
	}
	if s.Options.DryRun || s.Options.Verbose {
		if err := p.print(bounded, m, s, f); err != nil {
			return err
		}
	}
	if s.Options.DryRun {
		return nil
	}
	var done *redirect.Planned
	if confirm > 0 {
		done, err = p.Confirm(ctx, m, s.Config, confirm)
	} else {
		done, err = m.Apply(bounded, s.Config)
	}
	if err != nil {
		return err
	}
	p.limited(done.Plan)
	_, err = fmt.Fprintln(p.Out, "transparent proxy set up successfully, you can now run kuma-dp using transparent-proxy")
	return err
}

// print prints the plan, in a dry run also where no backend works.
func (p Process) print(ctx context.Context, m *redirect.Manager, s settings.Settings, f form) error {
	var plan *tp.Plan
	planned, err := m.Plan(ctx, s.Config)
	switch {
	case err == nil:
		plan = planned.Plan
	case !s.Options.DryRun || !errors.Is(err, redirect.ErrNoBackend):
		return err
	default:
		p.log().Warn("rules are printed without knowing the rules of this host", "error", err)
		host, err := tp.Detect(s.Config)
		if err != nil {
			return err
		}
		if plan, err = tp.NewPlan(s.Config, host); err != nil {
			return err
		}
	}
	if s.Options.DryRun {
		p.limited(plan)
	}
	text, err := f.print(plan, s.Options)
	if err == nil {
		_, err = io.WriteString(p.Out, text)
	}
	if err != nil {
		return fmt.Errorf("print rules: %w", err)
	}
	return nil
}

func (p Process) limited(plan *tp.Plan) {
	for _, w := range plan.Warnings {
		p.log().Warn("redirection is limited", "reason", w)
	}
}
