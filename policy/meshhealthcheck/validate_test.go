package meshhealthcheck_test

import (
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshhealthcheck"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestValidate(t *testing.T) {
	const to = "to: [{targetRef: {kind: Mesh}, default: "
	const p = "spec.to[0].default."
	policytest.Validate(t, meshhealthcheck.Kind(), []policytest.Case{
		{Name: "good", Spec: to + "{interval: 1s, timeout: 1s, unhealthyThreshold: 1, healthyThreshold: 1, initialJitter: 1s, intervalJitter: 1s, intervalJitterPercent: 100, healthyPanicThreshold: \"12.5\", failTrafficOnPanic: true, eventLogPath: /tmp/a, alwaysLogHealthCheckFailures: true, noTrafficInterval: 1s, reuseConnection: false, tcp: {disabled: true, send: Zm9v, receive: [YmFy]}, http: {disabled: false, path: /a, requestHeadersToAdd: {set: [{name: a, value: b}], add: [{name: x-kuma, value: \"1,2\"}]}, expectedStatuses: [100, 599]}, grpc: {disabled: false, serviceName: a, authority: b}}}]"},
		{Name: "gateway", Spec: "targetRef: {kind: MeshGateway, name: g, tags: {a: b}}, to: [{targetRef: {kind: MeshService, name: a, sectionName: b}, default: {tcp: {}}}, {targetRef: {kind: MeshMultiZoneService, labels: {a: b}}, default: {grpc: {}}}]"},
		{Name: "nothing", Spec: "", Want: []string{"spec.to: needs at least one item"}},
		{Name: "no check", Spec: to + "{}}]", Want: []string{"spec.to[0].default: must have at least one defined: http, tcp, grpc"}},
		{Name: "targets", Spec: "targetRef: {kind: MeshHTTPRoute, name: r}, to: [{targetRef: {kind: MeshExternalService, name: a}, default: {tcp: {}}}, {targetRef: {kind: MeshSubset}, default: {tcp: {}}}]", Want: []string{"spec.targetRef.kind: value is not supported", "spec.to[0].targetRef.kind: value is not supported", "spec.to[1].targetRef.kind: value is not supported"}},
		{Name: "values", Spec: to + "{interval: 0s, timeout: -1s, unhealthyThreshold: 0, healthyThreshold: 0, initialJitter: 0s, intervalJitter: 0s, intervalJitterPercent: 101, healthyPanicThreshold: 101, noTrafficInterval: 0s, http: {expectedStatuses: [99, 200, 600]}}}]", Want: []string{
			p + "interval: must be greater than zero when defined",
			p + "timeout: must be greater than zero when defined",
			p + "unhealthyThreshold: must be greater than 0",
			p + "healthyThreshold: must be greater than 0",
			p + "initialJitter: must be greater than zero when defined",
			p + "intervalJitter: must be greater than zero when defined",
			p + "intervalJitterPercent: must be in inclusive range [0, 100]",
			p + "healthyPanicThreshold: must be in inclusive range [0.0, 100.0]",
			p + "noTrafficInterval: must be greater than zero when defined",
			p + "http.expectedStatuses[0]: must be in inclusive range [100, 599]",
			p + "http.expectedStatuses[2]: must be in inclusive range [100, 599]",
		}},
		{Name: "panic threshold", Spec: to + "{healthyPanicThreshold: Inf, tcp: {}}}]", Want: []string{p + "healthyPanicThreshold: string must be a valid number"}},
		{Name: "schema first", Spec: to + "{interval: 0s, http: {requestHeadersToAdd: {set: [{name: A, value: b}], add: [" + strings.Repeat("{name: a, value: b}, ", 16) + "{name: \"\", value: b}]}}}}]", Want: []string{
			p + "http.requestHeadersToAdd.add: in body should have at most 16 items",
			p + "http.requestHeadersToAdd.add[16].name: in body should be at least 1 chars long",
			p + "http.requestHeadersToAdd.set[0].name: in body should match '^[a-z0-9!#$%&'*+\\-.^_\\x60|~]+$'",
		}},
	})
}
