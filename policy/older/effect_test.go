package older

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestPermit(t *testing.T) {
	policies := []string{
		"{type: TrafficPermission, mesh: m, name: two, sources: [{match: {kuma.io/service: web, version: v1}}, {match: {kuma.io/service: '*', team: '*'}}], destinations: [{match: {kuma.io/service: a}}]}",
	}
	const let = `{"@type":"type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC","rules":{"policies":{"two":{"permissions":[{"any":true}],"principals":[` +
		`{"andIds":{"ids":[{"authenticated":{"principalName":{"exact":"spiffe://m/web"}}},{"authenticated":{"principalName":{"exact":"kuma://version/v1"}}}]}},` +
		`{"andIds":{"ids":[{"authenticated":{"principalName":{"prefix":"spiffe://m/"}}},{"authenticated":{"principalName":{"prefix":"kuma://team/"}}}]}}]}}},"statPrefix":"inbound_10_0_0_1_1."}`
	const nobody = `{"@type":"type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC","rules":{},"statPrefix":"inbound_10_0_0_1_2."}`
	a, b := "{kuma.io/service: a, kuma.io/protocol: http}", "{kuma.io/service: b}"
	for _, mode := range []string{"", resource.MTLSStrict, resource.MTLSPermissive} {
		p := apply(t, setOf(t, policies...), mode, dataplane(t, a, b))
		for i, want := range []string{let, nobody} {
			in := p.Inbounds[i]
			for n, c := range in.Listener.Chains {
				first := c.Filters[0]
				switch secured := c.TLS != nil; {
				case secured != (first.Name == effect.FilterNetworkRBAC):
					t.Errorf("mode %q: chain %d of inbound %d begins with %s", mode, n, i, first.Name)
				case secured && in.Older[resource.KindTrafficPermission]:
				case secured || in.Older[resource.KindTrafficPermission] != (mode != ""):
					t.Errorf("mode %q: inbound %d is claimed: %v", mode, i, in.Older)
				}
			}
			if text := textOf(t, in.Listener); mode != "" {
				contains(t, text, `{"name":"envoy.filters.network.rbac","typedConfig":`+want+"}")
			}
		}
	}
	// A proxy that no permission is for is left alone.
	p := apply(t, setOf(t, policies...), resource.MTLSStrict, dataplane(t, b))
	if c := p.Inbounds[0].Listener.Chains[0]; len(c.Filters) != 1 || p.Inbounds[0].Older != nil {
		t.Errorf("filters are %v", c.Filters)
	}
}

func TestFaults(t *testing.T) {
	s := setOf(t,
		"{type: FaultInjection, mesh: m, name: old, sources: [{match: {kuma.io/service: web}}], destinations: [{match: {kuma.io/service: '*'}}], conf: {abort: {httpStatus: 503, percentage: 0.5}, delay: {value: 1m30s, percentage: 100}, responseBandwidth: {limit: 2 mbps, percentage: 0.0001}}}",
		"{type: FaultInjection, mesh: m, name: new, sources: [{match: {kuma.io/service: '*'}}, {match: {kuma.io/service: x, version: '1.0'}}], destinations: [{match: {kuma.io/service: a}}], conf: {abort: {httpStatus: 500, percentage: 0}}}",
	)
	p := apply(t, s, "", dataplane(t, "{kuma.io/service: a, kuma.io/protocol: http}", "{kuma.io/service: a, kuma.io/protocol: grpc}", "{kuma.io/service: a}", "{kuma.io/service: b, kuma.io/protocol: http2}"))
	const fault = `{"name":"envoy.filters.http.fault","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",`
	const older = fault + `"abort":{"httpStatus":503,"percentage":{"denominator":"TEN_THOUSAND","numerator":50}},"delay":{"fixedDelay":"90s","percentage":{"numerator":100}},` +
		`"headers":[{"name":"x-kuma-tags","safeRegexMatch":{"regex":".*\u0026kuma.io/service=[^\u0026]*web[,\u0026].*"}}],"responseRateLimit":{"fixedLimit":{"limitKbps":"2000"},"percentage":{"denominator":"MILLION","numerator":1}}}}`
	const newer = fault + `"abort":{"httpStatus":500,"percentage":{}},` +
		`"headers":[{"name":"x-kuma-tags","safeRegexMatch":{"regex":"(.*\u0026kuma.io/service=.*|.*\u0026kuma.io/service=[^\u0026]*x[,\u0026].*\u0026version=[^\u0026]*1\\.0[,\u0026].*)"}}]}}`
	for i, want := range []string{newer + "," + older, newer + "," + older, "", older} {
		text := textOf(t, p.Inbounds[i].Listener)
		if want == "" && strings.Contains(text, "fault") {
			t.Errorf("inbound %d has faults: %s", i, text)
		}
		contains(t, text, want)
		if want != "" {
			contains(t, text, want+`,{"name":"envoy.filters.http.router"`)
		}
		if !p.Inbounds[i].Older[resource.KindFaultInjection] {
			t.Errorf("inbound %d is not claimed", i)
		}
	}
}

