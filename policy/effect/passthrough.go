package effect

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	directv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Passthrough catches redirected connections of one address family that no other listener takes.
type Passthrough struct {
	IPv6     bool
	Listener *Listener
	// Cluster connects to where the client wanted to go; nil where that is forbidden.
	Cluster *Cluster
}

// NewPassthrough makes the base of what catches connections on a redirect port (contract effects-security.md §1.4).
// Open tells whether they may go on.
func NewPassthrough(direction corev3.TrafficDirection, ipv6 bool, port uint32, open bool) *Passthrough {
	side, address, family := "outbound", "0.0.0.0", "ipv4"
	if direction == corev3.TrafficDirection_INBOUND {
		side = "inbound"
	}
	if ipv6 {
		address, family = "::", "ipv6"
	}
	name := side + ":passthrough:" + family
	p := &Passthrough{IPv6: ipv6, Listener: &Listener{
		Listener: &listenerv3.Listener{
			Name: name, Address: SocketAddress(address, port), TrafficDirection: direction,
			UseOriginalDst: wrapperspb.Bool(true),
		},
		Chains: []*Chain{{Filters: []*Filter{{Name: FilterTCPProxy, Config: &tcpv3.TcpProxy{
			StatPrefix: StatName(name), ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: name},
		}}}}},
	}}
	if direction == corev3.TrafficDirection_INBOUND {
		p.Listener.EnableReusePort = wrapperspb.Bool(false)
	}
	if open {
		p.Open()
	}
	return p
}

// Close ends connections to ports instead: incoming ones whatever their address, outgoing ones to loopback, where Envoy itself
// listens. Effects that look at chains come first.
func (p *Passthrough) Close(ports []uint32) {
	var where []*corev3.CidrRange
	switch {
	case p.Listener.TrafficDirection == corev3.TrafficDirection_INBOUND:
	case p.IPv6:
		where = []*corev3.CidrRange{cidr("::1", 128)}
	default:
		where = []*corev3.CidrRange{cidr("127.0.0.0", 8)}
	}
	var chains []*Chain
	for _, port := range ports {
		chains = append(chains, &Chain{
			Match:   &listenerv3.FilterChainMatch{DestinationPort: wrapperspb.UInt32(port), PrefixRanges: where},
			Filters: []*Filter{{Name: FilterDirectResponse, Config: &directv3.Config{Response: nothing()}}},
		})
	}
	p.Listener.Chains = append(chains, p.Listener.Chains...)
}

// nothing is all that is said before such a connection is closed.
func nothing() *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{}}
}

// Open lets connections go on to where the client wanted to go.
func (p *Passthrough) Open() {
	p.Cluster = NewCluster(p.Listener.Name)
	p.Cluster.SetOriginalDst()
	if p.Listener.TrafficDirection == corev3.TrafficDirection_INBOUND {
		p.Cluster.BindInboundSource(p.IPv6)
	}
}
