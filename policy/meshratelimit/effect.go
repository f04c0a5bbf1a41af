package meshratelimit

import (
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httplimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	networklimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/local_ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// filterNetwork is the name of the network filter, as Kuma has it: that of its type.
const filterNetwork = "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit"

// Apply puts limits into every filter chain of an inbound (contract effects-security.md §8). The HTTP filter only makes
// a limit possible; the limit itself is on the routes. An inbound that a RateLimit is for has only that.
func Apply(p *effect.Proxy, r *policy.Rules) error {
	for _, f := range r.From {
		if l := local(f.Rules); l != nil {
			l.warn(p, f.Inbound.Port)
		}
	}
	for _, in := range p.Inbounds {
		if in.Older[resource.KindRateLimit] {
			continue
		}
		rules, _ := r.ForInbound(in.Resource)
		l := local(rules)
		if l == nil {
			continue
		}
		for _, c := range in.Listener.Chains {
			if h := c.HCM(); h != nil && l.HTTP.limits() {
				if err := l.HTTP.apply(h); err != nil {
					return fmt.Errorf("limit requests of %s: %w", in.Listener.Name, err)
				}
			}
			if l.TCP.limits() {
				c.Prepend(&effect.Filter{Name: filterNetwork, Config: &networklimitv3.LocalRateLimit{
					StatPrefix: "tcp_rate_limit", TokenBucket: effect.TokenBucket(l.TCP.ConnectionRate.Num, l.TCP.ConnectionRate.Interval.Duration),
				}})
			}
		}
	}
	return nil
}

// local is what the rules for all clients say, of which there is one at most.
func local(rules []policy.SubsetRule) *Local {
	if len(rules) == 0 {
		return nil
	}
	conf, ok := rules[0].Conf.(*Conf)
	if !ok {
		return nil
	}
	return conf.Local
}

// warn tells of a status that Kuma hands on although Envoy refuses the listener with it.
func (l *Local) warn(p *effect.Proxy, port uint32) {
	if l.HTTP.limits() && !l.HTTP.OnRateLimit.accepted() {
		p.Warn("%s for inbound %d: onRateLimit.status %d is none that Envoy knows, it refuses the listener: choose another", Name, port, *l.HTTP.OnRateLimit.Status)
	}
}

// accepted tells whether Envoy knows the status.
func (o *OnRateLimit) accepted() bool {
	if o == nil || o.Status == nil {
		return true
	}
	_, known := typev3.StatusCode_name[int32(*o.Status)]
	return known && *o.Status <= maxStatus
}

// maxStatus is the highest HTTP status there is.
const maxStatus = 599

func (h *HTTP) limits() bool {
	return h != nil && h.RequestRate != nil && (h.Disabled == nil || !*h.Disabled)
}

func (t *TCP) limits() bool {
	return t != nil && t.ConnectionRate != nil && (t.Disabled == nil || !*t.Disabled)
}

func (h *HTTP) apply(m *effect.HCM) error {
	m.TakeLimits()
	limit, err := effect.Pack(h.envoy())
	if err != nil {
		return err
	}
	for _, vh := range m.GetRouteConfig().GetVirtualHosts() {
		for _, route := range vh.Routes {
			effect.LimitRoute(route, limit)
		}
	}
	return nil
}

func (h *HTTP) envoy() *httplimitv3.LocalRateLimit {
	out := effect.NewRequestLimit(h.RequestRate.Num, h.RequestRate.Interval.Duration)
	o := h.OnRateLimit
	if o == nil {
		return out
	}
	if o.Status != nil && *o.Status != 0 {
		out.Status = &typev3.HttpStatus{Code: typev3.StatusCode(*o.Status)}
	}
	if o.Headers == nil {
		return out
	}
	for _, add := range o.Headers.Add {
		out.ResponseHeadersToAdd = append(out.ResponseHeadersToAdd, &corev3.HeaderValueOption{
			Header: &corev3.HeaderValue{Key: add.Name, Value: add.Value},
		})
	}
	for _, set := range o.Headers.Set {
		for value := range strings.SplitSeq(set.Value, ",") {
			out.ResponseHeadersToAdd = append(out.ResponseHeadersToAdd, &corev3.HeaderValueOption{
				Header:       &corev3.HeaderValue{Key: set.Name, Value: value},
				AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
			})
		}
	}
	return out
}
