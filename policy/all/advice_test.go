package all_test

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// TestAdvice: what is valid and will not work all the same is told by its field.
func TestAdvice(t *testing.T) {
	from := func(conf string) string {
		return "targetRef: {kind: Mesh, proxyTypes: [Sidecar]}, from: [{targetRef: {kind: Mesh}, default: " + conf + "}]"
	}
	to := func(conf string) string { return "to: [{targetRef: {kind: Mesh}, default: " + conf + "}]" }
	conf := func(conf string) string { return "default: " + conf }
	limit := func(status string) string {
		return from("{local: {http: {requestRate: {num: 1, interval: 1s}, onRateLimit: {status: " + status + "}}}}")
	}
	fault := func(fault string) string { return from("{http: [{}, " + fault + "]}") }
	body := func(body string) string {
		return to("{backends: [{type: OpenTelemetry, openTelemetry: {endpoint: a:1, body: " + body + "}}]}")
	}
	const (
		onlyTexts  = "Envoy refuses the listener with values other than stringValue, arrayValue and kvlistValue: write numbers as texts"
		noInterval = "Envoy refuses the listener with a backOff that has none: set it, unless another policy does"
	)
	for _, tt := range []struct {
		kind, spec string
		want       []string
	}{
		{"MeshRateLimit", limit("420"), []string{"spec.from[0].default.local.http.onRateLimit.status: Envoy knows no status 420 and refuses the listener: choose another"}},
		{"MeshRateLimit", limit("4294967295"), []string{"spec.from[0].default.local.http.onRateLimit.status: Envoy knows no status 4294967295 and refuses the listener: choose another"}},
		{"MeshRateLimit", limit("503"), nil},
		{"MeshRateLimit", limit("0"), nil},
		{"MeshRateLimit", from("{local: {tcp: {disabled: true}}}"), nil},
		{"MeshFaultInjection", fault("{delay: {value: 0s, percentage: 5}}"), []string{"spec.from[0].default.http[1].delay.value: Envoy refuses the listener with a delay of zero: remove the delay"}},
		{"MeshFaultInjection", fault("{abort: {httpStatus: 100, percentage: 5}, delay: {value: 1s, percentage: 5}}"), []string{
			"spec.from[0].default.http[1].abort.httpStatus: Envoy answers with no status below 200, the abort with 100 is left out",
		}},
		{"MeshFaultInjection", fault("{abort: {httpStatus: 200, percentage: 5}, responseBandwidth: {limit: 0kbps, percentage: 5}}"), []string{
			"spec.from[0].default.http[1].responseBandwidth.limit: it is less than 1kbps and left out",
		}},
		{"MeshRetry", to("{http: {backOff: {maxInterval: 3s}}, grpc: {backOff: {}}}"), []string{
			"spec.to[0].default.http.backOff.baseInterval: " + noInterval, "spec.to[0].default.grpc.backOff.baseInterval: " + noInterval,
		}},
		{"MeshRetry", to("{http: {backOff: {baseInterval: 3s}}, grpc: {numRetries: 1}}"), nil},
		{"MeshAccessLog", body("{intValue: 7}"), []string{"spec.to[0].default.backends[0].openTelemetry.body: " + onlyTexts}},
		{"MeshAccessLog", body("{kvlistValue: {values: [{key: a, value: {arrayValue: {values: [{stringValue: b}, {boolValue: true}]}}}]}}"), []string{
			"spec.to[0].default.backends[0].openTelemetry.body: " + onlyTexts,
		}},
		{"MeshAccessLog", body("{kvlistValue: {values: [{key: a, value: {arrayValue: {values: [{stringValue: b}]}}}]}}"), nil},
		{"MeshAccessLog", body("null"), nil},
		{"MeshAccessLog", to("{backends: [{type: OpenTelemetry, openTelemetry: {endpoint: ':1'}}]}"), []string{
			"spec.to[0].default.backends[0].openTelemetry.endpoint: it has no host, nothing is sent",
		}},
		{"MeshTrace", conf("{backends: [{type: OpenTelemetry, openTelemetry: {endpoint: ':1'}}]}"), []string{
			"spec.default.backends[0].openTelemetry.endpoint: it has no host, no spans are made",
		}},
		{"MeshTrace", conf("{backends: [{type: OpenTelemetry, openTelemetry: {endpoint: 'a:1'}}]}"), nil},
		{"MeshTimeout", to("{http: {requestTimeout: 0s}}"), nil},
	} {
		r, err := resource.NewRegistry(all.Descriptors()...).DecodeYAML([]byte("{type: " + tt.kind + ", mesh: m, name: p, spec: {" + tt.spec + "}}"))
		if err != nil {
			t.Fatal(err)
		}
		if faults := resource.Validate(r); len(faults) > 0 {
			t.Errorf("%s %s: %v", tt.kind, tt.spec, faults)
		}
		if diff := gocmp.Diff(tt.want, policy.Advice(r)); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", tt.kind, tt.spec, diff)
		}
	}
	if got := policy.Advice(&resource.Resource{Spec: &resource.Mesh{}}); got != nil {
		t.Errorf("what is no policy: %q", got)
	}
}
