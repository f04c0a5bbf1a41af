package meshmetric

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	grpcstatsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
)

// Names of what is added; those of listeners for a backend end with its name (contract effects-security.md §6).
const (
	hijacker            = "_kuma:metrics:hijacker"
	prometheusPrefix    = "_kuma:metrics:prometheus:"
	openTelemetryPrefix = "_kuma:metrics:opentelemetry:"
	dynamicConfig       = "_kuma:dynamicconfig:observability"
	page                = "meshmetric" // in place of dynamicConfig, for agents that ask for pages
)

// defaultPort stands for an absent Prometheus.Port.
const defaultPort = 5670

// Apply adds a listener for every Prometheus server, which leads to the page of the agent; for every OpenTelemetry
// collector one on a socket, through which the agent pushes; and one on a socket that tells the agent what to do.
func Apply(p *effect.Proxy, r *policy.Rules) error {
	if r.Single == nil {
		return nil
	}
	conf, _ := r.Single.Conf.(*Conf)
	if conf == nil || len(conf.Backends) == 0 {
		return nil
	}
	conf.warn(p)
	if conf.has(BackendPrometheus) {
		p.AddCluster(effect.OriginPrometheus, pipeCluster(hijacker, p.Socket("kuma-mh")))
	}
	for _, b := range conf.Backends {
		switch {
		case b.Type == BackendPrometheus && b.Prometheus != nil:
			p.AddListener(effect.OriginPrometheus, b.Prometheus.listener(p.Env))
		case b.Type == BackendOpenTelemetry && b.OpenTelemetry != nil:
			host, port, ok := effect.SplitCollector(b.OpenTelemetry.Endpoint)
			if !ok {
				p.Warn("MeshMetric: nothing is sent to OpenTelemetry endpoint %q, which has no host", b.OpenTelemetry.Endpoint)
				continue
			}
			name := openTelemetryPrefix + b.OpenTelemetry.name()
			p.AddCluster(effect.OriginOpenTelemetry, effect.NewCollector(name, host, port, true))
			p.AddListener(effect.OriginOpenTelemetry, b.OpenTelemetry.listener(p.Env, name))
		}
	}
	body, err := conf.body(p.Env)
	if err != nil {
		return fmt.Errorf("describe metrics of %s to its agent: %w", p.Dataplane, err)
	}
	if p.Paged {
		p.AddPage(effect.Page{Name: page, Body: body})
		return nil
	}
	l := newListener(p.Env, dynamicConfig, pipe(p.SocketPath("kuma-mesh-metric-config")), &routev3.Route{
		Match: everything("/"),
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
			Status: 200, Body: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: string(body)}},
		}},
	})
	l.Chains[0].HCM().GetRouteConfig().ValidateClusters = nil
	p.AddListener(effect.OriginDynamicConfig, l)
	return nil
}

func (c *Conf) has(backendType string) bool {
	for _, b := range c.Backends {
		if b.Type == backendType {
			return true
		}
	}
	return false
}

// warn tells of two servers on one port: Envoy opens it for one of them only and refuses the listener of the other.
func (c *Conf) warn(p *effect.Proxy) {
	ports := map[string]uint32{}
	for _, b := range c.Backends {
		if b.Type == BackendPrometheus && b.Prometheus != nil {
			ports[b.Prometheus.client()] = b.Prometheus.port()
		}
	}
	clients := map[uint32]string{}
	for _, client := range slices.Sorted(maps.Keys(ports)) {
		port := ports[client]
		if other, found := clients[port]; found {
			p.Warn("MeshMetric: Prometheus backends %s and %s have one port, %d, and Envoy refuses the listener of one: give each its own",
				other, client, port)
		}
		clients[port] = client
	}
}

func (b *Prometheus) client() string {
	if b.ClientID == nil {
		return DefaultClientID
	}
	return cmp.Or(*b.ClientID, DefaultClientID)
}

func (b *Prometheus) port() uint32 {
	if b.Port == nil {
		return defaultPort
	}
	return *b.Port
}

func (b *Prometheus) listener(env effect.Env) *effect.Listener {
	path := "/metrics"
	if b.Path != nil {
		path = *b.Path
	}
	route := forward(path, hijacker)
	route.GetRoute().PrefixRewrite = "/meshmetric"
	l := newListener(env, prometheusPrefix+b.client(), effect.SocketAddress(env.Address, b.port()), route)
	l.TrafficDirection = corev3.TrafficDirection_INBOUND
	l.EnableReusePort = wrapperspb.Bool(false)
	if b.TLS != nil && b.TLS.Mode == TLSProvided && env.MetricsCert != "" && env.MetricsKey != "" {
		// Kuma's own shape: the chain in front takes no connection, since nothing inspects them for TLS.
		plain := l.Chains[0]
		secured := &effect.Chain{Filters: plain.Filters, TLS: &tlsv3.DownstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsCertificates: []*tlsv3.TlsCertificate{{CertificateChain: file(env.MetricsCert), PrivateKey: file(env.MetricsKey)}},
		}}}
		inFront := newListener(env, l.Name, nil, route).Chains[0]
		inFront.Match = &listenerv3.FilterChainMatch{TransportProtocol: "tls"}
		l.Chains = []*effect.Chain{inFront, secured}
	}
	return l
}

// name makes the endpoint part of a file's name.
func (o *OpenTelemetry) name() string {
	return strings.NewReplacer("/", "", ":", "-").Replace(o.Endpoint)
}

func (o *OpenTelemetry) socket(env effect.Env) string { return env.SocketPath("kuma-otel-" + o.name()) }

func (o *OpenTelemetry) listener(env effect.Env, name string) *effect.Listener {
	l := newListener(env, name, pipe(o.socket(env)), forward("/", name))
	l.Chains[0].HCM().Prepend(&effect.Filter{Name: effect.FilterGRPCStats, Config: &grpcstatsv3.FilterConfig{EmitFilterState: true}})
	return l
}

// newListener serves HTTP with one route.
func newListener(env effect.Env, name string, address *corev3.Address, route *routev3.Route) *effect.Listener {
	h := &hcmv3.HttpConnectionManager{
		StatPrefix: effect.StatName(name),
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			ValidateClusters: wrapperspb.Bool(false),
			VirtualHosts:     []*routev3.VirtualHost{{Name: name, Domains: []string{"*"}, Routes: []*routev3.Route{route}}},
		}},
		InternalAddressConfig: env.LocalAddresses(),
	}
	return &effect.Listener{
		Listener: &listenerv3.Listener{Name: name, Address: address},
		Chains: []*effect.Chain{{Filters: []*effect.Filter{{
			Name: effect.FilterHCM, HCM: &effect.HCM{HttpConnectionManager: h, Filters: []*effect.Filter{effect.RouterFilter()}},
		}}}},
	}
}

func everything(prefix string) *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: prefix}}
}

func forward(prefix, cluster string) *routev3.Route {
	return &routev3.Route{Match: everything(prefix), Action: &routev3.Route_Route{Route: &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
	}}}
}

func pipe(path string) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}
}

func pipeCluster(name, path string) *effect.Cluster {
	c := effect.NewCluster(name)
	c.ConnectTimeout = durationpb.New(5 * time.Second)
	c.SetType(clusterv3.Cluster_STATIC)
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{
		ClusterName: name,
		Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: pipe(path)}},
		}}}},
	}
	return c
}

func file(path string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: path}}
}
