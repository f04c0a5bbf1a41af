package older

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

func confOf(r *policy.Rules, in *effect.Inbound) *inboundConf {
	rules, _ := r.ForInbound(in.Resource)
	if len(rules) == 0 {
		return &inboundConf{}
	}
	return rules[0].Conf.(*inboundConf)
}

// Permit puts a network filter in front of every chain that ends mTLS, of HTTP too, which lets in whom the one permission of
// the inbound names (contract effects-security.md §4). An inbound that no permission is for lets nobody in when another one
// of the proxy has a permission: no fact tells what 2.9.13 does, and open is the worse guess.
func Permit(p *effect.Proxy, r *policy.Rules) {
	if p.MTLSMode == "" {
		return
	}
	for _, in := range p.Inbounds {
		c := confOf(r, in)
		if !c.Permitted {
			continue
		}
		claim(in, resource.KindTrafficPermission)
		for _, chain := range in.Listener.Chains {
			if chain.TLS != nil {
				chain.Prepend(effect.NetworkRBAC(in.Listener.Name, rbac(p.Mesh, c.Permission), nil))
			}
		}
	}
}

func claim(in *effect.Inbound, kind resource.Kind) {
	if in.Older == nil {
		in.Older = map[resource.Kind]bool{}
	}
	in.Older[kind] = true
}

func rbac(mesh string, permission *resource.Resource) *rbacv3.RBAC {
	if permission == nil {
		return &rbacv3.RBAC{}
	}
	var principals []*rbacv3.Principal
	for _, s := range resource.SpecOf[*resource.TrafficPermission](permission).Sources {
		var ids []*rbacv3.Principal
		for _, key := range slices.Sorted(maps.Keys(s.Match)) {
			ids = append(ids, effect.Bearer(uri(mesh, key, s.Match[key])))
		}
		principals = append(principals, effect.AllOf(ids))
	}
	return &rbacv3.RBAC{Policies: map[string]*rbacv3.Policy{permission.Name: effect.AnythingFor(principals...)}}
}

// uri matches what the certificates of proxies with a tag hold; "*" is every value (no fact tells how 2.9.13 writes that).
func uri(mesh, key, value string) *matcherv3.StringMatcher {
	if value == "*" {
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: effect.TagURI(mesh, key, "")}}
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: effect.TagURI(mesh, key, value)}}
}

// inject puts a fault filter for every FaultInjection into the chains of inbounds of requests. Unlike those of
// MeshFaultInjection, they are for gRPC too: no fact tells, and a policy can choose by protocol.
func inject(p *effect.Proxy, r *policy.Rules) error {
	for _, in := range p.Inbounds {
		faults := confOf(r, in).Faults
		if len(faults) == 0 {
			continue
		}
		claim(in, resource.KindFaultInjection)
		for _, chain := range in.Listener.Chains {
			h := chain.HCM()
			if h == nil {
				continue
			}
			for _, f := range faults {
				fault, err := envoyFault(resource.SpecOf[*resource.FaultInjection](f))
				if err != nil {
					return fmt.Errorf("apply %s: %w", f.Key, err)
				}
				h.BeforeRouter(&effect.Filter{Name: "envoy.filters.http.fault", Config: fault})
			}
		}
	}
	return nil
}

