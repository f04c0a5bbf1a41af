package main

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/agent"
	"github.com/kuma-dp/kuma-dp/internal/command"
)

// Exit codes beside those of every program. All but 0 are 1 in Kuma; scripts that only ask for success need not change.
const (
	exitControlPlane = 3 // no bootstrap configuration from the control plane
	exitEnvoy        = 4 // Envoy could not be started, or ended on its own
)

// execute runs one command line and returns the exit code; an error is one line on stderr.
func execute(args []string, in io.Reader, out, err io.Writer) int {
	s := command.Streams{In: in, Out: out, Err: err}
	return command.Execute(newRoot(s), args, s, func(err error) int {
		switch {
		case errors.Is(err, agent.ErrControlPlane):
			return exitControlPlane
		case errors.Is(err, agent.ErrEnvoy):
			return exitEnvoy
		}
		return 0
	})
}

func newRoot(s command.Streams) *cobra.Command {
	logs := &logFlags{}
	root := command.Root("kuma-dp", "Dataplane manager for Envoy-based Service Mesh", `Dataplane manager for Envoy-based Service Mesh.

Exit codes: 0 stopped as asked, 1 wrong configuration or failed start, 2 wrong command line, 3 no bootstrap configuration from the
control plane, 4 Envoy failed.`,
		newRun(s, logs), newWait(), command.Version(s.Out), newDebug(s))
	logs.bind(root.PersistentFlags())
	return root
}
