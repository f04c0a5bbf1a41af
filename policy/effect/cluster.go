package effect

import (
	"fmt"
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
)

const httpOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// Cluster is an Envoy cluster whose HTTP options and transport socket are still typed.
type Cluster struct {
	*clusterv3.Cluster
	// HTTP is nil for a cluster without HTTP options.
	HTTP *httpv3.HttpProtocolOptions
	// TLS is nil for a plaintext cluster.
	TLS *tlsv3.UpstreamTlsContext
	// TLSMatches are contexts for endpoints with certain metadata, where one context does not do for all.
	TLSMatches []TLSMatch
}

// NewCluster starts a cluster with its name; the stat name is set when it differs.
func NewCluster(name string) *Cluster {
	c := &Cluster{Cluster: &clusterv3.Cluster{Name: name}}
	if s := StatName(name); s != name {
		c.AltStatName = s
	}
	return c
}

// SetType sets the discovery type.
func (c *Cluster) SetType(t clusterv3.Cluster_DiscoveryType) {
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: t}
}

// SetStatic gives the cluster one fixed endpoint: STATIC for an IP address, resolved over IPv4 for a name.
func (c *Cluster) SetStatic(address string, port uint32) {
	c.SetType(clusterv3.Cluster_STATIC)
	if _, err := netip.ParseAddr(address); err != nil {
		c.SetType(clusterv3.Cluster_STRICT_DNS)
		c.DnsLookupFamily = clusterv3.Cluster_V4_ONLY // Envoy 1.32 knows no other form.
	}
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{
		ClusterName: c.Name,
		Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: SocketAddress(address, port)}},
		}}}},
	}
}

// SetEDS takes the endpoints from ADS.
func (c *Cluster) SetEDS() {
	c.SetType(clusterv3.Cluster_EDS)
	c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: adsSource()}
}

// SetOriginalDst connects to where the client wanted to go.
func (c *Cluster) SetOriginalDst() {
	c.SetType(clusterv3.Cluster_ORIGINAL_DST)
	c.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
	c.ConnectTimeout = durationpb.New(5 * time.Second)
}

// BindInboundSource connects from the address that redirection leaves alone: 127.0.0.6, or ::6 for IPv6.
func (c *Cluster) BindInboundSource(ipv6 bool) {
	address := "127.0.0.6"
	if ipv6 {
		address = "::6"
	}
	c.UpstreamBindConfig = &corev3.BindConfig{SourceAddress: &corev3.SocketAddress{
		Address: address, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 0},
	}}
}

// HTTPOptions makes options with an explicit protocol.
func HTTPOptions(http2 bool) *httpv3.HttpProtocolOptions {
	cfg := &httpv3.HttpProtocolOptions_ExplicitHttpConfig{}
	if http2 {
		cfg.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
			Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
		}
	} else {
		cfg.ProtocolConfig = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{
			HttpProtocolOptions: &corev3.Http1ProtocolOptions{},
		}
	}
	return &httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: cfg},
	}
}

// Build packs the parts and returns the finished message. Call it once.
func (c *Cluster) Build() (*clusterv3.Cluster, error) {
	if c.HTTP != nil {
		a, err := Pack(c.HTTP)
		if err != nil {
			return nil, fmt.Errorf("build cluster %s: %w", c.Name, err)
		}
		c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptionsKey: a}
	}
	if c.TLS != nil {
		socket, err := transportSocket(c.TLS)
		if err != nil {
			return nil, fmt.Errorf("build cluster %s: %w", c.Name, err)
		}
		c.TransportSocket = socket
	}
	for _, m := range c.TLSMatches {
		socket, err := transportSocket(m.TLS)
		if err != nil {
			return nil, fmt.Errorf("build cluster %s: %w", c.Name, err)
		}
		c.TransportSocketMatches = append(c.TransportSocketMatches, &clusterv3.Cluster_TransportSocketMatch{
			Name: m.Name, Match: TagStruct(m.Tags), TransportSocket: socket,
		})
	}
	return c.Cluster, nil
}
