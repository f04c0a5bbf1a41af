package redirection

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/internal/command"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/settings"
)

// NewUninstall makes the command that removes redirection.
func NewUninstall(p Process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   name,
		Short: "Stop redirecting this host's traffic to Envoy",
		Long: `Stop redirecting this host's traffic to Envoy.

Exactly what 'install transparent-proxy' installed is removed, also by an earlier version or by Kuma's own
kumactl, by whichever backend; rules of others and their counters stay. Connections that are
redirected at that time keep being so until they end.`,
		Args:         command.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := p.warned(settings.LoadRemoval(p.sources(cmd)))
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), s.Options.Deadline())
			defer cancel()
			return p.uninstall(ctx, s.Options)
		},
	}
	settings.BindRemoval(cmd.Flags())
	return cmd
}

func (p Process) uninstall(ctx context.Context, o settings.Options) error {
	if err := tp.CheckPrivileges(); err != nil {
		return err
	}
	m, err := p.Manager(ctx, o, "")
	if err != nil {
		return err
	}
	if o.DryRun || o.Verbose {
		there, err := m.Leftovers(ctx)
		if err != nil {
			return err
		}
		for _, d := range there {
			if _, err := fmt.Fprintln(p.Out, "remove", d.Place()); err != nil {
				return fmt.Errorf("print rules: %w", err)
			}
		}
		if o.DryRun {
			return nil
		}
	}
	removed, err := m.Remove(ctx)
	if err != nil {
		return err
	}
	result := "transparent proxy cleaned up successfully"
	if !removed {
		result = "no transparent proxy rules detected"
	}
	_, err = fmt.Fprintln(p.Out, result)
	return err
}
