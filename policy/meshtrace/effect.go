package meshtrace

import (
	"encoding/json"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tracingv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"

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
	return b.Trace(p, effect.OriginTrace, func() *hcmv3.HttpConnectionManager_Tracing {
		tracing := &hcmv3.HttpConnectionManager_Tracing{CustomTags: conf.customTags()}
		if s := conf.Sampling; s != nil {
			tracing.OverallSampling = percent(s.Overall)
			tracing.ClientSampling = percent(s.Client)
			tracing.RandomSampling = percent(s.Random)
		}
		return tracing
	})
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

// newBackend returns nil for a backend without a host.
func newBackend(b Backend) *effect.Tracer {
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

func (z *Zipkin) backend() *effect.Tracer {
	return effect.Zipkin{
		URL: z.URL, TraceID128Bit: z.TraceID128Bit != nil && *z.TraceID128Bit, Proto: z.APIVersion == APIVersionProto,
		SharedSpanContext: z.SharedSpanContext,
	}.Tracer(clusterPrefix + "zipkin")
}

func (d *Datadog) backend() *effect.Tracer {
	u, port := effect.Server(d.URL)
	if u == nil {
		return nil
	}
	return effect.NewDatadog(clusterPrefix+"datadog", u.Hostname(), port, d.SplitService != nil && *d.SplitService)
}

func (o *OpenTelemetry) backend() *effect.Tracer {
	host, port, ok := effect.SplitCollector(o.Endpoint)
	if !ok {
		return nil
	}
	cluster := effect.NewCollector(clusterPrefix+"opentelemetry", host, port, true)
	return &effect.Tracer{Cluster: cluster, Provider: func(service, _ string) (string, proto.Message) {
		return "envoy.tracers.opentelemetry", &tracev3.OpenTelemetryConfig{
			ServiceName: service,
			GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: cluster.Name},
			}},
		}
	}}
}
