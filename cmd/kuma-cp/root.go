package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/controlplane"
	"github.com/kuma-dp/kuma-dp/internal/version"
)

// Exit codes. A supervisor should start again only what failed while running.
const (
	exitStart   = 1 // wrong configuration, or the start failed
	exitUsage   = 2 // wrong command line
	exitRuntime = 3 // a part failed after the control plane was ready
)

// errUsage marks a command line that could not be understood, errRun a control plane that failed while running.
var (
	errUsage = errors.New("see --help")
	errRun   = errors.New("control plane failed")
)

// streams are where a command writes.
type streams struct{ out, err io.Writer }

// execute runs one command line and returns the exit code; an error is printed on stderr.
func execute(args []string, out, stderr io.Writer) int {
	root := newRoot(streams{out, stderr})
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "Error: %v\n", err)
	switch {
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, errRun):
		return exitRuntime
	}
	return exitStart
}

func newRoot(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "kuma-cp",
		Short: "Universal control plane for Envoy-based Service Mesh",
		Long: `Universal control plane for Envoy-based Service Mesh.

Exit codes: 0 stopped as asked, 1 wrong configuration or failed start, 2 wrong command line, 3 failure while running.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w of %s", err, errUsage, c.CommandPath())
	})
	var level string
	root.PersistentFlags().StringVar(&level, "log-level", "info", "off, info or debug")
	root.AddCommand(newRun(s, &level), newVersion(s))
	return root
}

// noArgs is cobra.NoArgs as an error of usage.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q: %w of %s", args[0], errUsage, c.CommandPath())
	}
	return nil
}

func newVersion(s streams) *cobra.Command {
	var detailed bool
	c := &cobra.Command{
		Use: "version", Short: "Print version", Args: noArgs,
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

func newRun(s streams, level *string) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "run", Short: "Launch Control Plane", Args: noArgs,
		Long: `Launch Control Plane.

Settings come from the file, and go before it from the environment: KUMA_GENERAL_WORK_DIR, KUMA_STORE_TYPE and so on.

As in Kuma 2.9, whoever reaches the API may change everything but secrets, and see the configuration. KUMA_API_SERVER_HARDENED=true
(apiServer.hardened) refuses that to those who show no user token and no administrator's client certificate: every PUT, POST and
DELETE, GET /config, and the configuration, stats and clusters of proxies. It also refuses labels that only control planes give
(another kuma.io/origin, k8s.kuma.io/namespace, kuma.io/policy-role), and changes of what the global control plane sent.
KUMA_API_SERVER_AUTHN_LOCALHOST_IS_ADMIN=false makes requests from this host need a token too.

KUMA_POLICIES_COMPUTE_ROLE=true (policies.computeRole) gives every policy of this zone its role, which follows from its label
k8s.kuma.io/namespace and its items as on Kubernetes. Off, as in 2.9, the label kuma.io/policy-role is what its writer says.

SIGTERM or SIGINT stops it in order; a second one at once.`,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := newLog(s.err, *level)
			if err != nil {
				return err
			}
			cfg, err := controlplane.Load(file)
			if err != nil {
				return err
			}
			if unknown := controlplane.UnknownVariables(os.Environ()); len(unknown) > 0 {
				log.Warn("these variables configure nothing in this control plane", "variables", unknown)
			}
			cp, err := controlplane.New(cfg, log)
			if err != nil {
				return err
			}
			syscall.Umask(0o077) // what the control plane writes is its owner's, unless it says otherwise
			ctx, stop := untilSignal(c.Context())
			defer stop()
			if err := cp.Run(ctx); err != nil {
				if errors.Is(err, controlplane.ErrStart) {
					return err
				}
				return fmt.Errorf("%w: %w", errRun, err)
			}
			return nil
		},
	}
	c.Flags().StringVarP(&file, "config-file", "c", "", "configuration file (YAML)")
	return c
}

// untilSignal returns a context that ends at the first SIGTERM or SIGINT. From then on signals do again what they do to
// any process: the second one kills.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	signal.Ignore(syscall.SIGHUP) // a closed terminal is no reason to stop serving
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

func newLog(w io.Writer, level string) (*slog.Logger, error) {
	switch level {
	case "off":
		return slog.New(slog.DiscardHandler), nil
	case "info":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	case "debug":
		return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})), nil
	}
	return nil, fmt.Errorf("unknown log level %q, use off, info or debug: %w", level, errUsage)
}
