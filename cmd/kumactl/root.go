package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
	"github.com/kuma-dp/kuma-dp/internal/command"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// app is what the commands share: environment, streams and global flags.
type app struct {
	lookup         func(variable string) (string, bool)
	stdin          io.Reader
	stdout, stderr io.Writer
	configFile     string
	noConfig       bool
	address        string
	mesh           string
	logLevel       string
	timeout        time.Duration
}

// run executes one command line and returns its exit code. A failure is one line on stderr.
func run(args []string, lookup func(string) (string, bool), stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := newRootCommand(&app{lookup: lookup, stdin: stdin, stdout: stdout, stderr: stderr})
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if result, ok := errors.AsType[*exitError](err); ok {
		if result.err != nil {
			fmt.Fprintln(stderr, "Error:", command.OneLine(result.err.Error()))
		}
		return result.code
	}
	fmt.Fprintln(stderr, "Error:", command.OneLine(err.Error()))
	_, wrong := errors.AsType[*usageError](err)
	// The last is cobra's own, for commands that refuse arguments with its validators.
	if wrong || errors.Is(err, command.ErrUsage) || strings.HasPrefix(err.Error(), "unknown command ") {
		return exitUsage
	}
	return exitFailure
}

// exitError is an exit code with a meaning of its own; without an error everything has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }
func (e *exitError) Unwrap() error { return e.err }

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
		newApplyCommand(a), newGetCommand(a), newDeleteCommand(a), newInspectCommand(a), newExportCommand(a),
		newGenerateCommand(a), newRotateCommand(a), newInstallCommand(a), newUninstallCommand(a), newTransparentProxyCommand(a),
		newConfigCommand(a), newVersionCommand(a))
	root.Long = "Manage a service mesh: its resources, tokens and the redirection of this host's traffic.\n\n" +
		"Every global flag can also be given as a variable: KUMACTL_ and its name in capitals with _ for -, such as\n" +
		"KUMACTL_CONFIG_FILE. The flag wins.\n\n" +
		"Exit codes: 0 done, 1 it failed (the reason is one line on stderr), 2 the command line is wrong."
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
	f.DurationVar(&a.timeout, "api-timeout", time.Minute, "how long one request to the control plane may take; 0 means as long as it wants")
	f.StringVar(&a.logLevel, "log-level", "off", "what to log to stderr: one of off|info|debug; debug shows every request")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := environment(cmd, f, a.lookup); err != nil {
			return err
		}
		if _, err := a.log(); err != nil {
			return usage(cmd, err.Error())
		}
		if a.timeout < 0 {
			return usage(cmd, "--api-timeout must not be negative")
		}
		return nil
	}
	return root
}

// environment sets the global flags that were not given from KUMACTL_ variables.
func environment(cmd *cobra.Command, flags *pflag.FlagSet, lookup func(string) (string, bool)) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		name := "KUMACTL_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := lookup(name)
		if f.Changed || !ok || value == "" || err != nil {
			return
		}
		if bad := flags.Set(f.Name, value); bad != nil {
			err = usage(cmd, fmt.Sprintf("variable %s: %v", name, bad))
		}
	})
	return err
}

// log makes the logger that the flags ask for.
func (a *app) log() (*slog.Logger, error) { return command.NewLog(a.stderr, a.logLevel) }

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
	server := client.APIServer{URL: a.address}
	if a.address == "" {
		cfg, err := a.config()
		if err != nil {
			return nil, err
		}
		cp, err := cfg.Current()
		if err != nil {
			return nil, err
		}
		server = cp.Coordinates.APIServer
	}
	return a.dial(server)
}

func (a *app) dial(server client.APIServer) (*client.Client, error) {
	log, err := a.log()
	if err != nil {
		return nil, err
	}
	log.Info("control plane", "url", server.URL)
	return client.New(server, a.timeout, log)
}

// withClient connects, asks for the kinds and calls do.
func (a *app) withClient(ctx context.Context, do func(*client.Client, client.Kinds) error) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	kinds, err := c.Kinds(ctx)
	if err != nil {
		return err
	}
	return do(c, kinds)
}
