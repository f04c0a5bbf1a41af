package dpserver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	health "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// adminCluster is the check of Envoy itself.
const adminCluster = "kuma:envoy:admin"

// CheckDefaults hold where a serviceProbe says nothing.
type CheckDefaults struct {
	// Report is how often Envoy reports.
	Report                               time.Duration
	Timeout, Interval, NoTrafficInterval time.Duration
	HealthyThreshold, UnhealthyThreshold uint32
}

// specifier is what Envoy shall check: itself, and each inbound that asks for it.
func (c *HDSConfig) specifier(d *resource.Dataplane) *health.HealthCheckSpecifier {
	out := &health.HealthCheckSpecifier{Interval: durationpb.New(c.Checks.Report)}
	n := d.Networking
	if n == nil {
		return out
	}
	admin := c.AdminPort
	if n.Admin != nil && n.Admin.Port != 0 {
		admin = n.Admin.Port
	}
	ready := c.check(nil)
	ready.HealthChecker = &core.HealthCheck_HttpHealthCheck_{HttpHealthCheck: &core.HealthCheck_HttpHealthCheck{Path: "/ready"}}
	out.ClusterHealthChecks = append(out.ClusterHealthChecks, clusterCheck(adminCluster, "127.0.0.1", admin, ready, nil))
	for _, in := range n.Inbound {
		if in.ServiceProbe == nil || in.ServiceProbe.TCP == nil {
			continue
		}
		address, port := workload(n, in)
		probe := c.check(in.ServiceProbe)
		probe.HealthChecker = &core.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &core.HealthCheck_TcpHealthCheck{}}
		out.ClusterHealthChecks = append(out.ClusterHealthChecks, clusterCheck(localCluster(port), address, port, probe, source(n, address)))
	}
	return out
}

// workload is where the application of an inbound listens.
func workload(n *resource.Networking, in *resource.Inbound) (address string, port uint32) {
	address, port = in.ServiceAddress, in.ServicePort
	if address == "" {
		address = "127.0.0.1"
		if n.TransparentProxying != nil {
			if address = in.Address; address == "" {
				address = n.Address
			}
		}
	}
	if port == 0 {
		port = in.Port
	}
	return address, port
}

// source binds probes of redirected workloads to the address that redirection lets through.
func source(n *resource.Networking, address string) *core.BindConfig {
	ip, err := netip.ParseAddr(address)
	if n.TransparentProxying == nil || err != nil || ip.IsLoopback() {
		return nil
	}
	from := "127.0.0.6"
	if ip.Is6() && !ip.Is4In6() {
		from = "::6"
	}
	return &core.BindConfig{SourceAddress: &core.SocketAddress{Address: from, PortSpecifier: &core.SocketAddress_PortValue{}}}
}

func localCluster(port uint32) string { return fmt.Sprintf("localhost:%d", port) }

// check fills in the timing: the probe's where it says any.
func (c *HDSConfig) check(p *resource.ServiceProbe) *core.HealthCheck {
	out := &core.HealthCheck{
		Timeout: durationpb.New(c.Checks.Timeout), Interval: durationpb.New(c.Checks.Interval), NoTrafficInterval: durationpb.New(c.Checks.NoTrafficInterval),
		HealthyThreshold: wrapperspb.UInt32(c.Checks.HealthyThreshold), UnhealthyThreshold: wrapperspb.UInt32(c.Checks.UnhealthyThreshold),
	}
	if p == nil {
		return out
	}
	// Durations were validated when the Dataplane was stored; one that does not parse leaves the default.
	if d, err := time.ParseDuration(p.Timeout); err == nil && d > 0 {
		out.Timeout = durationpb.New(d)
	}
	if d, err := time.ParseDuration(p.Interval); err == nil && d > 0 {
		out.Interval = durationpb.New(d)
	}
	if p.HealthyThreshold != nil {
		out.HealthyThreshold = wrapperspb.UInt32(*p.HealthyThreshold)
	}
	if p.UnhealthyThreshold != nil {
		out.UnhealthyThreshold = wrapperspb.UInt32(*p.UnhealthyThreshold)
	}
	return out
}

func clusterCheck(name, address string, port uint32, check *core.HealthCheck, from *core.BindConfig) *health.ClusterHealthCheck {
	out := &health.ClusterHealthCheck{
		ClusterName:  name,
		HealthChecks: []*core.HealthCheck{check},
		LocalityEndpoints: []*health.LocalityEndpoints{{Endpoints: []*endpoint.Endpoint{{
			Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
				Address: address, PortSpecifier: &core.SocketAddress_PortValue{PortValue: port},
			}}},
		}}}},
	}
	if from != nil {
		out.UpstreamBindConfig = from
	}
	return out
}

// applyTries bounds the attempts to store a state while others write the same Dataplane.
const applyTries = 5

// apply turns a report into the states of the inbounds: Ready when both Envoy and the workload are healthy. A report that
// changes nothing, as nearly all do, writes nothing.
func (h *HDS) apply(ctx context.Context, who *caller, report *health.EndpointHealthResponse) error {
	healthy := map[string]bool{}
	for _, c := range report.GetClusterEndpointsHealth() {
		ok := true
		for _, l := range c.GetLocalityEndpointsHealth() {
			for _, e := range l.GetEndpointsHealth() {
				ok = ok && e.GetHealthStatus() == core.HealthStatus_HEALTHY
			}
		}
		healthy[c.GetClusterName()] = ok
	}
	for range applyTries {
		r, err := h.cfg.Store.Get(who.key)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := who.permit(r); err != nil {
			return err
		}
		next := r.Clone()
		if !setStates(resource.SpecOf[*resource.Dataplane](next), healthy) {
			return nil
		}
		_, err = h.cfg.Store.Commit(ctx, store.Op{Action: store.Update, Resource: next, ExpectVersion: r.Version})
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("%s: %w again and again", who.key, store.ErrConflict)
}

// setStates changes the inbounds that the report speaks of, and tells whether any differs now. An inbound without a probe of
// its own follows Envoy: one that drains, because its agent was told to stop, must get no new connections.
func setStates(d *resource.Dataplane, healthy map[string]bool) (changed bool) {
	if d.Networking == nil {
		return false
	}
	envoy, known := healthy[adminCluster]
	for _, in := range d.Networking.Inbound {
		if in.State == resource.InboundIgnored {
			continue
		}
		ok, reported := true, known
		if in.ServiceProbe != nil && in.ServiceProbe.TCP != nil {
			_, port := workload(d.Networking, in)
			ok, reported = healthy[localCluster(port)]
		}
		if !reported {
			continue
		}
		want := resource.InboundNotReady
		if ok && (envoy || !known) {
			want = resource.InboundReady
		}
		was := in.State
		if was == "" {
			was = resource.InboundReady
		}
		if was == want && (in.Health == nil || in.Health.Ready == (want == resource.InboundReady)) {
			continue
		}
		in.State, changed = want, true
		if in.Health != nil {
			in.Health.Ready = want == resource.InboundReady
		}
	}
	return changed
}
