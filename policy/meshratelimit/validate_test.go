package meshratelimit_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshratelimit"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestValidate(t *testing.T) {
	const rate = "default: {local: {http: {requestRate: {num: 1, interval: 51ms}}}}"
	headers := func(modifier string) string {
		return "to: [{targetRef: {kind: Mesh}, default: {local: {http: {onRateLimit: {headers: {" + modifier + "}}}}}}]"
	}
	policytest.Validate(t, meshratelimit.Kind(), []policytest.Case{
		{Name: "sidecars", Spec: "targetRef: {kind: MeshSubset, tags: {a: b}, proxyTypes: [Sidecar]}, from: [{targetRef: {kind: Mesh}, " + rate + "}]"},
		{Name: "gateways", Spec: "targetRef: {kind: MeshGateway, name: g, tags: {a: b}}, to: [{targetRef: {kind: Mesh}, " + rate + "}]"},
		{Name: "route", Spec: "targetRef: {kind: MeshHTTPRoute, name: r}, to: [{targetRef: {kind: Mesh}, " + rate + "}]"},
		{Name: "switched off", Spec: "to: [{targetRef: {kind: Mesh}, default: {local: {http: {disabled: true}, tcp: {disabled: true}}}}]"},
		{Name: "nothing", Spec: "", Want: []string{"spec: at least one of 'from', 'to' has to be defined"}},
		{Name: "from anywhere", Spec: "from: [{targetRef: {kind: Mesh}, " + rate + "}]", Want: []string{"spec.from: must not be defined"}},
		{Name: "from both types", Spec: "targetRef: {kind: Mesh, proxyTypes: [Sidecar, Gateway]}, from: [{targetRef: {kind: Mesh}, " + rate + "}]", Want: []string{"spec.from: must not be defined"}},
		{Name: "from at a gateway", Spec: "targetRef: {kind: MeshGateway, name: g}, from: [{targetRef: {kind: Mesh}, " + rate + "}]", Want: []string{"spec.from: must not be defined"}},
		{Name: "to of sidecars", Spec: "targetRef: {kind: MeshService, name: a}, to: [{targetRef: {kind: Mesh}, " + rate + "}]", Want: []string{"spec.to: must not be defined"}},
		{Name: "destination", Spec: "to: [{targetRef: {kind: MeshService, name: a}, " + rate + "}]", Want: []string{"spec.to[0].targetRef.kind: value is not supported"}},
		{Name: "client", Spec: "targetRef: {kind: Mesh, proxyTypes: [Sidecar]}, from: [{targetRef: {kind: MeshSubset}, " + rate + "}]", Want: []string{"spec.from[0].targetRef.kind: value is not supported"}},
		{Name: "no local", Spec: "to: [{targetRef: {kind: Mesh}}]", Want: []string{"spec.to[0].default.local: must be defined"}},
		{Name: "empty local", Spec: "to: [{targetRef: {kind: Mesh}, default: {local: {}}}]", Want: []string{"spec.to[0].default.local: must have at least one defined: tcp, http"}},
		{Name: "missing", Spec: "to: [{targetRef: {kind: Mesh}, default: {local: {http: {requestRate: {}, onRateLimit: {headers: {add: [{}]}}}}}}]", Want: []string{"spec.to[0].default.local.http.onRateLimit.headers.add[0].name: in body is required", "spec.to[0].default.local.http.onRateLimit.headers.add[0].value: in body is required", "spec.to[0].default.local.http.requestRate.interval: in body is required", "spec.to[0].default.local.http.requestRate.num: in body is required"}},
		{Name: "rates", Spec: "to: [{targetRef: {kind: Mesh}, default: {local: {http: {requestRate: {num: 0, interval: 50ms}}, tcp: {connectionRate: {num: 0, interval: 0s}}}}}]", Want: []string{"spec.to[0].default.local.http.requestRate.num: must be greater than 0", "spec.to[0].default.local.http.requestRate.interval: must be greater than: 50ms", "spec.to[0].default.local.tcp.connectionRate.num: must be greater than 0", "spec.to[0].default.local.tcp.connectionRate.interval: must be greater than: 50ms"}},
		{Name: "header", Spec: headers("set: [{name: x-a, value: '1,2'}], add: [{name: x-a, value: ''}]")},
		{Name: "header names", Spec: headers("set: [{name: X-A, value: b}], add: [{name: '', value: b}]"), Want: []string{"spec.to[0].default.local.http.onRateLimit.headers.add[0].name: in body should be at least 1 chars long", `spec.to[0].default.local.http.onRateLimit.headers.set[0].name: in body should match '^[a-z0-9!#$%&'*+\-.^_\x60|~]+$'`}},
		{Name: "schema first", Spec: "from: [{targetRef: {kind: Foo}, default: {}}]", Want: []string{"spec.from[0].targetRef.kind: in body should be one of [Mesh MeshSubset MeshGateway MeshService MeshExternalService MeshMultiZoneService MeshServiceSubset MeshHTTPRoute]"}},
	})
}
