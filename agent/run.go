package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/kuma-dp/kuma-dp/agent/admin"
	"github.com/kuma-dp/kuma-dp/agent/envoy"
	"github.com/kuma-dp/kuma-dp/agent/identity"
	"github.com/kuma-dp/kuma-dp/agent/metrics"
	"github.com/kuma-dp/kuma-dp/agent/mtls"
	"github.com/kuma-dp/kuma-dp/agent/nametable"
	"github.com/kuma-dp/kuma-dp/agent/relay"
	"github.com/kuma-dp/kuma-dp/bootstrap"
	"github.com/kuma-dp/kuma-dp/dns"
	"github.com/kuma-dp/kuma-dp/internal/group"
)

// relaySocket is where Envoy finds the relay, in the socket directory.
const relaySocket = "kuma-xds.sock"

// parts are what runs together.
type parts struct {
	envoy    *envoy.Process
	relay    *relay.Relay
	upstream *grpc.ClientConn
	identity identitySource // nil for zone proxies
	trust    trust
	mtls     *mtls.Monitor // nil for zone proxies
	// applications is nil when they get no identities.
	applications *applications
	resolver     *dns.Server       // nil without DNS
	names        *nametable.Tables // nil without DNS
	own          *prometheus.Registry
	ready        *readiness // without a listener when there is no port
	metrics      *metrics.Hijacker
	members      []group.Member
}

// Run runs the proxy. It ends
//   - with nil when ctx ends and connections have drained, or Hurry was called, or they had been drained before;
//   - with ctx's error when ctx ends before there was a bootstrap configuration;
//   - with ErrEnvoy when Envoy cannot be started or ends on its own;
//   - with ErrControlPlane when no bootstrap configuration could be had;
//   - with another error when a port, socket or directory cannot be had or a part fails.
//
// Envoy is stopped first and the resolver last. The work directory, when it is a temporary one, is removed.
func (a *Agent) Run(ctx context.Context) (err error) {
	rt := a.cfg.DataplaneRuntime
	dir, err := openWorkdir(rt.ConfigDir, rt.SocketDir, a.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.close()) }()

	binary, build, err := a.findEnvoy(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrEnvoy, err)
	}
	q, err := a.request(dir.sockets, build)
	if err != nil {
		return err
	}
	socketPath := filepath.Join(dir.sockets, relaySocket)
	boot, answer, err := a.fetch(ctx, q, dir, socketPath)
	if err != nil {
		return err
	}
	if rt.Redirects() && !answer.Sidecar.Networking.IsUsingTransparentProxy {
		return configError{"this host's traffic is redirected, but the control plane gives Envoy no ports for it, so that every connection would be refused: " +
			"add networking.transparentProxying with redirectPortInbound and redirectPortOutbound to the Dataplane, or leave out --transparent-proxy"}
	}
	p := &parts{own: prometheus.NewRegistry()}
	defer p.close()
	if err := a.registerIdentity(p); err != nil {
		return err
	}
	if err := a.build(p, dir, boot, answer, socketPath); err != nil { //nolint:contextcheck // pages are asked for later, by others
		return err
	}
	if p.envoy, err = envoy.New(envoy.Config{
		Binary: binary, BootstrapPath: dir.bootstrap(), Bootstrap: boot.YAML,
		DrainTime: time.Duration(a.cfg.Dataplane.DrainTime), Concurrency: int(rt.Concurrency),
		LogLevel: cmp.Or(rt.EnvoyLogLevel, a.cfg.LogLevel), ComponentLogLevel: rt.EnvoyComponentLogLevel,
		Admin: cmp.Or(boot.AdminAddress, boot.AdminPath), Log: a.log.With("component", "envoy"),
		Hidden: []string{tokenVariable}, Unprivileged: rt.Redirects(),
	}); err != nil {
		return fmt.Errorf("%w: %w", ErrEnvoy, err)
	}
	p.ready.envoy = p.envoy.CheckReady
	p.members = append(p.members,
		group.Member{Name: "process", Run: func(ctx context.Context) error {
			if err := p.envoy.Run(ctx); err != nil {
				return fmt.Errorf("%w: %w", ErrEnvoy, err)
			}
			return nil
		}},
		group.Member{Name: "life cycle", Run: func(stop context.Context) error { return a.live(ctx, stop, p) }})
	// The members must outlast ctx: connections drain after it has ended.
	return group.Run(context.WithoutCancel(ctx), p.members...)
}

// close gives up what members would have, had they run.
func (p *parts) close() {
	if p.upstream != nil {
		_ = p.upstream.Close() // an error here would only say that it is closed
	}
	if p.applications != nil {
		_ = p.applications.server.Close()
	}
	if p.ready != nil && p.ready.listener != nil {
		_ = p.ready.listener.Close()
	}
}

