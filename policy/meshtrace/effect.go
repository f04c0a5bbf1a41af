package meshtrace

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"net/url"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// clusterPrefix begins the name of the cluster of the tracing system.
const clusterPrefix = "meshtrace:"

// Key tells what flows into listeners: the whole conf, and the name of the proxy's service.
func Key(env effect.Env, r *policy.Rules) string {
	conf, err := json.Marshal(confOf(r))
	if err != nil { // it came from JSON
		return err.Error()
	}
	return env.Service() + " " + string(conf)
}

func confOf(r *policy.Rules) *Conf {
	if r.Single == nil {
		return nil
	}
	c, _ := r.Single.Conf.(*Conf)
	return c
}

// Apply makes every request that passes an inbound, or an outbound by tags, a span of the first backend, and adds the
// backend's cluster (contract effects-security.md §7). Outbounds to services make none: there, the span of the request that
// caused the call goes on.
func Apply(p *effect.Proxy, r *policy.Rules) error {
	conf := confOf(r)
	if conf == nil || len(conf.Backends) == 0 {
		return nil
	}
	b := newBackend(conf.Backends[0])
	if b == nil {
		p.Warn("MeshTrace: no spans are made: the backend of type %s has no host", conf.Backends[0].Type)
		return nil
	}
	p.AddCluster(effect.OriginTrace, b.cluster)
	service := p.Service()
	for _, in := range p.Inbounds {
		name, config := b.provider(service, "_INBOUND")
		if err := conf.trace(in.Listener, name, config); err != nil {
			return err
		}
	}
	for _, out := range p.Outbounds {
		if out.LegacyService == "" {
			continue
		}
		name, config := b.provider(service, "_OUTBOUND_"+out.LegacyService)
		if err := conf.trace(out.Listener, name, config); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conf) trace(l *effect.Listener, name string, config proto.Message) error {
	packed, err := effect.Pack(config)
	if err != nil {
		return err
	}
	for _, chain := range l.Chains {
		h := chain.HCM()
		if h == nil {
			continue
		}
		h.Tracing = &hcmv3.HttpConnectionManager_Tracing{
			SpawnUpstreamSpan: wrapperspb.Bool(false),
			CustomTags:        c.customTags(),
			Provider: &tracev3.Tracing_Http{
				Name: name, ConfigType: &tracev3.Tracing_Http_TypedConfig{TypedConfig: packed},
			},
		}
		if s := c.Sampling; s != nil {
			h.Tracing.OverallSampling = percent(s.Overall)
			h.Tracing.ClientSampling = percent(s.Client)
			h.Tracing.RandomSampling = percent(s.Random)
		}
	}
	return nil
}

func percent(v *resource.IntOrString) *typev3.Percent {
	if v == nil {
		return nil
	}
	n, _ := policy.Decimal(*v) // validated
	return &typev3.Percent{Value: n}
}

// customTags leaves out what Envoy would refuse: a literal without text.
func (c *Conf) customTags() []*tracingv3.CustomTag {
	var out []*tracingv3.CustomTag
	for _, t := range c.Tags {
		tag := &tracingv3.CustomTag{Tag: t.Name}
		switch {
		case t.Literal != nil && *t.Literal != "":
			tag.Type = &tracingv3.CustomTag_Literal_{Literal: &tracingv3.CustomTag_Literal{Value: *t.Literal}}
		case t.Header != nil:
			h := &tracingv3.CustomTag_Header{Name: t.Header.Name}
			if t.Header.Default != nil {
				h.DefaultValue = *t.Header.Default
			}
			tag.Type = &tracingv3.CustomTag_RequestHeader{RequestHeader: h}
		default:
			continue
		}
		out = append(out, tag)
	}
	return out
}

// backend is a tracing system in Envoy's terms.
type backend struct {
	cluster *effect.Cluster
	// provider names the tracer and configures it for a listener, whose place is told by a suffix.
	provider func(service, place string) (string, proto.Message)
}

// newBackend returns nil for a backend without a host.
func newBackend(b Backend) *backend {
	switch {
	case b.Type == BackendZipkin && b.Zipkin != nil:
		return b.Zipkin.backend()
	case b.Type == BackendDatadog && b.Datadog != nil:
		return b.Datadog.backend()
	case b.Type == BackendOpenTelemetry && b.OpenTelemetry != nil:
		return b.OpenTelemetry.backend()
	}
	return nil
}

func (z *Zipkin) backend() *backend {
	u, port := server(z.URL)
	if u == nil {
		return nil
	}
	cluster := effect.NewCollector(clusterPrefix+"zipkin", u.Hostname(), port, false)
	if u.Scheme == "https" {
		tls := &tlsv3.UpstreamTlsContext{AllowRenegotiation: true}
		if _, err := netip.ParseAddr(u.Hostname()); err != nil {
			tls.Sni = u.Hostname() // an address is no server name
		}
		cluster.TLSMatches = []effect.TLSMatch{{Name: u.Hostname(), TLS: tls}}
	}
	config := &tracev3.ZipkinConfig{
		CollectorCluster: cluster.Name, CollectorEndpoint: cmp.Or(u.Path, "/"), CollectorHostname: u.Host,
		CollectorEndpointVersion: tracev3.ZipkinConfig_HTTP_JSON,
	}
	if z.APIVersion == APIVersionProto {
		config.CollectorEndpointVersion = tracev3.ZipkinConfig_HTTP_PROTO
	}
	if z.TraceID128Bit != nil {
		config.TraceId_128Bit = *z.TraceID128Bit
	}
	if z.SharedSpanContext != nil {
		config.SharedSpanContext = wrapperspb.Bool(*z.SharedSpanContext)
	}
	return &backend{cluster, func(string, string) (string, proto.Message) { return "envoy.tracers.zipkin", config }}
}

func (d *Datadog) backend() *backend {
	u, port := server(d.URL)
	if u == nil {
		return nil
	}
	cluster := effect.NewCollector(clusterPrefix+"datadog", u.Hostname(), port, false)
	split := d.SplitService != nil && *d.SplitService
	return &backend{cluster, func(service, place string) (string, proto.Message) {
		if split {
			service += place
		}
		return "envoy.tracers.datadog", &tracev3.DatadogConfig{CollectorCluster: cluster.Name, ServiceName: service}
	}}
}

func (o *OpenTelemetry) backend() *backend {
	host, port, ok := effect.SplitCollector(o.Endpoint)
	if !ok {
		return nil
	}
	cluster := effect.NewCollector(clusterPrefix+"opentelemetry", host, port, true)
	return &backend{cluster, func(service, _ string) (string, proto.Message) {
		return "envoy.tracers.opentelemetry", &tracev3.OpenTelemetryConfig{
			ServiceName: service,
			GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: cluster.Name},
			}},
		}
	}}
}

// server reads a URL and its port, 0 without one; nil when it names no host.
func server(text string) (*url.URL, uint32) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" {
		return nil, 0
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		port = 0
	}
	return u, uint32(port)
}
