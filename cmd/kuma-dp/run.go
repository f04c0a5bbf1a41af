package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/agent"
	"github.com/kuma-dp/kuma-dp/internal/command"
)

// gcPercent trades processor time, of which the agent uses little, for half of the heap's slack.
const gcPercent = 50

func newRun(s command.Streams, logs *logFlags) *cobra.Command {
	cfg := agent.DefaultConfig()
	c := &cobra.Command{
		Use: "run", Short: "Launch Dataplane (Envoy)", Args: command.NoArgs,
		Long: `Launch Dataplane (Envoy): fetch its configuration from the control plane, start it, keep it fresh, and drain it at the end.

Every flag has an environment variable, which goes before the flag. The first SIGTERM or SIGINT drains connections for
--drain-time and exits, a second one stops at once, a third one exits without cleaning up. SIGUSR2 drains inbound
connections and goes on running.

With --transparent-proxy this host's traffic is redirected to Envoy from before it starts until it has ended, and repaired
when others change rules, an IPv6 address comes or resolv.conf changes. kuma-dp must then run as the user whose traffic is
left alone, with CAP_NET_ADMIN and CAP_NET_RAW.`,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			log, closer, err := logs.logger(s)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, closer.Close()) }()
			if err := cfg.LoadEnv(os.LookupEnv); err != nil {
				return errors.Join(err, agent.ErrConfig)
			}
			cfg.Log, cfg.LogLevel = log, logs.level
			harden()
			a, err := agent.New(cfg, s.In)
			if err != nil {
				return err
			}
			if !cfg.DataplaneRuntime.Redirects() {
				ctx, stop := onSignals(c.Context(), a)
				defer stop()
				return a.Run(ctx)
			}
			r, err := newRedirection(c.Context(), cfg, s.In, log)
			if err != nil {
				return err
			}
			for _, v := range r.cfg.VNets {
				a.ResolveFor(v.Network)
			}
			ctx, stop := onSignals(c.Context(), a)
			defer stop()
			return r.around(ctx, a.Run)
		},
	}
	cfg.Bind(c.Flags())
	return c
}

// harden keeps what the process holds and makes from other users: no core dumps and no ptrace of a process with a private
// key, nothing that is made readable by others (demands.md §3.3, assertions 5 and 12).
func harden() {
	debug.SetGCPercent(gcPercent)
	syscall.Umask(0o077)
	// Envoy, which holds the key too, inherits the limit, while the start of another program makes that one dumpable again. A
	// limit of 0 would not stop a core that goes to a program (core(5)); less than a page stops both. Whoever refuses leaves
	// us as safe as any other process.
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1})
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

// onSignals returns a context that ends at the first SIGTERM or SIGINT. The second hurries the agent, the third exits.
func onSignals(ctx context.Context, a *agent.Agent) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR2)
	signal.Ignore(syscall.SIGHUP) // a closed terminal is no reason to stop serving
	done := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(over)
		for count := 0; ; {
			select {
			case <-done:
				return
			case got := <-signals:
				if got == syscall.SIGUSR2 {
					a.DrainInbound()
					continue
				}
				count++
				switch count {
				case 1:
					cancel()
				case 2:
					a.Hurry()
				default:
					os.Exit(command.ExitStart)
				}
			}
		}
	}()
	return ctx, func() { signal.Stop(signals); close(done); <-over; cancel() }
}
