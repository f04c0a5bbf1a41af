package meshtrafficpermission_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy/meshtrafficpermission"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestValidate(t *testing.T) {
	registry := resource.NewRegistry(meshtrafficpermission.Kind().Descriptor)
	for _, tt := range []struct {
		name, spec string
		// want holds "field: reason", none for a valid policy.
		want []string
	}{
		{"good", "targetRef: {kind: MeshSubset, tags: {a: b}}, from: [{targetRef: {kind: Mesh}, default: {action: Allow}}, {targetRef: {kind: MeshSubset, tags: {a: b}}, default: {action: AllowWithShadowDeny}}, {targetRef: {kind: MeshServiceSubset, name: a, tags: {a: b}}, default: {action: Deny}}]", nil},
		{"nothing", "", []string{"spec.from: needs at least one item"}},
		{"no action", "from: [{targetRef: {kind: Mesh}}]", []string{"spec.from[0].default.action: must be defined"}},
		{"action", "from: [{targetRef: {kind: Mesh}, default: {action: allow}}]", []string{"spec.from[0].default.action: in body should be one of [Allow Deny AllowWithShadowDeny]"}},
		{"no target", "from: [{default: {action: Allow}}]", []string{"spec.from[0].targetRef.kind: must be defined"}},
		{"client", "from: [{targetRef: {kind: MeshGateway, name: a}, default: {action: Allow}}]", []string{"spec.from[0].targetRef.kind: value is not supported"}},
		{"top", "targetRef: {kind: MeshGateway, name: a}, from: [{targetRef: {kind: Mesh}, default: {action: Allow}}]", []string{"spec.targetRef.kind: value is not supported"}},
		{"unknown top", "targetRef: {kind: Foo}", []string{"spec.targetRef.kind: in body should be one of [Mesh MeshSubset MeshGateway MeshService MeshExternalService MeshMultiZoneService MeshServiceSubset MeshHTTPRoute]"}},
		{"proxy types", "targetRef: {kind: Mesh, proxyTypes: []}", []string{"spec.targetRef.proxyTypes: in body should have at least 1 items"}},
		{"proxy type", "targetRef: {kind: Mesh, proxyTypes: [Ingress]}", []string{"spec.targetRef.proxyTypes[0]: in body should be one of [Sidecar Gateway]"}},
		{"fields of mesh", "targetRef: {kind: Mesh, name: a, mesh: m, tags: {a: b}, labels: {a: b}, namespace: x, sectionName: s}, from: [{targetRef: {kind: Mesh}, default: {action: Allow}}]", []string{"spec.targetRef.name: using name with kind Mesh is not yet supported", "spec.targetRef.mesh: must not be set with kind Mesh", "spec.targetRef.tags: must not be set with kind Mesh", "spec.targetRef.labels: must not be set with kind Mesh", "spec.targetRef.namespace: must not be set with kind Mesh", "spec.targetRef.sectionName: must not be set with kind Mesh"}},
		{"fields of subset", "targetRef: {kind: MeshSubset, name: a}, from: [{targetRef: {kind: MeshService, name: A}, default: {action: Allow}}, {targetRef: {kind: MeshServiceSubset, proxyTypes: [Sidecar]}, default: {action: Allow}}]", []string{"spec.targetRef.name: must not be set with kind MeshSubset", `spec.from[0].targetRef.name: invalid characters: must consist of lower case alphanumeric characters, '-', '.' and '_'.`, "spec.from[1].targetRef.name: must be set with kind MeshServiceSubset", "spec.from[1].targetRef.proxyTypes: must not be set with kind MeshServiceSubset"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := registry.DecodeYAML([]byte("{type: " + string(meshtrafficpermission.Name) + ", mesh: m, name: p, spec: {" + tt.spec + "}}"))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range resource.Validate(r) {
				got = append(got, f.Field+": "+f.Reason)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}
