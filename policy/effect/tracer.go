package effect

import (
	"cmp"
	"net/netip"
	"net/url"
	"strconv"

	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Tracer is a tracing system in Envoy's terms.
type Tracer struct {
	// Cluster leads there.
	Cluster *Cluster
	// Provider names the tracer and configures it for a listener, whose place is told by a suffix.
	Provider func(service, place string) (name string, config proto.Message)
}

// Zipkin is a collector of Zipkin. SharedSpanContext may be nil.
type Zipkin struct {
	URL                  string
	TraceID128Bit, Proto bool
	SharedSpanContext    *bool
}

// Tracer returns nil for a URL without a host.
func (z Zipkin) Tracer(cluster string) *Tracer {
	u, port := Server(z.URL)
	if u == nil {
		return nil
	}
	c := NewCollector(cluster, u.Hostname(), port, false)
	if u.Scheme == "https" {
		tls := &tlsv3.UpstreamTlsContext{AllowRenegotiation: true}
		if _, err := netip.ParseAddr(u.Hostname()); err != nil {
			tls.Sni = u.Hostname() // an address is no server name
		}
		c.TLSMatches = []TLSMatch{{Name: u.Hostname(), TLS: tls}}
	}
	config := &tracev3.ZipkinConfig{
		CollectorCluster: cluster, CollectorEndpoint: cmp.Or(u.Path, "/"), CollectorHostname: u.Host,
		CollectorEndpointVersion: tracev3.ZipkinConfig_HTTP_JSON, TraceId_128Bit: z.TraceID128Bit,
	}
	if z.Proto {
		config.CollectorEndpointVersion = tracev3.ZipkinConfig_HTTP_PROTO
	}
	if z.SharedSpanContext != nil {
		config.SharedSpanContext = wrapperspb.Bool(*z.SharedSpanContext)
	}
	return &Tracer{c, func(string, string) (string, proto.Message) { return "envoy.tracers.zipkin", config }}
}

// NewDatadog makes the tracer of an agent of Datadog; split names the service apart for each place.
func NewDatadog(cluster, host string, port uint32, split bool) *Tracer {
	return &Tracer{NewCollector(cluster, host, port, false), func(service, place string) (string, proto.Message) {
		if split {
			service += place
		}
		return "envoy.tracers.datadog", &tracev3.DatadogConfig{CollectorCluster: cluster, ServiceName: service}
	}}
}

// Trace makes every request that passes an inbound, or an outbound by tags, a span, and adds the cluster (contract
// effects-security.md §7). Settings are called for each listener.
func (t *Tracer) Trace(p *Proxy, origin Origin, settings func() *hcmv3.HttpConnectionManager_Tracing) error {
	p.AddCluster(origin, t.Cluster)
	service := p.Service()
	for _, in := range p.Inbounds {
		if err := t.trace(in.Listener, service, "_INBOUND", settings); err != nil {
			return err
		}
	}
	for _, out := range p.Outbounds {
		if out.LegacyService == "" {
			continue
		}
		if err := t.trace(out.Listener, service, "_OUTBOUND_"+out.LegacyService, settings); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tracer) trace(l *Listener, service, place string, settings func() *hcmv3.HttpConnectionManager_Tracing) error {
	name, config := t.Provider(service, place)
	packed, err := Pack(config)
	if err != nil {
		return err
	}
	for _, chain := range l.Chains {
		h := chain.HCM()
		if h == nil {
			continue
		}
		h.Tracing = settings()
		h.Tracing.SpawnUpstreamSpan = wrapperspb.Bool(false)
		h.Tracing.Provider = &tracev3.Tracing_Http{Name: name, ConfigType: &tracev3.Tracing_Http_TypedConfig{TypedConfig: packed}}
	}
	return nil
}

// Server reads a URL and its port, 0 without one; nil when it names no host.
func Server(text string) (*url.URL, uint32) {
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
