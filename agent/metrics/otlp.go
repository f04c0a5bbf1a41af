package metrics

import (
	"maps"
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	metricsv1 "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcev1 "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"
)

// maxRequest bounds a request, in bytes: collectors take 4 MiB if not told otherwise.
const maxRequest = 2 << 20

// Labels of Prometheus that name the scope of OpenTelemetry (contract agent.md §4.4).
const (
	scopeName    = "otel_scope_name"
	scopeVersion = "otel_scope_version"
)

type scope struct{ name, version string }

// otlp makes requests of families, each within maxRequest unless one family is larger: gauges; counters as monotonic
// cumulative sums since began; histograms and summaries (contract agent.md §4.4). Families without a type are left out:
// nobody could tell whether they may be summed.
func otlp(f families, service string, began, now time.Time) []*metricsv1.MetricsData {
	var out []*metricsv1.MetricsData
	var resource *metricsv1.ResourceMetrics
	scopes := map[scope]*metricsv1.ScopeMetrics{}
	size := 0
	for _, name := range slices.Sorted(maps.Keys(f)) {
		byScope := map[scope][]*dto.Metric{}
		for _, m := range f[name].GetMetric() {
			s := scopeOf(m)
			byScope[s] = append(byScope[s], m)
		}
		for s, samples := range byScope {
			metric := metricOf(f[name], samples, uint64(began.UnixNano()), uint64(now.UnixNano()))
			if metric == nil {
				continue
			}
			n := proto.Size(metric)
			if resource == nil || size+n > maxRequest {
				resource = &metricsv1.ResourceMetrics{Resource: &resourcev1.Resource{Attributes: []*commonv1.KeyValue{attribute("service.name", service)}}}
				out = append(out, &metricsv1.MetricsData{ResourceMetrics: []*metricsv1.ResourceMetrics{resource}})
				clear(scopes)
				size = 0
			}
			size += n
			in := scopes[s]
			if in == nil {
				in = &metricsv1.ScopeMetrics{Scope: &commonv1.InstrumentationScope{Name: s.name, Version: s.version}}
				scopes[s] = in
				resource.ScopeMetrics = append(resource.ScopeMetrics, in)
			}
			in.Metrics = append(in.Metrics, metric)
		}
	}
	return out
}

func scopeOf(m *dto.Metric) scope {
	var s scope
	for _, l := range m.GetLabel() {
		switch l.GetName() {
		case scopeName:
			s.name = l.GetValue()
		case scopeVersion:
			s.version = l.GetValue()
		}
	}
	return s
}

// metricOf returns nil for a type that OpenTelemetry has no word for.
func metricOf(f *dto.MetricFamily, samples []*dto.Metric, began, now uint64) *metricsv1.Metric {
	out := &metricsv1.Metric{Name: f.GetName(), Description: f.GetHelp()}
	const cumulative = metricsv1.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE
	switch f.GetType() {
	case dto.MetricType_GAUGE:
		g := &metricsv1.Gauge{}
		for _, m := range samples {
			g.DataPoints = append(g.DataPoints, number(m, m.GetGauge().GetValue(), 0, now))
		}
		out.Data = &metricsv1.Metric_Gauge{Gauge: g}
	case dto.MetricType_COUNTER:
		s := &metricsv1.Sum{AggregationTemporality: cumulative, IsMonotonic: true}
		for _, m := range samples {
			s.DataPoints = append(s.DataPoints, number(m, m.GetCounter().GetValue(), began, now))
		}
		out.Data = &metricsv1.Metric_Sum{Sum: s}
	case dto.MetricType_HISTOGRAM:
		h := &metricsv1.Histogram{AggregationTemporality: cumulative}
		for _, m := range samples {
			h.DataPoints = append(h.DataPoints, histogram(m, began, now))
		}
		out.Data = &metricsv1.Metric_Histogram{Histogram: h}
	case dto.MetricType_SUMMARY:
		s := &metricsv1.Summary{}
		for _, m := range samples {
			s.DataPoints = append(s.DataPoints, summary(m, began, now))
		}
		out.Data = &metricsv1.Metric_Summary{Summary: s}
	default:
		return nil
	}
	return out
}

func number(m *dto.Metric, v float64, began, now uint64) *metricsv1.NumberDataPoint {
	return &metricsv1.NumberDataPoint{
		Attributes: labels(m), StartTimeUnixNano: began, TimeUnixNano: at(m, now), Value: &metricsv1.NumberDataPoint_AsDouble{AsDouble: v},
	}
}

// histogram takes the sums out of the buckets; the last one, without a bound, is what remains.
func histogram(m *dto.Metric, began, now uint64) *metricsv1.HistogramDataPoint {
	h := m.GetHistogram()
	p := &metricsv1.HistogramDataPoint{
		Attributes: labels(m), StartTimeUnixNano: began, TimeUnixNano: at(m, now), Count: h.GetSampleCount(), Sum: proto.Float64(h.GetSampleSum()),
	}
	below := uint64(0)
	for _, b := range h.GetBucket() {
		if math.IsInf(b.GetUpperBound(), 1) {
			continue
		}
		n := max(b.GetCumulativeCount(), below)
		p.ExplicitBounds = append(p.ExplicitBounds, b.GetUpperBound())
		p.BucketCounts = append(p.BucketCounts, n-below)
		below = n
	}
	p.Count = max(p.Count, below)
	p.BucketCounts = append(p.BucketCounts, p.Count-below)
	return p
}

func summary(m *dto.Metric, began, now uint64) *metricsv1.SummaryDataPoint {
	s := m.GetSummary()
	p := &metricsv1.SummaryDataPoint{
		Attributes: labels(m), StartTimeUnixNano: began, TimeUnixNano: at(m, now), Count: s.GetSampleCount(), Sum: s.GetSampleSum(),
	}
	for _, q := range s.GetQuantile() {
		p.QuantileValues = append(p.QuantileValues, &metricsv1.SummaryDataPoint_ValueAtQuantile{Quantile: q.GetQuantile(), Value: q.GetValue()})
	}
	return p
}

// at is the time of a sample, which most do not tell.
func at(m *dto.Metric, now uint64) uint64 {
	if ms := m.GetTimestampMs(); ms > 0 {
		return uint64(ms) * uint64(time.Millisecond)
	}
	return now
}

func labels(m *dto.Metric) []*commonv1.KeyValue {
	out := make([]*commonv1.KeyValue, 0, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		if l.GetName() != scopeName && l.GetName() != scopeVersion {
			out = append(out, attribute(l.GetName(), l.GetValue()))
		}
	}
	return out
}

func attribute(key, value string) *commonv1.KeyValue {
	return &commonv1.KeyValue{Key: key, Value: &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: value}}}
}
