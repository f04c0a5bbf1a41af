package resource_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/resource"
)

// older is a policy with connections from a to b, and what else it says.
func older(kind, rest string) string {
	return "{type: " + kind + ", mesh: m, name: p, sources: [{match: {kuma.io/service: a}}], destinations: [{match: {kuma.io/service: b}}]" + rest + "}"
}

func TestOlderPolicies(t *testing.T) {
	const oneOf = "conf: must have at least one defined: "
	checkAll(t, []validation{
		{"permission", older("TrafficPermission", ""), nil},
		{"any tag", "{type: TrafficPermission, mesh: m, name: p, sources: [{match: {kuma.io/service: '*', team: x}}], destinations: [{match: {kuma.io/service: b, version: '1.0'}}, {match: {kuma.io/service: c}}]}", nil},
		{"no selectors", "{type: TrafficPermission, mesh: m, name: p}", []string{"sources: must have at least one element", "destinations: must have at least one element"}},
		{"no tags", "{type: TrafficPermission, mesh: m, name: p, sources: [{}], destinations: [{match: {a: b c}}]}", []string{
			"sources[0].match: must have at least one tag", "sources[0].match: " + noService,
			`destinations[0].match["a"]: tag value must consist of alphanumeric characters, dots, dashes and underscores`, "destinations[0].match: " + noService,
		}},
		{"log", older("TrafficLog", ", conf: {backend: f}"), nil},
		{"log to the default", older("TrafficLog", ""), nil},
		{"log by version", "{type: TrafficLog, mesh: m, name: p, sources: [{match: {kuma.io/service: a, version: v1}}], destinations: [{match: {kuma.io/service: b, version: v1}}]}", []string{`destinations[0].match["version"]: tag "version" is not allowed: only "kuma.io/service" is`}},
		{"trace", "{type: TrafficTrace, mesh: m, name: p, selectors: [{match: {kuma.io/service: '*'}}], conf: {backend: z}}", nil},
		{"trace of nobody", "{type: TrafficTrace, mesh: m, name: p}", []string{"selectors: must have at least one element"}},
		{"faults", older("FaultInjection", ", conf: {delay: {percentage: 50.5, value: 5s}, abort: {percentage: 0, httpStatus: 503}, responseBandwidth: {percentage: 100, limit: 50 mbps}}"), nil},
		{"no faults", older("FaultInjection", ""), []string{oneOf + "delay, abort, responseBandwidth"}},
		{"empty faults", older("FaultInjection", ", conf: {}"), []string{oneOf + "delay, abort, responseBandwidth"}},
		{"faults of nothing", older("FaultInjection", ", conf: {delay: {}, abort: {}, responseBandwidth: {}}"), []string{
			"conf.delay.percentage: cannot be empty", "conf.delay.value: cannot be empty", "conf.abort.percentage: cannot be empty", "conf.abort.httpStatus: must be in inclusive range [200, 599]",
			"conf.responseBandwidth.percentage: cannot be empty", "conf.responseBandwidth.limit: must be a number of more than zero in kbps, mbps or gbps, such as 50 mbps",
		}},
		{"faults that cannot be", older("FaultInjection", ", conf: {delay: {percentage: -1, value: 0s}, abort: {percentage: 101, httpStatus: 600}, responseBandwidth: {percentage: 1, limit: 0kbps}}"), []string{
			"conf.delay.percentage: must be in inclusive range [0.0, 100.0]", "conf.delay.value: must be greater than: 0s", "conf.abort.percentage: must be in inclusive range [0.0, 100.0]", "conf.abort.httpStatus: must be in inclusive range [200, 599]",
			"conf.responseBandwidth.limit: must be a number of more than zero in kbps, mbps or gbps, such as 50 mbps",
		}},
		{"faults of connections", "{type: FaultInjection, mesh: m, name: p, sources: [{match: {kuma.io/service: a, kuma.io/protocol: tcp}}], destinations: [{match: {kuma.io/service: b, kuma.io/protocol: tcp}}], conf: {delay: {percentage: 1, value: 1 s}}}", []string{
			`destinations[0].match["kuma.io/protocol"]: must be one of http, http2, grpc: faults are for requests`, "conf.delay.value: has to be a duration, such as 10s",
		}},
		{"limit", older("RateLimit", ", conf: {http: {requests: 5, interval: 10s, onRateLimit: {status: 423, headers: [{key: x, value: 'true', append: true}]}}}"), nil},
		{"no limit", older("RateLimit", ", conf: {}"), []string{oneOf + "http"}},
		{"limit of nothing", older("RateLimit", ", conf: {http: {onRateLimit: {status: 99, headers: [{value: a}]}}}"), []string{
			"conf.http.requests: must be greater than 0", "conf.http.interval: cannot be empty",
			"conf.http.onRateLimit.status: must be in inclusive range [100, 599]", "conf.http.onRateLimit.headers[0].key: cannot be empty",
		}},
		{"limit in no time", older("RateLimit", ", conf: {http: {requests: 5, interval: 50ms}}"), []string{"conf.http.interval: must be greater than: 50ms"}},
	})
}

