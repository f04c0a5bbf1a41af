package xds

import (
	"cmp"
	"net/url"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

const probesName = "probe:listener"

// addProbes makes the workload's own health checks reachable past mTLS: for each path a route to the port of the workload,
// or a redirect to a port that no inbound has (contract effects-security.md §1.6). Agents that have a proxy for probes do
// not need it.
func addProbes(b *builder, env effect.Env, meta Meta, dp *resource.Dataplane) error {
	p := dp.Probes
	if p == nil || meta.AppProbeProxy {
		return nil
	}
	workload := map[uint32]bool{}
	for _, in := range dp.Networking.Inbound {
		workload[cmp.Or(in.ServicePort, in.Port)] = in.Port != effect.Serviceless
	}
	host := &routev3.VirtualHost{Name: "probe", Domains: []string{"*"}}
	for _, e := range p.Endpoints {
		host.Routes = append(host.Routes, probeRoute(e, workload[e.InboundPort]))
	}
	l := &listenerv3.Listener{
		Name: probesName, Address: effect.SocketAddress(env.Address, p.Port),
		TrafficDirection: corev3.TrafficDirection_INBOUND, EnableReusePort: wrapperspb.Bool(false),
	}
	if env.Transparent {
		l.BindToPort = wrapperspb.Bool(false)
	}
	return b.addListener(effect.OriginProbe, &effect.Listener{
		Listener: l,
		Chains: []*effect.Chain{{Filters: []*effect.Filter{{Name: effect.FilterHCM, HCM: &effect.HCM{
			Filters: []*effect.Filter{effect.RouterFilter()},
			HttpConnectionManager: &hcmv3.HttpConnectionManager{
				StatPrefix: "probe_listener",
				RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
					Name: "probe:route_configuration", VirtualHosts: []*routev3.VirtualHost{host},
				}},
				InternalAddressConfig: env.LocalAddresses(),
			},
		}}}}},
	})
}

func probeRoute(e resource.ProbeEndpoint, served bool) *routev3.Route {
	r := &routev3.Route{Match: &routev3.RouteMatch{
		PathSpecifier: &routev3.RouteMatch_Path{Path: pathOf(e.Path)},
		Headers: []*routev3.HeaderMatcher{{Name: ":method", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
			StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "GET"}},
		}}},
	}}
	if !served {
		r.Action = &routev3.Route_Redirect{Redirect: &routev3.RedirectAction{
			PathRewriteSpecifier: &routev3.RedirectAction_PathRedirect{PathRedirect: pathOf(e.InboundPath)}, PortRedirect: e.InboundPort,
		}}
		return r
	}
	r.Action = &routev3.Route_Route{Route: &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: effect.HostPort("localhost", e.InboundPort)},
		RegexRewrite: &matcherv3.RegexMatchAndSubstitute{
			Pattern: &matcherv3.RegexMatcher{Regex: ".*"},
			// A backslash would name a group of the pattern.
			Substitution: strings.ReplaceAll(pathOf(e.InboundPath), `\`, `\\`),
		},
	}}
	return r
}

// pathOf drops the query, which a match of a path never sees.
func pathOf(raw string) string {
	if u, err := url.Parse(raw); err == nil && u.Path != "" {
		return u.Path
	}
	return raw
}
