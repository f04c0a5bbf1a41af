package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/kuma-dp/kuma-dp/agent/accesslog"
	"github.com/kuma-dp/kuma-dp/agent/metrics"
	"github.com/kuma-dp/kuma-dp/agent/probe"
	"github.com/kuma-dp/kuma-dp/agent/relay"
	"github.com/kuma-dp/kuma-dp/bootstrap"
	"github.com/kuma-dp/kuma-dp/internal/group"
	"github.com/kuma-dp/kuma-dp/internal/version"
)

// Where the redirection of a host lets connections pass to the workload (contract agent.md §4.4).
var (
	insideSource  = net.IPv4(127, 0, 0, 6)
	insideSource6 = net.ParseIP("::6")
)

// buildServices makes what stands beside Envoy on its configuration's behalf.
func (a *Agent) buildServices(p *parts, dir *workdir, boot *relay.Bootstrap, answer *bootstrap.Response) error {
	dp := a.cfg.Dataplane
	logs, err := accesslog.New(accesslog.Config{
		Path: bootstrap.SocketPath(dir.sockets, "kuma-al-"+dp.Name+"-"+dp.Mesh), Log: a.log.With("component", "access log"),
	})
	if err != nil {
		return err
	}
	cfg := metrics.Config{
		Path:    bootstrap.SocketPath(dir.sockets, "kuma-mh-"+dp.Name+"-"+dp.Mesh),
		Address: answer.Sidecar.Networking.Address,
		Envoy:   stats(boot),
		Own:     p.own,
		Labels: map[string]string{
			"mesh": dp.Mesh, "dataplane": dp.Name, "service": boot.NodeCluster,
			"otel_scope_name": "kuma", "otel_scope_version": version.Version,
		},
		Log: a.log.With("component", "metrics"),
	}
	for _, m := range answer.Sidecar.Metrics.Aggregate {
		cfg.Applications = append(cfg.Applications, metrics.Application(m))
	}
	if answer.Sidecar.Networking.IsUsingTransparentProxy {
		cfg.Source, cfg.Source6 = insideSource, insideSource6
	}
	page, err := metrics.New(cfg)
	if err != nil {
		return err
	}
	p.metrics = page
	p.members = append(p.members,
		group.Member{Name: "access log", Run: logs.Run},
		group.Member{Name: "metrics", Run: page.Run})
	if a.cfg.ProbeProxy.Port == 0 {
		return nil
	}
	l, err := listenTCP("probes", fmt.Sprintf(":%d", a.cfg.ProbeProxy.Port), "KUMA_APPLICATION_PROBE_PROXY_PORT")
	if err != nil {
		return err
	}
	probes := probe.Config{Listener: l, Address: answer.Sidecar.Networking.Address, Log: a.log.With("component", "probes")}
	if answer.Sidecar.Networking.IsUsingTransparentProxy {
		probes.Source = insideSource
		if ip, err := netip.ParseAddr(probes.Address); err == nil && ip.Is6() {
			probes.Source = insideSource6
		}
	}
	p.members = append(p.members, group.Member{Name: "probes", Run: probe.New(probes).Run})
	return nil
}

// stats asks Envoy's admin interface, wherever its bootstrap configuration put it.
func stats(boot *relay.Bootstrap) func(ctx context.Context, pathAndQuery string) (io.ReadCloser, error) {
	network, address := "tcp", boot.AdminAddress
	if address == "" {
		network, address = "unix", boot.AdminPath
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}}
	return func(ctx context.Context, pathAndQuery string) (io.ReadCloser, error) {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+pathAndQuery, nil)
		if err != nil {
			return nil, err
		}
		answer, err := client.Do(q)
		if err != nil {
			return nil, err
		}
		if answer.StatusCode != http.StatusOK {
			return nil, errors.Join(fmt.Errorf("envoy answered %s", answer.Status), answer.Body.Close())
		}
		return answer.Body, nil
	}
}
