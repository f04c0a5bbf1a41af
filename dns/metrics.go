package dns

import (
	"errors"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the resolver. The names are those of contract dns.md §3.2, because dashboards are made for them, also where they
// are not what one would choose; those from truncated on are ours.
type metrics struct {
	duration         prometheus.Histogram
	upstreamDuration prometheus.Histogram
	upstreamFailures prometheus.Counter
	entries          prometheus.Gauge
	tableWait        prometheus.Histogram
	queries          [2][3]prometheus.Counter // by source and type, resolved once for the hot path
	rcodes           [4]prometheus.Counter
	truncated        prometheus.Counter
	limited          prometheus.Counter
	loops            prometheus.Counter
	upstreamsUp      prometheus.Gauge
	strangers        prometheus.Counter
	cacheHits        prometheus.Counter
	cacheMisses      prometheus.Counter
	cacheEvictions   prometheus.Counter
	staleServed      prometheus.Counter
	coalesced        prometheus.Counter
	shortcuts        prometheus.Counter
	logDropped       prometheus.Counter
	perLatency       *prometheus.SummaryVec // by upstream: those of the list in use
	perFailures      *prometheus.CounterVec
}

// upstreamMetrics are those of one upstream.
type upstreamMetrics struct {
	latency  prometheus.Observer
	failures prometheus.Counter
}

func (m *metrics) upstream(addr netip.AddrPort) upstreamMetrics {
	return upstreamMetrics{m.perLatency.WithLabelValues(addr.String()), m.perFailures.WithLabelValues(addr.String())}
}

// forget removes the metrics of an upstream that is not asked any more, so that their number stays bounded.
func (m *metrics) forget(addr netip.AddrPort) {
	m.perLatency.DeleteLabelValues(addr.String())
	m.perFailures.DeleteLabelValues(addr.String())
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	var err error
	register := func(c prometheus.Collector) {
		if reg != nil && err == nil {
			err = reg.Register(c)
		}
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "kuma_dp", Subsystem: "dns", Name: name, Help: help})
		register(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "kuma_dp", Subsystem: "dns", Name: name, Help: help})
		register(g)
		return g
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "kuma_dp", Subsystem: "dns", Name: name, Help: help, Buckets: buckets,
		})
		register(h)
		return h
	}
	m := &metrics{
		duration:         histogram("request_duration_seconds", "Time from receiving a query to sending its answer.", prometheus.DefBuckets),
		upstreamDuration: histogram("upstream_request_duration_seconds", "Time an upstream took to answer.", prometheus.DefBuckets),
		upstreamFailures: counter("upstream_request_failure_count", "Queries to an upstream that brought no usable answer."),
		entries:          gauge("entries_total", "Names in the table of the mesh."),
		tableWait: histogram("config_ready_wait_seconds", "Time from start until the first table was there.",
			[]float64{0.1, 0.5, 1, 2, 5, 10, 30}),
		truncated:   counter("truncated_responses_total", "Answers over UDP that had to be cut."),
		limited:     counter("forward_limit_reached_total", "Queries answered SERVFAIL because too many were waiting for upstreams."),
		loops:       counter("loops_total", "Own queries that came back from an upstream."),
		upstreamsUp: gauge("upstreams_up", "Upstreams that are being asked."),
		strangers:   counter("strangers_total", "Queries and connections that came from elsewhere than this host and its networks, and got no answer."),

		cacheHits:      counter("cache_hits_total", "Queries answered from kept answers of upstreams."),
		cacheMisses:    counter("cache_misses_total", "Queries that no kept answer was there for."),
		cacheEvictions: counter("cache_evictions_total", "Kept answers given up for others before their time."),
		staleServed:    counter("stale_answers_total", "Answers given after their time because no upstream answered."),
		coalesced:      counter("coalesced_queries_total", "Queries that shared the question to an upstream with an equal one."),
		shortcuts:      counter("search_shortcuts_total", "Names of the mesh with a search domain, answered without asking."),
		logDropped:     counter("query_log_dropped_total", "Lines of the query log lost because it was too slow."),
		perLatency: prometheus.NewSummaryVec(prometheus.SummaryOpts{
			Namespace: "kuma_dp", Subsystem: "dns", Name: "upstream_latency_seconds", Help: "Time an upstream took to answer, by upstream.",
		}, []string{"upstream"}),
		perFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "kuma_dp", Subsystem: "dns", Name: "upstream_failures_total",
			Help: "Queries to an upstream that brought no usable answer, by upstream.",
		}, []string{"upstream"}),
	}
	register(m.perLatency)
	register(m.perFailures)
	queries := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "kuma_dp", Subsystem: "dns", Name: "queries_total",
		Help: "Queries by type and by who answered them: the table (local) or an upstream.",
	}, []string{"qtype", "source"})
	register(queries)
	rcodes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "kuma_dp", Subsystem: "dns", Name: "response_codes_total", Help: "Answers by response code.",
	}, []string{"rcode"})
	register(rcodes)
	for i, source := range []string{"local", "upstream"} {
		for j, qtype := range []string{"A", "AAAA", "other"} {
			m.queries[i][j] = queries.WithLabelValues(qtype, source)
		}
	}
	for i, rcode := range []string{"noerror", "nxdomain", "servfail", "other"} {
		m.rcodes[i] = rcodes.WithLabelValues(rcode)
	}
	return m, err
}

// registerState registers what is read from the server when somebody looks.
func (s *Server) registerState(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	age := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "kuma_dp", Subsystem: "dns", Name: "table_age_seconds",
		Help: "Time since the table of the mesh came, or since start while there is none.",
	}, func() float64 {
		if changed := s.tableChanged.Load(); changed != nil {
			return time.Since(*changed).Seconds()
		}
		return time.Since(s.created).Seconds()
	})
	loads := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: "kuma_dp", Subsystem: "dns", Name: "table_loads_total", Help: "Tables of the mesh that came into use.",
	}, func() float64 { return float64(s.tableLoads.Load()) })
	lost := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: "kuma_dp", Subsystem: "dns", Name: "socket_drops_total",
		Help: "Queries over UDP that the kernel dropped because the queue of a socket was full.",
	}, s.drops.total)
	return errors.Join(reg.Register(age), reg.Register(loads), reg.Register(lost))
}

// count records an answer. It allocates nothing.
func (m *metrics) count(q *query, answer []byte, upstream bool) {
	source, kind, code := 0, 2, 3
	if upstream {
		source = 1
	}
	switch q.qtype {
	case typeA:
		kind = 0
	case typeAAAA:
		kind = 1
	}
	switch answer[3] & rcodeMask {
	case rcodeOK:
		code = 0
	case rcodeNXDomain:
		code = 1
	case rcodeServFail:
		code = 2
	}
	if q.end > 0 {
		m.queries[source][kind].Inc()
	}
	m.rcodes[code].Inc()
	if answer[2]&(flagTC>>8) != 0 {
		m.truncated.Inc()
	}
}
