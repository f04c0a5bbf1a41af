package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/agent"
	"github.com/kuma-dp/kuma-dp/internal/version"
)

// Exit codes. All but 0 are 1 in Kuma; scripts that only ask for success need not change.
const (
	exitOther        = 1
	exitConfig       = 2
	exitControlPlane = 3
	exitEnvoy        = 4
)

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// execute runs one command line and returns the exit code; an error is one line on stderr.
func execute(args []string, in io.Reader, out, err io.Writer) int {
	root := newRoot(streams{in, out, err})
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(err)
	failure := root.ExecuteContext(context.Background())
	if failure == nil {
		return 0
	}
	fmt.Fprintf(err, "Error: %v\n", failure)
	switch {
	case errors.Is(failure, agent.ErrConfig), errors.Is(failure, errUsage):
		return exitConfig
	case errors.Is(failure, agent.ErrControlPlane):
		return exitControlPlane
	case errors.Is(failure, agent.ErrEnvoy):
		return exitEnvoy
	}
	return exitOther
}

// errUsage marks a command line that could not be understood.
var errUsage = errors.New("see --help")

func newRoot(s streams) *cobra.Command {
	logs := &logFlags{}
	root := &cobra.Command{
		Use:   "kuma-dp",
		Short: "Dataplane manager for Envoy-based Service Mesh",
		Long: `Dataplane manager for Envoy-based Service Mesh.

Exit codes: 0 success, 1 failure, 2 wrong configuration, 3 no bootstrap configuration from the control plane, 4 Envoy failed.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w", err, fmt.Errorf("%w of %s", errUsage, c.CommandPath()))
	})
	logs.bind(root.PersistentFlags())
	root.AddCommand(newRun(s, logs), newWait(), newVersion(s), newDebug(s))
	return root
}

func newVersion(s streams) *cobra.Command {
	var detailed bool
	c := &cobra.Command{
		Use: "version", Short: "Print version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			text := version.Short() + "\n"
			if detailed {
				text = version.Detailed()
			}
			_, err := io.WriteString(s.out, text)
			return err
		},
	}
	c.Flags().BoolVarP(&detailed, "detailed", "a", false, "print the build too")
	return c
}
