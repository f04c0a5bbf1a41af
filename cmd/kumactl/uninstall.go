package main

import (
	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/cmd/internal/redirection"
)

func newUninstallCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove parts of the mesh from this host",
		Args:  onThisHost,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(redirection.NewUninstall(a.process()))
	return cmd
}
