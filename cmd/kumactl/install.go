package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/cmd/internal/redirection"
	"github.com/kuma-dp/kuma-dp/internal/command"
)

func newInstallCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install parts of the mesh on this host",
		Args:  onThisHost,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(redirection.NewInstall(a.process()))
	return cmd
}

// process is what the commands of redirection need of this program.
func (a *app) process() redirection.Process {
	return redirection.Process{Streams: command.Streams{In: a.stdin, Out: a.stdout, Err: a.stderr}, LookupEnv: a.lookup, Confirm: a.unconfirmed}
}

// onThisHost refuses what 2.9 installs on Kubernetes, and says so.
func onThisHost(cmd *cobra.Command, given []string) error {
	if len(given) == 0 {
		return nil
	}
	return usage(cmd, fmt.Sprintf("cannot %s %s: this kumactl does so for the transparent-proxy of a host only; nothing is installed on Kubernetes", cmd.Name(), given[0]))
}
