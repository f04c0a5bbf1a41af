package meshhealthcheck

import (
	"cmp"
	"encoding/hex"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filesinkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/health_check/event_sinks/file/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// What a field means that is not set.
const (
	defaultTimeout            = 15 * time.Second
	defaultInterval           = time.Minute
	defaultUnhealthyThreshold = 5
	defaultHealthyThreshold   = 1
)

const fileSink = "envoy.health_check.event_sinks.file"

// Key tells that the tags of a proxy are in the requests that it checks with.
func Key(env effect.Env, _ *policy.Rules) string { return env.SourceTags }

// Apply writes health checks and what panic means into clusters (contract effects-routing.md §9).
func Apply(p *effect.Proxy, r *policy.Rules) error {
	for _, b := range p.Backends {
		conf, ok := b.Conf(r).(*Conf)
		if !ok || b.External() {
			continue
		}
		conf.panic(b.Cluster)
		check, err := conf.check(b.Protocol, p.SourceTags)
		if err != nil {
			return err
		}
		// A check that Envoy would refuse is left out: it would take the whole cluster with it.
		if check != nil && check.ValidateAll() == nil {
			b.Cluster.HealthChecks = append(b.Cluster.HealthChecks, check)
		}
	}
	return nil
}

// panic is set also where nothing is checked.
func (c *Conf) panic(cluster *effect.Cluster) {
	lb := func() *clusterv3.Cluster_CommonLbConfig {
		if cluster.CommonLbConfig == nil {
			cluster.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{}
		}
		return cluster.CommonLbConfig
	}
	if c.HealthyPanicThreshold != nil {
		if n, ok := policy.Decimal(*c.HealthyPanicThreshold); ok && n >= 0 && n <= 100 {
			lb().HealthyPanicThreshold = &typev3.Percent{Value: n}
		}
	}
	// Weights of localities take the only place of what says how localities are used.
	if c.FailTrafficOnPanic != nil && cluster.GetCommonLbConfig().GetLocalityWeightedLbConfig() == nil {
		lb().LocalityConfigSpecifier = &clusterv3.Cluster_CommonLbConfig_ZoneAwareLbConfig_{
			ZoneAwareLbConfig: &clusterv3.Cluster_CommonLbConfig_ZoneAwareLbConfig{FailTrafficOnPanic: *c.FailTrafficOnPanic},
		}
	}
}

// check makes the check for a protocol, nil when there is none.
func (c *Conf) check(protocol, sourceTags string) (*corev3.HealthCheck, error) {
	out := &corev3.HealthCheck{}
	switch {
	case c.HTTP != nil && !isTrue(c.HTTP.Disabled) && (protocol == effect.HTTP || protocol == effect.HTTP2):
		out.HealthChecker = &corev3.HealthCheck_HttpHealthCheck_{HttpHealthCheck: c.HTTP.envoy(protocol, sourceTags)}
	case c.GRPC != nil && !isTrue(c.GRPC.Disabled) && protocol == effect.GRPC:
		out.HealthChecker = &corev3.HealthCheck_GrpcHealthCheck_{GrpcHealthCheck: &corev3.HealthCheck_GrpcHealthCheck{
			ServiceName: value(c.GRPC.ServiceName), Authority: value(c.GRPC.Authority),
		}}
	case c.TCP != nil && !isTrue(c.TCP.Disabled) && c.streams(protocol):
		out.HealthChecker = &corev3.HealthCheck_TcpHealthCheck_{TcpHealthCheck: c.TCP.envoy()}
	default:
		return nil, nil
	}
	out.Timeout = or(c.Timeout, defaultTimeout)
	out.Interval = or(c.Interval, defaultInterval)
	out.UnhealthyThreshold = wrapperspb.UInt32(defaultUnhealthyThreshold)
	if c.UnhealthyThreshold != nil {
		out.UnhealthyThreshold = effect.Number(c.UnhealthyThreshold)
	}
	out.HealthyThreshold = wrapperspb.UInt32(defaultHealthyThreshold)
	if c.HealthyThreshold != nil {
		out.HealthyThreshold = effect.Number(c.HealthyThreshold)
	}
	out.InitialJitter, out.IntervalJitter = effect.Span(c.InitialJitter), effect.Span(c.IntervalJitter)
	out.IntervalJitterPercent = value(c.IntervalJitterPercent)
	out.AlwaysLogHealthCheckFailures = isTrue(c.AlwaysLogHealthCheckFailures)
	out.NoTrafficInterval = effect.Span(c.NoTrafficInterval)
	if c.ReuseConnection != nil {
		out.ReuseConnection = wrapperspb.Bool(*c.ReuseConnection)
	}
	if path := value(c.EventLogPath); path != "" {
		sink, err := effect.Pack(&filesinkv3.HealthCheckEventFileSink{EventLogPath: path})
		if err != nil {
			return nil, err
		}
		out.EventLogger = []*corev3.TypedExtensionConfig{{Name: fileSink, TypedConfig: sink}}
	}
	return out, nil
}

// streams tells whether the check of TCP is the one for a protocol. It stands in for a richer one only where that is
// switched off, not where it is absent.
func (c *Conf) streams(protocol string) bool {
	switch protocol {
	case effect.HTTP, effect.HTTP2:
		return c.HTTP != nil
	case effect.GRPC:
		return c.GRPC != nil
	}
	return protocol == effect.TCP
}

func (h *HTTP) envoy(protocol, sourceTags string) *corev3.HealthCheck_HttpHealthCheck {
	out := &corev3.HealthCheck_HttpHealthCheck{Path: cmp.Or(value(h.Path), "/")}
	if protocol == effect.HTTP2 {
		out.CodecClientType = typev3.CodecClientType_HTTP2
	}
	if sourceTags != "" {
		out.RequestHeadersToAdd = []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "x-kuma-tags", Value: sourceTags}}}
	}
	if m := h.RequestHeadersToAdd; m != nil {
		out.RequestHeadersToAdd = appendHeaders(out.RequestHeadersToAdd, m.Add, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD)
		out.RequestHeadersToAdd = appendHeaders(out.RequestHeadersToAdd, m.Set, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)
	}
	for _, s := range h.ExpectedStatuses {
		out.ExpectedStatuses = append(out.ExpectedStatuses, &typev3.Int64Range{Start: int64(s), End: int64(s) + 1})
	}
	return out
}

