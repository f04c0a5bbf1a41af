package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/controlplane"
	"github.com/kuma-dp/kuma-dp/internal/command"
)

// exitRuntime is for what failed after the control plane was ready: a supervisor should start again only that.
const exitRuntime = 3

// errRun marks a control plane that failed while running.
var errRun = errors.New("control plane failed")

// execute runs one command line and returns the exit code; an error is printed on stderr.
func execute(args []string, out, stderr io.Writer) int {
	s := command.Streams{Out: out, Err: stderr}
	return command.Execute(newRoot(s), args, s, func(err error) int {
		if errors.Is(err, errRun) {
			return exitRuntime
		}
		return 0
	})
}

func newRoot(s command.Streams) *cobra.Command {
	var level string
	root := command.Root("kuma-cp", "Universal control plane for Envoy-based Service Mesh", `Universal control plane for Envoy-based Service Mesh.

Exit codes: 0 stopped as asked, 1 wrong configuration or failed start, 2 wrong command line, 3 failure while running.`,
		newRun(s, &level), command.Version(s.Out))
	root.PersistentFlags().StringVar(&level, "log-level", "info", "off, info or debug")
	return root
}

func newRun(s command.Streams, level *string) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "run", Short: "Launch Control Plane", Args: command.NoArgs,
		Long: `Launch Control Plane.

Settings come from the file, and go before it from the environment: KUMA_GENERAL_WORK_DIR, KUMA_STORE_TYPE and so on.

As in Kuma 2.9, whoever reaches the API may change everything but secrets, and see the configuration. KUMA_API_SERVER_HARDENED=true
(apiServer.hardened) refuses that to those who show no user token and no administrator's client certificate: every PUT, POST and
DELETE, GET /config, and the configuration, stats and clusters of proxies. It also refuses labels that only control planes give
(another kuma.io/origin, k8s.kuma.io/namespace, kuma.io/policy-role), and changes of what the global control plane sent.
KUMA_API_SERVER_AUTHN_LOCALHOST_IS_ADMIN=false makes requests from this host need a token too.

KUMA_POLICIES_COMPUTE_ROLE=true (policies.computeRole) gives every policy of this zone its role, which follows from its label
k8s.kuma.io/namespace and its items as on Kubernetes. Off, as in 2.9, the label kuma.io/policy-role is what its writer says.

KUMA_MESH_TRAFFIC_PERMISSION_DISABLE_CLIQUES_ALGORITHM=true (policies.disableCliques) makes the rules by client of every kind of
policy from groups of items that overlap directly or through others, as Kuma did before 2.9.13, instead of from maximal cliques.

SIGTERM or SIGINT stops it in order; a second one at once.`,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := command.NewLog(s.Err, *level)
			if err != nil {
				return command.Usage(c, err)
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
