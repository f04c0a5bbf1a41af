package meshtimeout

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// What a field means that is not set, as soon as any MeshTimeout is effective on the proxy (contract effects-routing.md
// §6.2). Without any, the base values of the generator stay.
const (
	defaultConnect    = 5 * time.Second
	defaultIdle       = time.Hour
	defaultRequest    = 15 * time.Second
	defaultStreamIdle = 30 * time.Minute
)

// Key tells that there is a policy, which is all that parts need to know of which it says nothing.
func Key(effect.Env, *policy.Rules) string { return "defaults" }

// Apply writes timeouts into every inbound, outbound and cluster as soon as one MeshTimeout is effective on the proxy,
// also into those that no policy names, but for outbounds by tags (contract effects-routing.md §6).
func Apply(p *effect.Proxy, r *policy.Rules) error {
	if !effect.Effective(r) {
		return nil
	}
	for _, in := range p.Inbounds {
		conf := &Conf{}
		if rules, _ := r.ForInbound(in.Resource); len(rules) > 0 {
			conf, _ = rules[0].Conf.(*Conf)
		}
		conf.listener(in.Listener, in.Protocol)
		conf.cluster(in.Cluster, in.Protocol)
	}
	for _, out := range p.Outbounds {
		conf, known := out.Conf(r).(*Conf)
		switch {
		case known:
			conf.listener(out.Listener, out.Protocol)
		case out.LegacyService != "":
			if effect.IsHTTP(out.Protocol) {
				onlyIdle(out.Listener)
			}
		default:
			(&Conf{}).listener(out.Listener, out.Protocol)
		}
		if out.LegacyService != "" && effect.IsHTTP(out.Protocol) {
			singleRoutes(out, r)
		}
	}
	for _, b := range p.Backends {
		conf, known := b.Conf(r).(*Conf)
		switch {
		case known:
			conf.cluster(b.Cluster, b.Protocol)
		case b.LegacyService == "":
			(&Conf{}).cluster(b.Cluster, b.Protocol)
		}
	}
	return nil
}

// singleRoutes writes what policies for a MeshHTTPRoute say about its routes (contract effects-routing.md §6.3).
func singleRoutes(out *effect.Outbound, r *policy.Rules) {
	for _, chain := range out.Listener.Chains {
		if h := chain.HCM(); h != nil {
			h.RouteActions(func(route *routev3.Route, a *routev3.RouteAction) {
				if conf, ok := out.RouteConf(r, route.Name).(*Conf); ok {
					conf.http().route(a)
				}
			})
		}
	}
}

// onlyIdle is all that is written into an outbound by tags for which there is no rule (contract effects-routing.md §6.3).
func onlyIdle(l *effect.Listener) {
	for _, chain := range l.Chains {
		if h := chain.HCM(); h != nil {
			noIdle(h)
		}
	}
}

// noIdle ends the listener's limit for idle connections: the cluster has it.
func noIdle(h *effect.HCM) {
	if h.CommonHttpProtocolOptions == nil {
		h.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{}
	}
	h.CommonHttpProtocolOptions.IdleTimeout = durationpb.New(0)
}

func (c *Conf) http() HTTP {
	if c == nil || c.HTTP == nil {
		return HTTP{}
	}
	return *c.HTTP
}

func or(d *resource.Duration, otherwise time.Duration) *durationpb.Duration {
	if d == nil {
		return durationpb.New(otherwise)
	}
	return durationpb.New(d.Duration)
}

func (c *Conf) listener(l *effect.Listener, protocol string) {
	for _, chain := range l.Chains {
		if !effect.IsHTTP(protocol) {
			if t := chain.TCPProxy(); t != nil {
				t.IdleTimeout = or(c.IdleTimeout, defaultIdle)
			}
			continue
		}
		h := chain.HCM()
		if h == nil {
			continue
		}
		http := c.http()
		noIdle(h)
		h.RequestHeadersTimeout = or(http.RequestHeadersTimeout, 0)
		h.RouteActions(func(_ *routev3.Route, a *routev3.RouteAction) { http.route(a) })
	}
}

func (h HTTP) route(a *routev3.RouteAction) {
	a.Timeout = or(h.RequestTimeout, defaultRequest)
	if h.StreamIdleTimeout != nil || a.IdleTimeout == nil {
		a.IdleTimeout = or(h.StreamIdleTimeout, defaultStreamIdle)
	}
}

func (c *Conf) cluster(cl *effect.Cluster, protocol string) {
	cl.ConnectTimeout = or(c.ConnectionTimeout, defaultConnect)
	if protocol != effect.HTTP && protocol != effect.HTTP2 {
		return
	}
	if cl.HTTP == nil {
		cl.HTTP = effect.HTTPOptions(protocol == effect.HTTP2)
	}
	if cl.HTTP.CommonHttpProtocolOptions == nil {
		cl.HTTP.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{}
	}
	http, o := c.http(), cl.HTTP.CommonHttpProtocolOptions
	o.IdleTimeout = or(c.IdleTimeout, defaultIdle)
	o.MaxStreamDuration = or(http.MaxStreamDuration, 0)
	o.MaxConnectionDuration = or(http.MaxConnectionDuration, 0)
}
