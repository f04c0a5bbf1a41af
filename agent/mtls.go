package agent

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/kuma-dp/kuma-dp/agent/mtls"
	"github.com/kuma-dp/kuma-dp/agent/relay"
	"github.com/kuma-dp/kuma-dp/internal/group"
	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
)

// buildMonitor makes what counts the connections with and without mTLS, and hangs it into the relay's configuration. A zone
// proxy ends no mTLS of its own.
func (a *Agent) buildMonitor(p *parts, boot *relay.Bootstrap, cfg *relay.Config) (err error) {
	if a.identitySecret() == "" {
		return nil
	}
	if p.mtls, err = mtls.New(mtls.Config{
		Cluster: boot.Cluster, Stats: stats(boot), Conn: p.upstream, Node: a.cfg.Dataplane.Mesh + "." + a.cfg.Dataplane.Name,
		Token: cfg.Token, Log: a.log.With("component", "mtls"),
	}); err != nil {
		return err
	}
	cfg.Listener, cfg.Listeners, cfg.AccessLog = p.mtls.Listener, p.mtls.Listeners, p.mtls.AccessLog
	p.members = append(p.members, group.Member{Name: "mTLS report", Run: p.mtls.Run})
	return nil
}

// checkPage tries a service with and without the workload's identity.
func checkPage(ctx context.Context, r *relay.Relay, query url.Values) (any, error) {
	service := query.Get("service")
	var targets []mtls.Target
	for _, s := range r.Services(service) {
		targets = append(targets, mtls.Target{Cluster: s.Cluster, SNI: s.SNI, Identities: s.Identities, Endpoints: s.Endpoints})
	}
	if len(targets) == 0 {
		return nil, fmt.Errorf("Envoy has no cluster of a service %q: is it reachable from this proxy, and spelled as in kumactl get meshservices?", service)
	}
	chain, key, roots := r.Identity()
	endpoints, err := mtls.Check(ctx, targets, mtls.Credentials{Chain: chain, Key: key, Roots: roots})
	if err != nil {
		return nil, err
	}
	return map[string]any{"service": service, "endpoints": endpoints}, nil
}

// judged is an inbound with what strict mTLS means there.
type judged struct {
	mtlsreport.Inbound
	State mtlsreport.State `json:"state"`
	Why   string           `json:"why"`
}

// mtlsPage shows who comes with mTLS and who does not.
func mtlsPage(ctx context.Context, m *mtls.Monitor, query url.Values) (any, error) {
	quiet := mtlsreport.DefaultQuiet
	if text := query.Get("quiet"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return nil, fmt.Errorf("quiet=%s is no time such as 30m", text)
		}
		quiet = d
	}
	out := map[string]any{"enabled": m != nil, "quiet": quiet.String()}
	if m == nil {
		return out, nil
	}
	report, err := m.Report(ctx)
	if err != nil {
		out["error"] = err.Error() // what Envoy's statistics tell is missing
	}
	inbounds := []judged{}
	for _, in := range report.Inbounds {
		state, why := in.Verdict(report.At, quiet)
		inbounds = append(inbounds, judged{in, state, why})
	}
	out["since"], out["at"], out["inbounds"] = report.Since, report.At, inbounds
	return out, nil
}
