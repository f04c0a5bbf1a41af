package meshtcproute_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshtcproute"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestValidate(t *testing.T) {
	const rules = "to: [{targetRef: {kind: MeshService, name: a}, rules: "
	policytest.Validate(t, meshtcproute.Kind(), []policytest.Case{
		{Name: "nothing", Want: []string{"spec.to: needs at least one item"}},
		{Name: "no rules", Spec: "to: [{targetRef: {kind: MeshService, name: a}}]"},
		{Name: "no rules with labels", Spec: "to: [{targetRef: {kind: MeshService, labels: {a: b}}}, {targetRef: {kind: MeshMultiZoneService, name: a}}]"},
		{Name: "gateway", Spec: "targetRef: {kind: MeshGateway, name: g, tags: {a: b}}, to: [{targetRef: {kind: Mesh}, rules: [{default: {backendRefs: [{kind: MeshService, name: b}]}}]}]"},
		{Name: "gateway to service", Spec: "targetRef: {kind: MeshGateway, name: g}, to: [{targetRef: {kind: MeshService, name: a}}]", Want: []string{"spec.to[0].targetRef.kind: value is not supported"}},
		{Name: "mesh", Spec: "to: [{targetRef: {kind: Mesh}}]", Want: []string{"spec.to[0].targetRef.kind: value is not supported"}},
		{Name: "backends", Spec: rules + "[{default: {backendRefs: [{kind: MeshService, name: b, port: 1, weight: 0}, {kind: MeshServiceSubset, name: b, tags: {v: \"1\"}}, {kind: MeshExternalService, name: c}, {kind: MeshMultiZoneService, labels: {a: b}, port: 1}, {kind: MeshService, name: kuma.io/unresolved-backend}]}}]}]"},
		{Name: "faulty backends", Spec: rules + "[{default: {backendRefs: [{kind: MeshService}, {kind: MeshService, name: A}, {kind: MeshMultiZoneService, name: m}, {}]}}]}]", Want: []string{
			"spec.to[0].rules[0].default.backendRefs[0].name: must be set with kind MeshService",
			"spec.to[0].rules[0].default.backendRefs[1].name: invalid characters: must consist of lower case alphanumeric characters, '-', '.' and '_'.",
			"spec.to[0].rules[0].default.backendRefs[2].port: must be defined with kind MeshMultiZoneService",
			"spec.to[0].rules[0].default.backendRefs[3].kind: must be defined",
		}},
		{Name: "schema", Spec: rules + "[{default: {}}, {default: {backendRefs: []}}, {default: {backendRefs: [{kind: x}]}}]}]", Want: []string{
			"spec.to[0].rules: in body should have at most 1 items",
			"spec.to[0].rules[0].default.backendRefs: in body is required",
			"spec.to[0].rules[1].default.backendRefs: in body should have at least 1 items",
			"spec.to[0].rules[2].default.backendRefs[0].kind: in body should be one of [Mesh MeshSubset MeshGateway MeshService MeshExternalService MeshMultiZoneService MeshServiceSubset MeshHTTPRoute]",
		}},
	})
}