// TestOlderPolicyForms: they are flat, and on Kubernetes without a namespace.
func TestOlderPolicyForms(t *testing.T) {
	r := decode(t, older("TrafficLog", ", conf: {backend: f}, unknown: 1"))
	const universal = `{"type":"TrafficLog","mesh":"m","name":"p","sources":[{"match":{"kuma.io/service":"a"}}],"destinations":[{"match":{"kuma.io/service":"b"}}],"conf":{"backend":"f"}}`
	const kubernetes = `{"kind":"TrafficLog","apiVersion":"kuma.io/v1alpha1","metadata":{"name":"p"},"mesh":"m","spec":{"sources":[{"match":{"kuma.io/service":"a"}}],"destinations":[{"match":{"kuma.io/service":"b"}}],"conf":{"backend":"f"}}}`
	got, err := registry().Encode(r, resource.FormUniversal)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(universal, string(got)); diff != "" {
		t.Errorf("universal (-want +got):\n%s", diff)
	}
	if got, err = registry().EncodeKubernetes(r, "kuma-system"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kubernetes, string(got)); diff != "" {
		t.Errorf("kubernetes (-want +got):\n%s", diff)
	}
	back, namespace, err := resource.UniversalFromKubernetes(got)
	if err != nil || namespace != "" {
		t.Fatalf("namespace %q, %v", namespace, err)
	}
	if diff := cmp.Diff(universal, string(back)); diff != "" {
		t.Errorf("back (-want +got):\n%s", diff)
	}
}

// TestOlderPolicyLabels: they are no zone's own, but the global control plane's where there is one (contract policies.md §1.4).
func TestOlderPolicyLabels(t *testing.T) {
	r := decode(t, older("RateLimit", ""))
	resource.ComputeLabels(r, resource.ZoneInfo{Zone: "zone-a"})
	if diff := cmp.Diff(map[string]string{resource.LabelMesh: "m"}, r.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

// TestOlderBackends: a policy that names no backend gets the default one.
func TestOlderBackends(t *testing.T) {
	m := resource.SpecOf[*resource.Mesh](decode(t, `{type: Mesh, name: m, logging: {defaultBackend: b, backends: [{name: a}, {name: b}]}, tracing: {backends: [{name: a}]}}`))
	for _, tt := range []struct{ name, logging, tracing string }{{"a", "a", "a"}, {"", "b", ""}, {"c", "", ""}} {
		logging, tracing := "", ""
		if b := m.LoggingBackend(tt.name); b != nil {
			logging = b.Name
		}
		if b := m.TracingBackend(tt.name); b != nil {
			tracing = b.Name
		}
		if logging != tt.logging || tracing != tt.tracing {
			t.Errorf("%q is %q and %q, want %q and %q", tt.name, logging, tracing, tt.logging, tt.tracing)
		}
	}
	if none := (&resource.Mesh{}); none.LoggingBackend("a") != nil || none.TracingBackend("") != nil {
		t.Error("a mesh without backends has some")
	}
}
