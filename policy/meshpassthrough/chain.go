package meshpassthrough

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/policy/effect"
)

// noMatch is the answer of Kuma's sidecars to requests for a domain that nothing matches.
const noMatch = "This response comes from Kuma Sidecar. No routes matched this domain - check configuration of your MeshPassthrough policy.\n"

// chainsOf makes the chains of the listener for one address family, empty when no destination concerns it. The
// destinations are in order, those of a chain one after another.
func chainsOf(env effect.Env, places []destination, ipv6 bool) []*effect.Chain {
	var out []*effect.Chain
	for i := 0; i < len(places); {
		first, end := places[i], i+1
		for end < len(places) && places[end].chain() == first.chain() {
			end++
		}
		if first.concerns(ipv6) {
			out = append(out, first.toChain(env, places[i:end]))
		}
		i = end
	}
	return out
}

func (d destination) toChain(env effect.Env, routes []destination) *effect.Chain {
	name := d.chain()
	c := &effect.Chain{Name: name, Match: d.match()}
	if !d.http() {
		c.Filters = []*effect.Filter{{Name: effect.FilterTCPProxy, Config: &tcpv3.TcpProxy{
			StatPrefix: effect.StatName(name), ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: d.cluster()},
		}}}
		return c
	}
	c.Filters = []*effect.Filter{{Name: effect.FilterHCM, HCM: &effect.HCM{
		Filters: []*effect.Filter{effect.RouterFilter()},
		HttpConnectionManager: &hcmv3.HttpConnectionManager{
			StatPrefix: effect.StatName(name),
			RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
				Name: name, VirtualHosts: virtualHosts(routes),
			}},
			InternalAddressConfig: env.InternalAddresses(),
		},
	}}}
	return c
}

func (d destination) match() *listenerv3.FilterChainMatch {
	m := &listenerv3.FilterChainMatch{TransportProtocol: "raw_buffer"}
	if d.protocol == ProtocolTLS {
		m.TransportProtocol = "tls"
	}
	if d.http() {
		m.ApplicationProtocols = []string{"http/1.1", "h2c"}
	}
	if d.port != 0 {
		m.DestinationPort = wrapperspb.UInt32(d.port)
	}
	switch {
	case !d.domain():
		m.PrefixRanges = []*corev3.CidrRange{{
			AddressPrefix: d.network.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(d.network.Bits())),
		}}
	case !d.http():
		m.ServerNames = []string{d.value}
	}
	return m
}

func virtualHosts(routes []destination) []*routev3.VirtualHost {
	var out []*routev3.VirtualHost
	domains := false
	for _, d := range routes {
		route := effect.PrefixRoute("", "/", d.cluster())
		route.GetRoute().Timeout = nil
		out = append(out, &routev3.VirtualHost{Name: d.value, Domains: d.hosts(), Routes: []*routev3.Route{route}})
		domains = domains || d.domain()
	}
	if !domains {
		return out
	}
	return append(out, &routev3.VirtualHost{Name: "no_match", Domains: []string{"*"}, Routes: []*routev3.Route{{
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: 503,
			Body:   &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: noMatch}},
		}},
	}}})
}

// hosts are the values of the header Host that a route takes.
func (d destination) hosts() []string {
	switch {
	case !d.domain():
		return []string{"*"}
	case d.port == 0 && d.class == classWildcard:
		return []string{d.value} // Envoy knows a wildcard at one end only.
	default:
		return []string{d.value, d.value + ":" + d.portText()}
	}
}
