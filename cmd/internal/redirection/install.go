package redirection

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/internal/command"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/settings"
)

// NewInstall makes the command that installs redirection.
func NewInstall(p Process) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   name,
		Short: "Redirect this host's traffic to Envoy",
		Long: `Redirect this host's TCP connections, and if asked its DNS queries, to Envoy and kuma-dp.

Traffic of the user that runs kuma-dp is left alone. Installing again replaces what is installed, without a moment
in which traffic passes by; rules of others are not touched. SSH is redirected like everything else: keep it out
with --exclude-inbound-ports 22.

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
			ctx, cancel := context.WithTimeout(cmd.Context(), s.Options.Deadline())
			defer cancel()
			return p.install(ctx, s, f)
		},
	}
	settings.Bind(cmd.Flags())
	cmd.Flags().StringVarP(&output, "output", "o", forms[0].name, "form in which --dry-run prints: one of "+formNames())
	return cmd
}

// install works out the plan and applies or prints it.
func (p Process) install(ctx context.Context, s settings.Settings, f form) error {
	log, dryRun := p.log(), s.Options.DryRun
	if err := tp.CheckPrivileges(); err != nil {
		if !dryRun {
			return err
		}
		log.Warn("installing will not work, printing does", "error", err)
	}
	host, err := tp.Detect(s.Config)
	if err != nil {
		return err
	}
	backend, err := p.backend(ctx, s.Options)
	if err == nil {
		err = backend.Facts(ctx, &host)
	}
	if err == nil && s.Config.DNS.On() && !s.Config.DNS.SkipZoneSplit && !dryRun {
		err = backend.ProbeZones(ctx, &host)
	}
	switch {
	case err != nil && !dryRun:
		return err
	case err != nil: // the rules can be printed all the same
		log.Warn("rules are printed without knowing the rules of this host", "error", err)
	}
	plan, err := tp.NewPlan(s.Config, host)
	if err != nil {
		return err
	}
	for _, w := range plan.Warnings {
		log.Warn("redirection is limited", "reason", w)
	}
	if dryRun || s.Options.Verbose {
		text, err := f.print(plan, s.Options)
		if err == nil {
			_, err = io.WriteString(p.Out, text)
		}
		if err != nil {
			return fmt.Errorf("print rules: %w", err)
		}
	}
	if dryRun {
		return nil
	}
	if err := backend.Apply(ctx, plan); err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.Out, "transparent proxy set up successfully, you can now run kuma-dp using transparent-proxy")
	return err
}
