// Command kuma-init installs and uninstalls redirection as kumactl does, for init containers: it starts in milliseconds, and
// its image can take the place of Kuma's.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/cmd/internal/redirection"
	"github.com/kuma-dp/kuma-dp/internal/command"
)

func main() {
	s := command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}
	p := redirection.Process{Streams: s, LookupEnv: os.LookupEnv}
	group := func(use, short string, c *cobra.Command) *cobra.Command {
		return command.Root(use, short, short+".", c)
	}
	root := command.Root("kuma-init", "Redirect the traffic of a pod", `Redirect the traffic of a pod.

The command line is that of kumactl. Exit codes: 0 done, 1 it failed (the reason is one line on stderr), 2 the command line is wrong.`,
		group("install", "Install parts of the mesh in this pod", redirection.NewInstall(p)),
		group("uninstall", "Remove parts of the mesh from this pod", redirection.NewUninstall(p)),
		command.Version(s.Out))
	os.Exit(command.Execute(root, os.Args[1:], s, func(error) int { return command.ExitStart }))
}
