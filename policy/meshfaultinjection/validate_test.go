package meshfaultinjection_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshfaultinjection"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestValidate(t *testing.T) {
	const sidecars = "targetRef: {kind: Mesh, proxyTypes: [Sidecar]}, "
	fault := func(text string) string {
		return sidecars + "from: [{targetRef: {kind: Mesh}, default: {http: [" + text + "]}}]"
	}
	const at = "spec.from[0].default.http[0]."
	policytest.Validate(t, meshfaultinjection.Kind(), []policytest.Case{
		{Name: "good", Spec: fault("{abort: {httpStatus: 100, percentage: 0}, delay: {value: 0s, percentage: 100}, responseBandwidth: {limit: 3 Mbps, percentage: '0.01'}}, {}")},
		{Name: "clients", Spec: sidecars + "from: [{targetRef: {kind: MeshSubset, tags: {a: b}}, default: {http: []}}, {targetRef: {kind: MeshService, name: a}, default: {http: []}}, {targetRef: {kind: MeshServiceSubset, name: a, tags: {a: b}}, default: {http: []}}]"},
		{Name: "gateway", Spec: "targetRef: {kind: MeshGateway, name: g, tags: {a: b}}, to: [{targetRef: {kind: Mesh}, default: {http: []}}]"},
		{Name: "route", Spec: "targetRef: {kind: MeshHTTPRoute, name: r}, to: [{targetRef: {kind: Mesh}, default: {http: []}}]", Want: []string{"spec.targetRef.kind: value is not supported"}},
		{Name: "nothing", Spec: "", Want: []string{"spec: at least one of 'from', 'to' has to be defined"}},
		{Name: "from anywhere", Spec: "from: [{targetRef: {kind: Mesh}, default: {http: []}}]", Want: []string{"spec.from: must not be defined"}},
		{Name: "to of sidecars", Spec: sidecars + "to: [{targetRef: {kind: Mesh}, default: {http: []}}]", Want: []string{"spec.to: must not be defined"}},
		{Name: "client", Spec: sidecars + "from: [{targetRef: {kind: MeshExternalService, name: a}, default: {http: []}}]", Want: []string{"spec.from[0].targetRef.kind: value is not supported"}},
		{Name: "missing", Spec: fault("{abort: {}, delay: {}, responseBandwidth: {}}"), Want: []string{
			at + "abort.httpStatus: in body is required", at + "abort.percentage: in body is required",
			at + "delay.percentage: in body is required", at + "delay.value: in body is required",
			at + "responseBandwidth.limit: in body is required", at + "responseBandwidth.percentage: in body is required",
		}},
		{Name: "status", Spec: fault("{abort: {httpStatus: 600, percentage: 1}}"), Want: []string{at + "abort.httpStatus: must be in inclusive range [100, 599]"}},
		{Name: "values", Spec: fault("{abort: {httpStatus: 0, percentage: x}, delay: {value: -1s, percentage: 101}, responseBandwidth: {limit: '5', percentage: '-0.1'}}"), Want: []string{
			at + "abort.httpStatus: must be in inclusive range [100, 599]",
			at + "abort.percentage: string must be a valid number",
			at + "delay.value: must not be negative when defined",
			at + "delay.percentage: must be in inclusive range [0.0, 100.0]",
			at + "responseBandwidth.limit: must be in kbps/Mbps/Gbps units",
			at + "responseBandwidth.percentage: must be in inclusive range [0.0, 100.0]",
		}},
	})
}