func TestLimits(t *testing.T) {
	s := setOf(t,
		"{type: RateLimit, mesh: m, name: web, sources: [{match: {kuma.io/service: web}}], destinations: [{match: {kuma.io/service: '*'}}], conf: {http: {requests: 5, interval: 100ms, onRateLimit: {status: 503, headers: [{key: a, value: b}, {key: c, value: d, append: true}]}}}}",
		"{type: RateLimit, mesh: m, name: any, sources: [{match: {kuma.io/service: '*'}}], destinations: [{match: {kuma.io/service: a}}], conf: {http: {requests: 9, interval: 1s}}}",
	)
	p := apply(t, s, resource.MTLSPermissive, dataplane(t, "{kuma.io/service: a, kuma.io/protocol: http}", "{kuma.io/service: a}"))
	if !p.Inbounds[0].Older[resource.KindRateLimit] || !p.Inbounds[1].Older[resource.KindRateLimit] {
		t.Error("an inbound is not claimed")
	}
	for _, chain := range p.Inbounds[0].Listener.Chains {
		h := chain.HCM()
		var names, routes []string
		for _, f := range h.Filters {
			names = append(names, f.Name)
		}
		for _, r := range h.GetRouteConfig().VirtualHosts[0].Routes {
			routes = append(routes, jsonOf(t, r))
		}
		if diff := gocmp.Diff([]string{"envoy.filters.http.local_ratelimit", "envoy.filters.http.router"}, names); diff != "" {
			t.Errorf("filters (-want +got):\n%s", diff)
		}
		if len(routes) != 3 {
			t.Fatalf("routes are %v", routes)
		}
		// Whoever is named is limited as such, not as anybody.
		contains(t, routes[0], `"match":{"headers":[{"name":"x-kuma-tags","safeRegexMatch":{"regex":".*\u0026kuma.io/service=[^\u0026]*web[,\u0026].*"}}],"prefix":"/"}`,
			`"tokenBucket":{"fillInterval":"0.100s","maxTokens":5,"tokensPerFill":5}`, `"status":{"code":"ServiceUnavailable"}`,
			`"responseHeadersToAdd":[{"appendAction":"OVERWRITE_IF_EXISTS_OR_ADD","header":{"key":"a","value":"b"}},{"header":{"key":"c","value":"d"}}]`)
		contains(t, routes[1], `.*\u0026kuma.io/service=.*"`, `"maxTokens":9`)
		if routes[2] != `{"match":{"prefix":"/"},"route":{"cluster":"localhost:1","timeout":"0s"}}` {
			t.Errorf("the last route is %s", routes[2])
		}
	}
	textOf(t, p.Inbounds[0].Listener)
}

