// Package command holds what the command lines of our programs have in common: how one is run, what a wrong one looks
// like, the version, the log level.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/internal/version"
)

// Exit codes that mean the same in every program.
const (
	ExitStart = 1 // wrong configuration, or the start failed
	ExitUsage = 2 // wrong command line
)

// ErrUsage marks a command line that could not be understood.
var ErrUsage = errors.New("see --help")

// Usage marks err as the fault of the command line of c.
func Usage(c *cobra.Command, err error) error {
	return fmt.Errorf("%w: %w of %s", err, ErrUsage, c.CommandPath())
}

// Streams are where a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Root makes the command of a program that only holds others. An unknown one is an error of usage, as wrong flags are.
func Root(name, short, long string, commands ...*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use: name, Short: short, Long: long,
		SilenceUsage: true, SilenceErrors: true,
		// RunE tells an unknown command.
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return Usage(c, fmt.Errorf("unknown command %q", args[0]))
			}
			return c.Help()
		},
	}
	root.SetFlagErrorFunc(Usage)
	root.AddCommand(commands...)
	return root
}

// Execute runs one command line and returns the exit code; an error is one line on s.Err. The code of an error other than
// of usage is what code says, ExitStart when it says 0.
func Execute(root *cobra.Command, args []string, s Streams, code func(error) int) int {
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return 0
	}
	fmt.Fprintln(s.Err, "Error:", OneLine(err.Error()))
	if errors.Is(err, ErrUsage) {
		return ExitUsage
	}
	if c := code(err); c != 0 {
		return c
	}
	return ExitStart
}

// OneLine keeps a message that holds several errors, or the text of a file or a server, on one line.
func OneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// NoArgs is cobra.NoArgs as an error of usage.
func NoArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Usage(c, fmt.Errorf("unexpected argument %q", args[0]))
	}
	return nil
}

// Version makes the command that prints the version to out.
func Version(out io.Writer) *cobra.Command {
	var detailed bool
	c := &cobra.Command{
		Use: "version", Short: "Print version", Args: NoArgs,
		RunE: func(*cobra.Command, []string) error {
			text := version.Short() + "\n"
			if detailed {
				text = version.Detailed()
			}
			_, err := io.WriteString(out, text)
			return err
		},
	}
	c.Flags().BoolVarP(&detailed, "detailed", "a", false, "print the build too")
	return c
}

// NewLog makes a logger of level off, info or debug that writes to w. Another level is an error, of usage.
func NewLog(w io.Writer, level string) (*slog.Logger, error) {
	switch level {
	case "off":
		return slog.New(slog.DiscardHandler), nil
	case "info":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	case "debug":
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})), nil
	default:
		return nil, fmt.Errorf("unknown log level %q, use off, info or debug", level)
	}
}
