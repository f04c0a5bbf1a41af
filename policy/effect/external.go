package effect

import (
	"net/netip"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/resource"
)

// TLSMatch is how a cluster encrypts towards the endpoints whose metadata has all tags.
type TLSMatch struct {
	Name string
	Tags map[string]string
	TLS  *tlsv3.UpstreamTlsContext
}

// external makes routes those of a MeshExternalService: the host that the outside knows, and a name without prefix
// (contract effects-routing.md §2.2).
func external(destination string, h *HCM) {
	h.GetRouteConfig().Name = destination
	h.RouteActions(func(_ *routev3.Route, a *routev3.RouteAction) { RewriteHost(a) })
}

// ExternalHTTP are the options of clusters that speak the protocol of the outside, nil for TCP (contract
// effects-routing.md §2.4).
func ExternalHTTP(protocol string) *httpv3.HttpProtocolOptions {
	if !IsHTTP(protocol) {
		return nil
	}
	return HTTPOptions(protocol != HTTP)
}

// External tells whether limits, checks and the choice of endpoints are not for the proxy to set: when the backend leaves the
// mesh through a ZoneEgress, which sets them (contract effects-routing.md §1 trap 6), and for a kuma.io/service that only
// routes lead to (ibid. §5).
func (b *Backend) External() bool {
	return b.Service.Kind == resource.KindMeshExternalService && !b.Egress || b.Indirect
}

// External tells whether an outbound leaves the mesh through a ZoneEgress, as Backend.External does.
func (out *Outbound) External() bool {
	return out.Service.Kind == resource.KindMeshExternalService && !out.Egress
}

// ExternalEndpoint is an address outside of the mesh, an IP or a name. Tags select it; Match are more tags that only tell
// TLS contexts apart.
type ExternalEndpoint struct {
	Address     string
	Port        uint32
	Tags, Match map[string]string
	Zone        string
}

// NewExternalCluster makes a cluster of endpoints outside of the mesh: fixed when all are IP addresses, else resolved
// over IPv4 (contract effects-routing.md §2.4, zones.md §7).
func NewExternalCluster(name, protocol string, endpoints []ExternalEndpoint) *Cluster {
	c := NewCluster(name)
	c.HTTP = ExternalHTTP(protocol)
	c.SetType(clusterv3.Cluster_STATIC)
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{ClusterName: name}
	groups := map[string]*endpointv3.LocalityLbEndpoints{}
	for _, e := range endpoints {
		if _, err := netip.ParseAddr(e.Address); err != nil {
			c.SetType(clusterv3.Cluster_STRICT_DNS)
			c.DnsLookupFamily = clusterv3.Cluster_V4_ONLY
		}
		group := groups[e.Zone]
		if group == nil {
			group = &endpointv3.LocalityLbEndpoints{}
			if e.Zone != "" {
				group.Locality = &corev3.Locality{Zone: e.Zone}
			}
			groups[e.Zone] = group
			c.LoadAssignment.Endpoints = append(c.LoadAssignment.Endpoints, group)
		}
		lb := &endpointv3.LbEndpoint{
			HostIdentifier:      &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: SocketAddress(e.Address, e.Port)}},
			LoadBalancingWeight: wrapperspb.UInt32(1),
		}
		if len(e.Tags)+len(e.Match) > 0 {
			match := TagStruct(e.Tags)
			for k, v := range e.Match {
				match.Fields[k] = structpb.NewStringValue(v)
			}
			lb.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
				"envoy.lb": TagStruct(e.Tags), "envoy.transport_socket_match": match,
			}}
		}
		group.LbEndpoints = append(group.LbEndpoints, lb)
	}
	return c
}

// NewEgressChain is how a ZoneEgress serves one destination outside: it ends the mTLS of the mesh, lets in whom the
// principals name, and forwards to the cluster of the destination (contract zones.md §7). Stat is the name of the listener.
func NewEgressChain(env Env, stat, destination, sni, protocol string, principals []*rbacconfigv3.Principal) *Chain {
	c := &Chain{Name: destination, Match: SNIMatch(sni), TLS: DownstreamTLS(env.Mesh)}
	rules := &rbacconfigv3.RBAC{}
	if len(principals) > 0 {
		rules.Policies = map[string]*rbacconfigv3.Policy{"MeshTrafficPermission": AnythingFor(principals...)}
	}
	if !IsHTTP(protocol) {
		c.Filters = append([]*Filter{NetworkRBAC(stat, rules, nil)}, tcpFilters(protocol, destination, destination, nil)...)
		return c
	}
	h := &HCM{Filters: httpFilters(protocol), HttpConnectionManager: &hcmv3.HttpConnectionManager{
		StatPrefix: StatName(destination),
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			ValidateClusters: wrapperspb.Bool(false),
			VirtualHosts: []*routev3.VirtualHost{{Name: destination, Domains: []string{"*"}, Routes: []*routev3.Route{
				PrefixRoute("", "/", destination),
			}}},
		}},
		InternalAddressConfig: env.InternalAddresses(),
	}}
	external(destination, h)
	h.Prepend(&Filter{Name: FilterHTTPRBAC, Config: &httprbacv3.RBAC{Rules: rules}})
	c.Filters = []*Filter{{Name: FilterHCM, HCM: h}}
	return c
}

// Open takes the permissions of a chain away, for a policy to set.
func (c *Chain) Open() {
	rbac := func(f *Filter) bool { return f.Name == FilterHTTPRBAC || f.Name == FilterNetworkRBAC }
	c.Filters = slices.DeleteFunc(c.Filters, rbac)
	if h := c.HCM(); h != nil {
		h.Filters = slices.DeleteFunc(h.Filters, rbac)
	}
}

// NewPassChain forwards TLS with a server name to a cluster as it is (contract controlplane.md §1.6).
func NewPassChain(destination, sni string) *Chain {
	return &Chain{Match: SNIMatch(sni), Filters: tcpFilters(TCP, destination, destination, nil)}
}

// ZoneProxyTimeout is how long zone proxies take to connect.
func ZoneProxyTimeout() *durationpb.Duration { return durationpb.New(5 * time.Second) }
