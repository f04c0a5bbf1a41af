package controlplane

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestComputeRole(t *testing.T) {
	registry := resource.NewRegistry(all.Descriptors()...)
	conf := "default: {idleTimeout: 1s}"
	own := "{targetRef: {kind: MeshService, name: backend}, " + conf + "}"
	other := "{targetRef: {kind: MeshService, name: backend, namespace: b}, " + conf + "}"
	everybody := "{targetRef: {kind: Mesh}, " + conf + "}"
	for _, tt := range []struct {
		name, labels, spec string
		// want is the role in the end, or the fault.
		want  string
		fault string
	}{
		{"no namespace", "", "to: [" + own + "]", "", ""},
		{"forged", "kuma.io/policy-role: consumer", "to: [" + own + "]", "", ""},
		{"system namespace", "k8s.kuma.io/namespace: kuma-system", "to: [" + own + "], from: [" + everybody + "]", "system", ""},
		{"producer", "k8s.kuma.io/namespace: a", "to: [" + own + "]", "producer", ""},
		{"producer, forged", "k8s.kuma.io/namespace: a, kuma.io/policy-role: system", "to: [" + own + "]", "producer", ""},
		{"consumer of another namespace", "k8s.kuma.io/namespace: a", "to: [" + other + "]", "consumer", ""},
		{"consumer of all", "k8s.kuma.io/namespace: a", "to: [" + everybody + "]", "consumer", ""},
		{"consumer by labels", "k8s.kuma.io/namespace: a", "to: [{targetRef: {kind: MeshService, labels: {x: z}}, " + conf + "}]", "consumer", ""},
		{"consumer of external services", "k8s.kuma.io/namespace: a", "to: [{targetRef: {kind: MeshExternalService, name: x}, " + conf + "}]", "consumer", ""},
		{"workload owner", "k8s.kuma.io/namespace: a", "from: [" + everybody + "]", "workload-owner", ""},
		{"from elsewhere", "kuma.io/origin: global, k8s.kuma.io/namespace: a, kuma.io/policy-role: consumer", "to: [" + own + "]", "consumer", ""},
		{"both lists", "k8s.kuma.io/namespace: a", "to: [" + own + "], from: [" + everybody + "]", "",
			"spec: it's not allowed to mix 'to' and 'from' arrays in the same policy"},
		{"both sorts of items", "k8s.kuma.io/namespace: a", "to: [" + own + ", " + other + "]", "",
			"spec.to: it's not allowed to mix producer and consumer items in the same policy"},
		{"for system policies only", "k8s.kuma.io/namespace: a", "targetRef: {kind: MeshGateway, name: g}, to: [" + everybody + "]", "consumer",
			"spec.targetRef.kind: value is not supported"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := registry.DecodeYAML([]byte("{type: MeshTimeout, mesh: m, name: p, labels: {" + tt.labels + "}, spec: {" + tt.spec + "}}"))
			if err != nil {
				t.Fatal(err)
			}
			var want, got []string
			if tt.fault != "" {
				want = []string{tt.fault}
			}
			for _, f := range computeRole(r) {
				got = append(got, f.Field+": "+f.Reason)
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if got := r.Labels[resource.LabelPolicyRole]; got != tt.want {
				t.Errorf("role %q, want %q", got, tt.want)
			}
		})
	}
}
