package effect

import (
	"fmt"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Names of the Envoy filters and sockets in use.
const (
	FilterHCM            = "envoy.filters.network.http_connection_manager"
	FilterTCPProxy       = "envoy.filters.network.tcp_proxy"
	FilterKafka          = "envoy.filters.network.kafka_broker"
	FilterDirectResponse = "envoy.filters.network.direct_response"
	FilterNetworkRBAC    = "envoy.filters.network.rbac"
	FilterHTTPRBAC       = "envoy.filters.http.rbac"
	FilterGRPCStats      = "envoy.filters.http.grpc_stats"
	FilterRouter         = "envoy.filters.http.router"
	FilterTLSInspector   = "envoy.filters.listener.tls_inspector"
	FilterHTTPInspector  = "envoy.filters.listener.http_inspector"
	FilterDNS            = "envoy.filters.udp.dns_filter"
	SocketTLS            = "envoy.transport_sockets.tls"
)

// Listener is an Envoy listener whose filters are still typed. The embedded message has neither filter chains nor
// listener filters until Build.
type Listener struct {
	*listenerv3.Listener
	ListenerFilters []*Filter
	Chains          []*Chain
}

// Chain is one filter chain.
type Chain struct {
	// Name may be empty.
	Name  string
	Match *listenerv3.FilterChainMatch
	// TLS is nil for a chain that does not end TLS.
	TLS     *tlsv3.DownstreamTlsContext
	Filters []*Filter
}

// Filter is a filter of any place by name. Config is packed by Build; for an HTTP connection manager HCM is set instead. It
// has neither when all filters of the name are the same.
type Filter struct {
	Name   string
	Config proto.Message
	HCM    *HCM

	packed *anypb.Any
}

// HCM is an HTTP connection manager whose HTTP filters are still typed. Its routes are in the inline RouteConfig.
type HCM struct {
	*hcmv3.HttpConnectionManager
	Filters []*Filter
}

// HCM returns the chain's HTTP connection manager, nil when it has none.
func (c *Chain) HCM() *HCM {
	for _, f := range c.Filters {
		if f.HCM != nil {
			return f.HCM
		}
	}
	return nil
}

// TCPProxy returns the chain's TCP proxy, nil when it has none.
func (c *Chain) TCPProxy() *tcpv3.TcpProxy {
	for _, f := range c.Filters {
		if t, ok := f.Config.(*tcpv3.TcpProxy); ok {
			return t
		}
	}
	return nil
}

// Prepend puts a network filter in front.
func (c *Chain) Prepend(f *Filter) { c.Filters = append([]*Filter{f}, c.Filters...) }

// Prepend puts an HTTP filter in front.
func (h *HCM) Prepend(f *Filter) { h.Filters = append([]*Filter{f}, h.Filters...) }

// BeforeRouter puts HTTP filters, in their order, directly in front of the router.
func (h *HCM) BeforeRouter(filters ...*Filter) {
	i := slices.IndexFunc(h.Filters, func(f *Filter) bool { return f.Name == FilterRouter })
	if i < 0 {
		i = len(h.Filters)
	}
	h.Filters = slices.Insert(h.Filters, i, filters...)
}

// RouteActions calls f with every route that forwards to a cluster, of every virtual host.
func (h *HCM) RouteActions(f func(r *routev3.Route, action *routev3.RouteAction)) {
	for _, vh := range h.GetRouteConfig().GetVirtualHosts() {
		for _, r := range vh.Routes {
			if a := r.GetRoute(); a != nil {
				f(r, a)
			}
		}
	}
}

// Build packs the filters and returns the finished message. Call it once.
func (l *Listener) Build() (*listenerv3.Listener, error) {
	for _, f := range l.ListenerFilters {
		a, err := f.pack()
		if err != nil {
			return nil, fmt.Errorf("build listener %s: %w", l.Name, err)
		}
		l.Listener.ListenerFilters = append(l.Listener.ListenerFilters, &listenerv3.ListenerFilter{
			Name: f.Name, ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: a},
		})
	}
	for _, c := range l.Chains {
		fc := &listenerv3.FilterChain{Name: c.Name, FilterChainMatch: c.Match}
		for _, f := range c.Filters {
			a, err := f.pack()
			if err != nil {
				return nil, fmt.Errorf("build listener %s: %w", l.Name, err)
			}
			fc.Filters = append(fc.Filters, &listenerv3.Filter{
				Name: f.Name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: a},
			})
		}
		if c.TLS != nil {
			socket, err := transportSocket(c.TLS)
			if err != nil {
				return nil, fmt.Errorf("build listener %s: %w", l.Name, err)
			}
			fc.TransportSocket = socket
		}
		l.FilterChains = append(l.FilterChains, fc)
	}
	return l.Listener, nil
}

func (f *Filter) pack() (*anypb.Any, error) {
	if f.packed != nil {
		return f.packed, nil
	}
	if f.HCM == nil {
		return Pack(f.Config)
	}
	for _, h := range f.HCM.Filters {
		a, err := h.pack()
		if err != nil {
			return nil, err
		}
		f.HCM.HttpFilters = append(f.HCM.HttpFilters, &hcmv3.HttpFilter{
			Name: h.Name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: a},
		})
	}
	return Pack(f.HCM.HttpConnectionManager)
}

// Pack makes an Any with deterministic bytes, so that equal content has an equal hash.
func Pack(m proto.Message) (*anypb.Any, error) {
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, fmt.Errorf("pack %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return a, nil
}

func transportSocket(m proto.Message) (*corev3.TransportSocket, error) {
	a, err := Pack(m)
	if err != nil {
		return nil, err
	}
	return &corev3.TransportSocket{Name: SocketTLS, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: a}}, nil
}

// TLSInspector is the listener filter that tells TLS from plaintext.
func TLSInspector() *Filter {
	return &Filter{Name: FilterTLSInspector, Config: &tlsinspectorv3.TlsInspector{}}
}

// HTTPInspector is the listener filter that tells HTTP from other plaintext.
func HTTPInspector() *Filter {
	return &Filter{Name: FilterHTTPInspector, Config: &httpinspectorv3.HttpInspector{}}
}

// SocketAddress is a TCP address.
func SocketAddress(address string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: address, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}