// appendHeaders makes several headers of a value with commas.
func appendHeaders(to []*corev3.HeaderValueOption, from []policy.HeaderValue, action corev3.HeaderValueOption_HeaderAppendAction) []*corev3.HeaderValueOption {
	for _, h := range from {
		for v := range strings.SplitSeq(h.Value, ",") {
			to = append(to, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: h.Name, Value: v}, AppendAction: action})
		}
	}
	return to
}

func (t *TCP) envoy() *corev3.HealthCheck_TcpHealthCheck {
	out := &corev3.HealthCheck_TcpHealthCheck{}
	if t.Send != nil {
		out.Send = payload(*t.Send)
	}
	for _, r := range t.Receive {
		out.Receive = append(out.Receive, payload(r))
	}
	return out
}

// payload takes the text as it is written: Kuma 2.9 does not undo the base64 (contract effects-routing.md §9).
func payload(text string) *corev3.HealthCheck_Payload {
	return &corev3.HealthCheck_Payload{Payload: &corev3.HealthCheck_Payload_Text{Text: hex.EncodeToString([]byte(text))}}
}

func isTrue(b *bool) bool { return b != nil && *b }

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func or(d *resource.Duration, otherwise time.Duration) *durationpb.Duration {
	if d == nil {
		return durationpb.New(otherwise)
	}
	return effect.Span(d)
}