func envoyFault(spec *resource.FaultInjection) (*faultv3.HTTPFault, error) {
	out := &faultv3.HTTPFault{Headers: []*routev3.HeaderMatcher{clients(spec.Sources)}}
	c := spec.Conf
	if a := c.Abort; a != nil {
		out.Abort = &faultv3.FaultAbort{
			ErrorType:  &faultv3.FaultAbort_HttpStatus{HttpStatus: a.HTTPStatus},
			Percentage: fraction(a.Percentage),
		}
	}
	if d := c.Delay; d != nil {
		value, err := time.ParseDuration(d.Value)
		if err != nil {
			return nil, err
		}
		out.Delay = &commonfaultv3.FaultDelay{
			FaultDelaySecifier: &commonfaultv3.FaultDelay_FixedDelay{FixedDelay: durationpb.New(value)},
			Percentage:         fraction(d.Percentage),
		}
	}
	if b := c.ResponseBandwidth; b != nil {
		kbps, err := b.Kbps()
		if err != nil {
			return nil, err
		}
		out.ResponseRateLimit = &commonfaultv3.FaultRateLimit{
			LimitType: &commonfaultv3.FaultRateLimit_FixedLimit_{
				FixedLimit: &commonfaultv3.FaultRateLimit_FixedLimit{LimitKbps: kbps},
			},
			Percentage: fraction(b.Percentage),
		}
	}
	return out, nil
}

func fraction(percent *float64) *typev3.FractionalPercent {
	if percent == nil {
		return &typev3.FractionalPercent{}
	}
	return effect.Percent(*percent)
}

// clients matches requests of whoever one of the selectors chooses (contract effects-security.md §9). Several are one
// expression: no fact tells how 2.9.13 writes that.
func clients(sources []resource.Selector) *routev3.HeaderMatcher {
	var expressions []string
	for _, s := range sources {
		expressions = append(expressions, effect.TagsExpression(s.Match))
	}
	expression := strings.Join(expressions, "|")
	if len(expressions) > 1 {
		expression = "(" + expression + ")"
	}
	return &routev3.HeaderMatcher{
		Name: effect.TagsHeader,
		//nolint:staticcheck // as 2.9.13 has it; Envoy takes both
		HeaderMatchSpecifier: &routev3.HeaderMatcher_SafeRegexMatch{SafeRegexMatch: &matcherv3.RegexMatcher{Regex: expression}},
	}
}

// limit puts a route for the clients of every RateLimit in front of the routes of an inbound, which have no limit (contract
// effects-security.md §8).
func limit(p *effect.Proxy, r *policy.Rules) error {
	for _, in := range p.Inbounds {
		limits := confOf(r, in).Limits
		if len(limits) == 0 {
			continue
		}
		claim(in, resource.KindRateLimit)
		for _, chain := range in.Listener.Chains {
			h := chain.HCM()
			if h == nil {
				continue
			}
			h.TakeLimits()
			for _, vh := range h.GetRouteConfig().GetVirtualHosts() {
				var limited []*routev3.Route
				for _, l := range limits {
					routes, err := limitedRoutes(resource.SpecOf[*resource.RateLimit](l), vh.Routes)
					if err != nil {
						return fmt.Errorf("apply %s: %w", l.Key, err)
					}
					limited = append(limited, routes...)
				}
				vh.Routes = append(limited, vh.Routes...)
			}
		}
	}
	return nil
}

func limitedRoutes(spec *resource.RateLimit, routes []*routev3.Route) ([]*routev3.Route, error) {
	h := spec.Conf.HTTP
	interval, err := time.ParseDuration(h.Interval)
	if err != nil {
		return nil, err
	}
	conf := effect.NewRequestLimit(h.Requests, interval)
	if o := h.OnRateLimit; o != nil {
		if o.Status != nil {
			conf.Status = &typev3.HttpStatus{Code: typev3.StatusCode(*o.Status)}
		}
		for _, header := range o.Headers {
			action := corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
			if header.Append {
				action = corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD
			}
			conf.ResponseHeadersToAdd = append(conf.ResponseHeadersToAdd, &corev3.HeaderValueOption{
				Header: &corev3.HeaderValue{Key: header.Key, Value: header.Value}, AppendAction: action,
			})
		}
	}
	packed, err := effect.Pack(conf)
	if err != nil {
		return nil, err
	}
	var out []*routev3.Route
	for _, route := range routes {
		route = proto.CloneOf(route)
		route.Match.Headers = append(route.Match.Headers, clients(spec.Sources))
		effect.LimitRoute(route, packed)
		out = append(out, route)
	}
	return out, nil
}
