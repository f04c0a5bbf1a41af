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

// Apply writes timeouts into every inbound, outbound and cluster as soon as one MeshTimeout is effective on the proxy,
// also into those that no policy names (contract effects-routing.md §6).
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
		confOf(r, out.Service, out.Section).listener(out.Listener, out.Protocol)
	}
	for _, b := range p.Backends {
		confOf(r, b.Service, b.Section).cluster(b.Cluster, b.Protocol)
	}
	return nil
}

func confOf(r *policy.Rules, service resource.Key, section string) *Conf {
	if confs := r.ForService(service, section); len(confs) > 0 {
		if c, ok := confs[0].(*Conf); ok {
			return c
		}
	}
	return &Conf{}
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
		if h.CommonHttpProtocolOptions == nil {
			h.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{}
		}
		// The limit for idle connections is the cluster's; the listener has none.
		h.CommonHttpProtocolOptions.IdleTimeout = durationpb.New(0)
		h.RequestHeadersTimeout = or(http.RequestHeadersTimeout, 0)
		h.RouteActions(func(_ *routev3.Route, a *routev3.RouteAction) {
			a.Timeout = or(http.RequestTimeout, defaultRequest)
			if http.StreamIdleTimeout != nil || a.IdleTimeout == nil {
				a.IdleTimeout = or(http.StreamIdleTimeout, defaultStreamIdle)
			}
		})
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
