package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/transparentproxy/iptables"
)

// newUninstallCommand makes `kumactl uninstall`. Results go to stdout, warnings to stderr.
func newUninstallCommand(stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove parts of the mesh from this host",
		Args:  onThisHost,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newUninstallTransparentProxyCommand(stdout, stderr))
	return cmd
}

func newUninstallTransparentProxyCommand(stdout, stderr io.Writer) *cobra.Command {
	var dryRun, verbose bool
	cmd := &cobra.Command{
		Use:   "transparent-proxy",
		Short: "Stop redirecting this host's traffic to Envoy",
		Long: `Stop redirecting this host's traffic to Envoy.

Exactly what 'kumactl install transparent-proxy' installed is removed, also by an earlier version or by Kuma's own
kumactl, from both the nft and the legacy rules; rules of others and their counters stay. Connections that are
redirected at that time keep being so until they end.`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), redirectionTime)
			defer cancel()
			return uninstall(ctx, dryRun, verbose, stdout, stderr)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be removed and change nothing")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "print what is removed")
	return cmd
}

func uninstall(ctx context.Context, dryRun, verbose bool, stdout, stderr io.Writer) error {
	if os.Geteuid() != 0 {
		return errNotRoot
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	backend, err := iptables.New(ctx, iptables.Config{Log: log, Path: os.Getenv("PATH"), Wait: iptables.DefaultWait})
	if err != nil {
		return err
	}
	if dryRun || verbose {
		there, err := backend.Check(ctx, nil)
		if err != nil {
			return err
		}
		for _, d := range there {
			if _, err := fmt.Fprintf(stdout, "remove %v (%s) %s %s %s\n", d.Family, d.Backend, d.Table, d.Chain, d.Rule); err != nil {
				return fmt.Errorf("print rules: %w", err)
			}
		}
		if dryRun {
			return nil
		}
	}
	removed, err := backend.Remove(ctx)
	if err != nil {
		return err
	}
	result := "transparent proxy cleaned up successfully"
	if !removed {
		result = "no transparent proxy rules detected"
	}
	_, err = fmt.Fprintln(stdout, result)
	return err
}