// build makes all parts but Envoy, binding every port and socket, so that one that is taken is told before Envoy starts.
func (a *Agent) build(p *parts, dir *workdir, boot *relay.Bootstrap, answer *bootstrap.Response, socketPath string) error {
	c := &a.cfg
	host := "127.0.0.1"
	if boot.AdminAddress != "" {
		h, _, err := net.SplitHostPort(boot.AdminAddress)
		if err != nil {
			return fmt.Errorf("read envoy's admin address: %w", err)
		}
		host = h
	} else if c.inPod {
		host = "" // probes of a kubelet come from outside
	}
	p.ready = &readiness{log: a.log.With("component", "readiness")}
	if c.Dataplane.ReadinessPort != 0 {
		l, err := listenReadiness(host, c.Dataplane.ReadinessPort)
		if err != nil {
			return err
		}
		p.ready.listener = l
	}
	if err := a.buildResolver(p, dir, answer); err != nil {
		return err
	}
	if p.ready.listener != nil {
		p.members = append(p.members, group.Member{Name: "readiness", Run: p.ready.run})
	}
	if err := a.buildServices(p, dir, boot, answer); err != nil {
		return err
	}
	if err := a.buildRelay(p, boot, socketPath); err != nil {
		return err
	}
	p.ready.missing = func() []string { return a.missing(p) }
	local, err := admin.New(admin.Config{Dir: dir.sockets, Log: a.log.With("component", "admin"), Pages: a.pages(p)})
	if err != nil {
		return err
	}
	p.members = append(p.members, group.Member{Name: "admin endpoint", Run: local.Run})
	return nil
}

func (a *Agent) buildRelay(p *parts, boot *relay.Bootstrap, socketPath string) error {
	target, config, err := a.upstream(boot)
	if err != nil {
		return err
	}
	if p.upstream, err = relay.Connect(target, config); err != nil {
		return err
	}
	p.upstream.Connect() // while Envoy starts
	token := a.cfg.DataplaneRuntime.source()
	cfg := relay.Config{
		SocketPath: socketPath, Upstream: p.upstream, Token: token, IdentitySecret: a.identitySecret(),
		Signer: func(bundle []byte) bool { return p.signer(bundle) }, TrustSecret: a.trustSecret(), Trust: p.trust.merge,
		IdentityWanted: func() { p.identity.Wanted() }, Connected: func() { p.reconnected() }, Observability: p.metrics.Configure, Log: a.log.With("component", "relay"),
	}
	// The time that a change of listeners may wait for clusters, and a second for Envoy to take it, come on top.
	cfg.Grace = time.Duration(a.cfg.Dataplane.DrainTime) + relay.LongestWarming + time.Second
	cfg.Warming = func(ctx context.Context) (int, error) { return p.envoy.WarmingClusters(ctx) }
	if p.resolver != nil {
		cfg.DNS, cfg.DynamicConfig = p.names.Listener, p.names.Route
	}
	if err := a.buildMonitor(p, boot, &cfg); err != nil {
		return err
	}
	if p.relay, err = relay.New(cfg); err != nil {
		return err
	}
	p.members = append(p.members, group.Member{Name: "relay", Run: p.relay.Run})
	if a.identitySecret() == "" {
		return nil
	}
	if err := a.buildIdentity(p); err != nil {
		return err
	}
	return a.buildApplications(p)
}

// missing lists what the workload still lacks besides a live Envoy.
func (a *Agent) missing(p *parts) []string {
	missing := p.relay.Missing()
	if p.names != nil {
		if what := p.names.Missing(); what != "" {
			missing = append(missing, what)
		}
	}
	if p.identity != nil {
		if st := p.identity.Status(); st.State == identity.Issued && a.clock.Now().After(st.NotAfter) {
			missing = append(missing, "the workload certificate expired at "+st.NotAfter.UTC().Format(time.RFC3339)+": "+st.LastError)
		}
	}
	return missing
}

// pages are what the admin endpoint shows.
func (a *Agent) pages(p *parts) map[string]admin.Page {
	dp := a.cfg.Dataplane
	return map[string]admin.Page{
		"status": func(ctx context.Context, _ url.Values) (any, error) {
			missing := p.ready.check(ctx)
			return map[string]any{
				"mesh": dp.Mesh, "name": dp.Name, "proxyType": dp.ProxyType, "startedAt": a.begun.UTC(),
				"ready": len(missing) == 0, "missing": missing, "relay": p.relay.Status(),
				"clock": a.clock.Status(),
			}, nil
		},
		"identity": func(context.Context, url.Values) (any, error) {
			return a.identityPage(p), nil
		},
		"mtls":       func(ctx context.Context, query url.Values) (any, error) { return mtlsPage(ctx, p.mtls, query) },
		"mtls/check": func(ctx context.Context, query url.Values) (any, error) { return checkPage(ctx, p.relay, query) },
		"dns":        func(ctx context.Context, query url.Values) (any, error) { return dnsPage(ctx, p.resolver, query) },
	}
}

// live tells when the proxy is ready, and drains it when ctx ends. Its return ends the group; stop ends it early.
func (a *Agent) live(ctx, stop context.Context, p *parts) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	told := make(chan struct{})
	go func() {
		defer close(told)
		if p.ready.await(waiting) == nil {
			a.log.Info("proxy is ready", "after", time.Since(a.begun).Round(time.Millisecond))
		}
	}()
	defer func() { cancel(); <-told }()
	for {
		select {
		case <-stop.Done():
			return nil
		case <-a.drain:
			a.log.Info("draining inbound connections; the proxy goes on running")
			if err := p.envoy.DrainInbound(stop); err != nil {
				a.log.Error("inbound connections cannot be drained", "reason", err.Error())
			}
		case <-ctx.Done():
			a.log.Info("caught an exit signal")
			p.ready.terminating.Store(true)
			return a.drainAndStop(stop, p)
		}
	}
}

// drainAndStop lets connections end, until Hurry, and then stops Envoy (contract agent.md §3.3).
func (a *Agent) drainAndStop(stop context.Context, p *parts) error {
	ctx, cancel := context.WithCancel(stop)
	over := make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-a.hurry:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(); <-over }()
	if err := p.envoy.Drain(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrEnvoy, err)
	}
	return nil
}
