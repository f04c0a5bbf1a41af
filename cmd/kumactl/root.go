package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// app is what the commands share: streams and global flags.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	configFile     string
	noConfig       bool
	address        string
	mesh           string
	timeout        time.Duration
}

// run executes one command line and returns its exit code. A failure is one line on stderr.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := newRootCommand(&app{stdin: stdin, stdout: stdout, stderr: stderr})
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(stderr, "Error:", oneLine(err.Error()))
	_, wrong := errors.AsType[*usageError](err)
	// The second is cobra's own, for commands that refuse arguments with its validators.
	if wrong || strings.HasPrefix(err.Error(), "unknown command ") {
		return exitUsage
	}
	return exitFailure
}

// oneLine keeps a message that holds a file's or a server's text on one line.
func oneLine(s string) string { return strings.Join(strings.FieldsFunc(s, isNewline), "; ") }

func isNewline(r rune) bool { return r == '\n' || r == '\r' }

// usageError is a command line that is wrong by itself.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usage(cmd *cobra.Command, text string) error {
	return &usageError{text + " (see `" + cmd.CommandPath() + " --help`)"}
}

// args wants a number of arguments between low and high.
func args(low, high int, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if len(given) < low || len(given) > high {
			return usage(cmd, fmt.Sprintf("want %s, got %d arguments", want, len(given)))
		}
		return nil
	}
}

// group is a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		Args: func(cmd *cobra.Command, given []string) error {
			if len(given) > 0 {
				return usage(cmd, fmt.Sprintf("unknown command %q for %q", given[0], cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(commands...)
	return cmd
}

func newRootCommand(a *app) *cobra.Command {
	root := group("kumactl", "Manage a service mesh",
		newApplyCommand(a), newGetCommand(a), newDeleteCommand(a),
		group("generate", "Generate tokens", newDataplaneTokenCommand(a), newUserTokenCommand(a)),
		newInstallCommand(a.stdout, a.stderr), newUninstallCommand(a.stdout, a.stderr),
		newConfigCommand(a), newVersionCommand(a))
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, err.Error()) })
	f := root.PersistentFlags()
	f.StringVar(&a.configFile, "config-file", "", "path to the configuration file (default ~/.kuma/config)")
	f.BoolVar(&a.noConfig, "no-config", false, "use the control plane at "+client.DefaultAddress+" and no configuration file")
	f.StringVar(&a.address, "address", "", "use the control plane at this address, without authentication, instead of the configured one")
	f.StringVarP(&a.mesh, "mesh", "m", "default", "mesh to use")
	f.DurationVar(&a.timeout, "api-timeout", time.Minute, "how long one request to the control plane may take")
	return root
}

// path returns where the configuration file is.
func (a *app) path() (string, error) {
	if a.configFile != "" {
		return a.configFile, nil
	}
	return client.DefaultPath()
}

func (a *app) config() (*client.Config, error) {
	if a.noConfig {
		return client.Default(), nil
	}
	path, err := a.path()
	if err != nil {
		return nil, err
	}
	return client.Load(path)
}

// client connects to the control plane of the flags or the configuration.
func (a *app) client() (*client.Client, error) {
	if a.address != "" {
		return client.New(client.APIServer{URL: a.address}, a.timeout)
	}
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	cp, err := cfg.Current()
	if err != nil {
		return nil, err
	}
	return client.New(cp.Coordinates.APIServer, a.timeout)
}
