package effect

import (
	"cmp"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	grpcstatsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/resource"
)

// Idle timeouts of the base (contract effects-security.md §1.2, §1.3).
const (
	inboundIdle       = 2 * time.Hour
	inboundStreamIdle = time.Hour
)

// Serviceless is the inbound port of a workload that serves nothing: it gets neither listener nor cluster.
const Serviceless = 49151

// Inbound is one port of the workload.
type Inbound struct {
	Resource *resource.Inbound
	// Protocol is the inbound's kuma.io/protocol, tcp when it has none.
	Protocol string
	Listener *Listener
	// Cluster is the local cluster localhost:{workload port}.
	Cluster *Cluster
	// Older are the kinds from before target references of which a policy acts on the inbound. Kinds that took their place
	// leave it to them, but for permissions.
	Older map[resource.Kind]bool

	env Env
}

// ClusterName is the name of the local cluster.
func (in *Inbound) ClusterName() string { return LocalCluster(in.Resource) }

// LocalCluster names the local cluster of an inbound by the port of the workload.
func LocalCluster(in *resource.Inbound) string { return HostPort("localhost", WorkloadPort(in)) }

// WorkloadPort is where the workload of an inbound listens.
func WorkloadPort(in *resource.Inbound) uint32 { return cmp.Or(in.ServicePort, in.Port) }

// ListenerAddress is where Envoy listens for the inbound.
func (e Env) ListenerAddress(in *resource.Inbound) string { return cmp.Or(in.Address, e.Address) }

// InboundName is the name of the inbound's listener.
func (e Env) InboundName(in *resource.Inbound) string {
	return "inbound:" + HostPort(e.ListenerAddress(in), in.Port)
}

// NewInbound makes the base of an inbound (contract effects-security.md §1.2, §1.3).
func NewInbound(env Env, in *resource.Inbound) *Inbound {
	out := &Inbound{Resource: in, Protocol: cmp.Or(in.Tags[resource.TagProtocol], TCP), env: env}
	out.Cluster = out.localCluster()
	out.SetMode(env.MTLSMode)
	return out
}

func (in *Inbound) localCluster() *Cluster {
	r := in.Resource
	address := cmp.Or(r.ServiceAddress, in.env.ListenerAddress(r))
	c := NewCluster(in.ClusterName())
	c.ConnectTimeout = durationpb.New(10 * time.Second)
	c.SetStatic(address, WorkloadPort(r))
	if IsHTTP(in.Protocol) {
		c.HTTP = HTTPOptions(in.Protocol != HTTP)
		c.HTTP.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(inboundIdle)}
	}
	if in.env.Transparent && address != "127.0.0.1" && address != "::1" {
		c.BindInboundSource(isIPv6(address))
	}
	return c
}

// SetMode builds the listener anew for a mode, resource.MTLSStrict or MTLSPermissive; empty means plaintext. What other
// effects did to the listener is lost.
func (in *Inbound) SetMode(mode string) {
	address := in.env.ListenerAddress(in.Resource)
	l := &Listener{Listener: &listenerv3.Listener{
		Name:             in.env.InboundName(in.Resource),
		Address:          SocketAddress(address, in.Resource.Port),
		TrafficDirection: corev3.TrafficDirection_INBOUND,
		EnableReusePort:  wrapperspb.Bool(false),
		Metadata:         TagsMetadata(WithZone(in.Resource.Tags, in.env.Zone)),
	}}
	if in.env.Transparent {
		l.BindToPort = wrapperspb.Bool(false)
	}
	in.Listener = l
	switch mode {
	case resource.MTLSStrict:
		l.Chains = []*Chain{{TLS: DownstreamTLS(in.env.Mesh), Filters: in.filters()}}
		if in.env.Guarded {
			// Beside Kuma's one chain the one that members of the mesh take in the other mode: Envoy ends the connections of
			// a chain that goes, or that becomes another, and a change of mode must not end theirs.
			l.ListenerFilters = []*Filter{TLSInspector()}
			// Who speaks TLS and does not say so takes Kuma's: once a chain has matched what TLS is, Envoy looks at no
			// other. There is none for plaintext.
			l.Chains[0].Match = &listenerv3.FilterChainMatch{TransportProtocol: "tls"}
			l.Chains = append([]*Chain{in.member()}, l.Chains...)
		}
	case resource.MTLSPermissive:
		// The second chain lets the application's own TLS through; Envoy prefers the third, which is more specific.
		l.ListenerFilters = []*Filter{TLSInspector()}
		l.Chains = []*Chain{
			{Match: &listenerv3.FilterChainMatch{TransportProtocol: "raw_buffer"}, Filters: in.filters()},
			{Match: &listenerv3.FilterChainMatch{TransportProtocol: "tls"}, Filters: in.filters()},
			in.member(),
		}
	default:
		l.Chains = []*Chain{{Filters: in.filters()}}
	}
}

// member is the chain of proxies of the mesh, which all say that they are.
func (in *Inbound) member() *Chain {
	return &Chain{
		Match: &listenerv3.FilterChainMatch{TransportProtocol: "tls", ApplicationProtocols: []string{"kuma"}},
		TLS:   DownstreamTLS(in.env.Mesh), Filters: in.filters(),
	}
}

