package meshtrafficpermission_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshtrafficpermission"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestValidate(t *testing.T) {
	policytest.Validate(t, meshtrafficpermission.Kind(), []policytest.Case{
		{Name: "good", Spec: "targetRef: {kind: MeshSubset, tags: {a: b}}, from: [{targetRef: {kind: Mesh}, default: {action: Allow}}, {targetRef: {kind: MeshSubset, tags: {a: b}}, default: {action: AllowWithShadowDeny}}, {targetRef: {kind: MeshServiceSubset, name: a, tags: {a: b}}, default: {action: Deny}}]"},
		{Name: "nothing", Spec: "", Want: []string{"spec.from: needs at least one item"}},
		{Name: "no action", Spec: "from: [{targetRef: {kind: Mesh}}]", Want: []string{"spec.from[0].default.action: must be defined"}},
		{Name: "action", Spec: "from: [{targetRef: {kind: Mesh}, default: {action: allow}}]", Want: []string{"spec.from[0].default.action: in body should be one of [Allow Deny AllowWithShadowDeny]"}},
		{Name: "no target", Spec: "from: [{default: {action: Allow}}]", Want: []string{"spec.from[0].targetRef: in body is required"}},
		{Name: "empty target", Spec: "from: [{targetRef: {}, default: {action: Allow}}]", Want: []string{"spec.from[0].targetRef.kind: must be defined"}},
		{Name: "client", Spec: "from: [{targetRef: {kind: MeshGateway, name: a}, default: {action: Allow}}]", Want: []string{"spec.from[0].targetRef.kind: value is not supported"}},
		{Name: "top", Spec: "targetRef: {kind: MeshGateway, name: a}, from: [{targetRef: {kind: Mesh}, default: {action: Allow}}]", Want: []string{"spec.targetRef.kind: value is not supported"}},
		{Name: "unknown top", Spec: "targetRef: {kind: Foo}", Want: []string{"spec.targetRef.kind: in body should be one of [Mesh MeshSubset MeshGateway MeshService MeshExternalService MeshMultiZoneService MeshServiceSubset MeshHTTPRoute]"}},
		{Name: "proxy types", Spec: "targetRef: {kind: Mesh, proxyTypes: []}", Want: []string{"spec.targetRef.proxyTypes: in body should have at least 1 items"}},
		{Name: "proxy type", Spec: "targetRef: {kind: Mesh, proxyTypes: [Ingress]}", Want: []string{"spec.targetRef.proxyTypes[0]: in body should be one of [Sidecar Gateway]"}},
		{Name: "fields of mesh", Spec: "targetRef: {kind: Mesh, name: a, mesh: m, tags: {a: b}, labels: {a: b}, namespace: x, sectionName: s}, from: [{targetRef: {kind: Mesh}, default: {action: Allow}}]", Want: []string{"spec.targetRef.name: using name with kind Mesh is not yet supported", "spec.targetRef.mesh: must not be set with kind Mesh", "spec.targetRef.tags: must not be set with kind Mesh", "spec.targetRef.labels: must not be set with kind Mesh", "spec.targetRef.namespace: must not be set with kind Mesh", "spec.targetRef.sectionName: must not be set with kind Mesh"}},
		{Name: "fields of subset", Spec: "targetRef: {kind: MeshSubset, name: a}, from: [{targetRef: {kind: MeshService, name: A}, default: {action: Allow}}, {targetRef: {kind: MeshServiceSubset, proxyTypes: [Sidecar]}, default: {action: Allow}}]", Want: []string{"spec.targetRef.name: must not be set with kind MeshSubset", `spec.from[0].targetRef.name: invalid characters: must consist of lower case alphanumeric characters, '-', '.' and '_'.`, "spec.from[1].targetRef.name: must be set with kind MeshServiceSubset", "spec.from[1].targetRef.proxyTypes: must not be set with kind MeshServiceSubset"}},
	})
}