func TestLogs(t *testing.T) {
	logTo := func(name, source, destination, conf string) string {
		return "{type: TrafficLog, mesh: m, name: " + name + ", sources: [{match: " + source + "}], destinations: [{match: {kuma.io/service: " + destination + "}}]" + conf + "}"
	}
	const a, all = "{kuma.io/service: a}", "{kuma.io/service: '*'}"
	const file, tcp, none = "/f", `"path":"/w/kuma-al-d-m.sock"`, ""
	for _, tt := range []struct {
		name              string
		policies          []string
		web, db, past     string
		warning           string
		effective, tagged bool
	}{
		{"everywhere to the default", []string{logTo("l", all, "'*'", "")}, file, file, file, "", true, true},
		{"one destination", []string{logTo("l", a, "web", ", conf: {backend: t}")}, tcp, none, none, "", true, true},
		{"what passes by", []string{logTo("l", a, "pass_through", "")}, none, none, file, "", true, true},
		{"the more specific", []string{logTo("l", all, "web", ", conf: {backend: t}"), logTo("k", all, "'*'", "")}, tcp, file, file, "", true, true},
		{"by source", []string{logTo("l", a, "'*'", ", conf: {backend: t}"), logTo("k", all, "'*'", "")}, tcp, tcp, tcp, "", true, true},
		{"another source", []string{logTo("l", "{kuma.io/service: b}", "'*'", "")}, none, none, none, "", false, false},
		{"no backend", []string{logTo("l", all, "web", ", conf: {backend: x}"), logTo("k", all, "'*'", "")}, none, file, file, "TrafficLog l has no effect: logging.backends of the Mesh has no such backend, or no default one", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, dp := setOf(t, tt.policies...), dataplane(t, "{kuma.io/service: a, kuma.io/protocol: http}")
			if r := s.Rules(dp); effect.Effective(r) != tt.effective || r != nil && r.Tagged != tt.tagged {
				t.Errorf("rules are %v", r)
			}
			p := apply(t, s, "", dp)
			for i, want := range []string{tt.web, tt.db, none} {
				text := textOf(t, p.Outbounds[i].Listener)
				contains(t, text, want)
				if want == none && strings.Contains(text, "accessLog") {
					t.Errorf("outbound %d is logged: %s", i, text)
				}
			}
			past := textOf(t, p.Passthrough[0].Listener)
			contains(t, past, tt.past)
			if (tt.past != none) != strings.Contains(past, "(external)") && tt.past != tcp {
				t.Errorf("what passes by: %s", past)
			}
			if in := textOf(t, p.Inbounds[0].Listener); strings.Contains(in, "accessLog") {
				t.Errorf("the inbound is logged: %s", in)
			}
			if got := strings.Join(p.Warnings(), "\n"); got != tt.warning {
				t.Errorf("warnings are %q, want %q", got, tt.warning)
			}
		})
	}
	p := apply(t, setOf(t, logTo("l", all, "web", ", conf: {backend: t}")), "", dataplane(t, a))
	contains(t, textOf(t, p.Outbounds[0].Listener), `"inlineString":"logs:99;a OUTBOUND\n"`)
}

func TestTraces(t *testing.T) {
	trace := func(name, selector, conf string) string {
		return "{type: TrafficTrace, mesh: m, name: " + name + ", selectors: [{match: " + selector + "}]" + conf + "}"
	}
	http := dataplane(t, "{kuma.io/service: a, kuma.io/protocol: http}")
	p := apply(t, setOf(t, trace("all", "{kuma.io/service: '*'}", "")), "", http)
	const zipkin = `"tracing":{"overallSampling":{"value":1.5},"provider":{"name":"envoy.tracers.zipkin","typedConfig":{"@type":"type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",` +
		`"collectorCluster":"tracing:z","collectorEndpoint":"/api","collectorEndpointVersion":"HTTP_PROTO","collectorHostname":"z.example.com","sharedSpanContext":false,"traceId128bit":true}},"spawnUpstreamSpan":false}`
	contains(t, textOf(t, p.Inbounds[0].Listener), zipkin)
	contains(t, textOf(t, p.Outbounds[0].Listener), zipkin)
	if text := textOf(t, p.Outbounds[2].Listener); strings.Contains(text, "tracing") {
		t.Errorf("an outbound to a service object makes spans: %s", text)
	}
	p = apply(t, setOf(t, trace("all", "{kuma.io/service: '*'}", ""), trace("a", "{kuma.io/service: a}", ", conf: {backend: d}")), "", http)
	contains(t, textOf(t, p.Inbounds[0].Listener), `"tracing":{"provider"`, `{"@type":"type.googleapis.com/envoy.config.trace.v3.DatadogConfig","collectorCluster":"tracing:d","serviceName":"a_INBOUND"}`)
	contains(t, textOf(t, p.Outbounds[0].Listener), `"serviceName":"a_OUTBOUND_web"`)
	// The cluster is also for a proxy without requests.
	p = apply(t, setOf(t, trace("all", "{kuma.io/service: '*'}", ", conf: {backend: d}")), "", dataplane(t, "{kuma.io/service: b}"))
	added, err := p.BuildAdded()
	if err != nil || len(added) != 1 || added[0].Origin != effect.OriginTracing {
		t.Fatalf("added %v, %v", added, err)
	}
	contains(t, jsonOf(t, added[0].Message), `"name":"tracing:d"`, `"address":"10.0.0.9","portValue":8126`)
	p = apply(t, setOf(t, trace("t", "{kuma.io/service: '*'}", ", conf: {backend: x}")), "", http)
	if got := strings.Join(p.Warnings(), "\n"); got != "TrafficTrace t has no effect: tracing.backends of the Mesh has no such backend, or no default one" {
		t.Errorf("warnings are %q", got)
	}
}
