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

// Exit codes, as in kuma-cp and kumactl. All but 0 are 1 in Kuma; scripts that only ask for success need not change.
const (
	exitStart        = 1 // wrong configuration, or a port, socket or folder that cannot be had: starting again would not help
	exitUsage        = 2 // wrong command line
	exitControlPlane = 3 // no bootstrap configuration from the control plane
	exitEnvoy        = 4 // Envoy could not be started, or ended on its own
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
	case errors.Is(failure, errUsage):
		return exitUsage
	case errors.Is(failure, agent.ErrControlPlane):
		return exitControlPlane
	case errors.Is(failure, agent.ErrEnvoy):
		return exitEnvoy
	}
	return exitStart
}

// errUsage marks a command line that could not be understood.
var errUsage = errors.New("see --help")

func newRoot(s streams) *cobra.Command {
	logs := &logFlags{}
	root := &cobra.Command{
		Use:   "kuma-dp",
		Short: "Dataplane manager for Envoy-based Service Mesh",
		Long: `Dataplane manager for Envoy-based Service Mesh.

Exit codes: 0 stopped as asked, 1 wrong configuration or failed start, 2 wrong command line, 3 no bootstrap configuration from the
control plane, 4 Envoy failed.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		// RunE tells an unknown command, as an error of usage.
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q: %w of %s", args[0], errUsage, c.CommandPath())
			}
			return c.Help()
		},
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