// Strict tells whether every connection has to end in mTLS.
func (in *Inbound) Strict() bool {
	return len(in.Listener.Chains) > 0 && !slices.ContainsFunc(in.Listener.Chains, func(c *Chain) bool { return c.TLS == nil })
}

func (in *Inbound) filters() []*Filter {
	cluster := in.ClusterName()
	if !IsHTTP(in.Protocol) {
		return tcpFilters(in.Protocol, cluster, cluster, durationpb.New(inboundIdle))
	}
	service := in.Resource.Tags[resource.TagService]
	h := &hcmv3.HttpConnectionManager{
		StatPrefix: StatName(cluster),
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name:                   "inbound:" + service,
			RequestHeadersToRemove: []string{TagsHeader},
			ValidateClusters:       wrapperspb.Bool(false),
			VirtualHosts: []*routev3.VirtualHost{{Name: cmp.Or(service, "unknown"), Domains: []string{"*"}, Routes: []*routev3.Route{
				PrefixRoute("", "/", cluster),
			}}},
		}},
		ForwardClientCertDetails:    hcmv3.HttpConnectionManager_SANITIZE_SET,
		SetCurrentClientCertDetails: &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{Uri: true},
		CommonHttpProtocolOptions:   &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(inboundIdle)},
		StreamIdleTimeout:           durationpb.New(inboundStreamIdle),
		InternalAddressConfig:       in.env.InternalAddresses(),
	}
	return []*Filter{{Name: FilterHCM, HCM: &HCM{HttpConnectionManager: h, Filters: httpFilters(in.Protocol)}}}
}

// PrefixRoute forwards a prefix to a cluster without a timeout.
func PrefixRoute(name, prefix, cluster string) *routev3.Route {
	return &routev3.Route{
		Name:  name,
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: prefix}},
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
			Timeout:          durationpb.New(0),
		}},
	}
}

func tcpFilters(protocol, stat, cluster string, idle *durationpb.Duration) []*Filter {
	var out []*Filter
	if protocol == Kafka {
		out = append(out, kafkaBroker(StatName(stat)))
	}
	return append(out, &Filter{Name: FilterTCPProxy, Config: &tcpv3.TcpProxy{
		StatPrefix: StatName(stat), ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: cluster}, IdleTimeout: idle,
	}})
}

func httpFilters(protocol string) []*Filter {
	var out []*Filter
	if protocol == GRPC {
		out = append(out, &Filter{Name: FilterGRPCStats, Config: &grpcstatsv3.FilterConfig{EmitFilterState: true}})
	}
	return append(out, RouterFilter())
}

// RouterFilter is the last HTTP filter of every connection manager.
func RouterFilter() *Filter { return &Filter{Name: FilterRouter, packed: packedRouter()} }

var packedRouter = sync.OnceValue(func() *anypb.Any {
	a, err := Pack(&routerv3.Router{})
	if err != nil {
		panic(err) // it is empty
	}
	return a
})

// InternalAddresses are the networks whose peers Envoy takes for internal; IPv6 ones only when the host has IPv6. The
// message must not be changed: all proxies have it.
func (e Env) InternalAddresses() *hcmv3.HttpConnectionManager_InternalAddressConfig {
	if e.IPv6 {
		return internalOfBoth()
	}
	return internalOfIPv4()
}

var (
	internalOfIPv4 = sync.OnceValue(func() *hcmv3.HttpConnectionManager_InternalAddressConfig {
		return &hcmv3.HttpConnectionManager_InternalAddressConfig{CidrRanges: []*corev3.CidrRange{
			cidr("10.0.0.0", 8), cidr("192.168.0.0", 16), cidr("172.16.0.0", 12), cidr("127.0.0.1", 32),
		}}
	})
	internalOfBoth = sync.OnceValue(func() *hcmv3.HttpConnectionManager_InternalAddressConfig {
		return &hcmv3.HttpConnectionManager_InternalAddressConfig{CidrRanges: []*corev3.CidrRange{
			cidr("10.0.0.0", 8), cidr("192.168.0.0", 16), cidr("172.16.0.0", 12), cidr("fc00::", 7), cidr("fd00::", 8),
			cidr("127.0.0.1", 32), cidr("::1", 128),
		}}
	})
)

// LocalAddresses are the loopback part of InternalAddresses.
func (e Env) LocalAddresses() *hcmv3.HttpConnectionManager_InternalAddressConfig {
	cfg := &hcmv3.HttpConnectionManager_InternalAddressConfig{CidrRanges: []*corev3.CidrRange{cidr("127.0.0.1", 32)}}
	if e.IPv6 {
		cfg.CidrRanges = append(cfg.CidrRanges, cidr("::1", 128))
	}
	return cfg
}

func cidr(prefix string, bits uint32) *corev3.CidrRange {
	return &corev3.CidrRange{AddressPrefix: prefix, PrefixLen: wrapperspb.UInt32(bits)}
}

// TagsMetadata is listener metadata with tags under io.kuma.tags.
func TagsMetadata(tags map[string]string) *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"io.kuma.tags": TagStruct(tags)}}
}

// TagStruct renders tags as a protobuf struct.
func TagStruct(tags map[string]string) *structpb.Struct {
	s := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(tags))}
	for k, v := range tags {
		s.Fields[k] = structpb.NewStringValue(v)
	}
	return s
}
