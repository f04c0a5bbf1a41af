package policy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

type resolver []*resource.Resource

func (r resolver) Services(string) []*resource.Resource { return r }

func service(kind resource.Kind, name string, labels map[string]string, ports ...resource.ServicePort) *resource.Resource {
	return &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: kind, Mesh: "m", Name: name}, Labels: labels},
		Spec: &resource.MeshService{Ports: ports},
	}
}

func TestResourceRules(t *testing.T) {
	zone := map[string]string{"kuma.io/zone": "z"}
	services := resolver{
		service(resource.KindMeshMultiZoneService, "backend", zone),
		service(resource.KindMeshService, "backend", zone, resource.ServicePort{Name: "api", Port: 80}),
		service(resource.KindMeshService, "backend-x1", map[string]string{"kuma.io/zone": "other", "kuma.io/display-name": "backend"}),
		service(resource.KindMeshService, "generated", map[string]string{"kuma.io/display-name": "generated"}),
		service(resource.KindMeshService, "k8s", map[string]string{"kuma.io/zone": "z", "kuma.io/display-name": "k8s", "k8s.kuma.io/namespace": "ns"}, resource.ServicePort{Port: 80}),
	}
	for _, tt := range []struct {
		name string
		ref  policy.TargetRef
		want []string
	}{
		{"mesh", policy.TargetRef{Kind: policy.Mesh}, []string{"Mesh m/"}},
		{"name", policy.TargetRef{Kind: policy.MeshService, Name: "backend"}, []string{"MeshService m/backend/"}},
		{"section", policy.TargetRef{Kind: policy.MeshService, Name: "backend", SectionName: "api"}, []string{"MeshService m/backend/api"}},
		{"other kind", policy.TargetRef{Kind: policy.MeshMultiZoneService, Name: "backend"}, []string{"MeshMultiZoneService m/backend/"}},
		{"no zone label", policy.TargetRef{Kind: policy.MeshService, Name: "generated"}, nil},
		{"by labels", policy.TargetRef{Kind: policy.MeshService, Labels: map[string]string{"kuma.io/display-name": "generated"}}, []string{"MeshService m/generated/"}},
		{"all zones by labels", policy.TargetRef{Kind: policy.MeshService, Labels: map[string]string{"kuma.io/display-name": "backend"}}, []string{"MeshService m/backend-x1/"}},
		{"namespace", policy.TargetRef{Kind: policy.MeshService, Name: "k8s", Namespace: "ns"}, []string{"MeshService m/k8s/"}},
		{"no namespace", policy.TargetRef{Kind: policy.MeshService, Name: "k8s"}, nil},
		{"older name", policy.TargetRef{Kind: policy.MeshService, Name: "k8s_ns_svc"}, []string{"MeshService m/k8s/"}},
		{"older name with port", policy.TargetRef{Kind: policy.MeshService, Name: "k8s_ns_svc_80"}, []string{"MeshService m/k8s/80"}},
		{"older name, other port", policy.TargetRef{Kind: policy.MeshService, Name: "k8s_ns_svc_81"}, []string{"MeshService m/k8s/"}},
		{"older name, bad port", policy.TargetRef{Kind: policy.MeshService, Name: "k8s_ns_svc_x"}, nil},
		{"subset", policy.TargetRef{Kind: policy.MeshSubset, Tags: map[string]string{"a": "b"}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := &testSpec{policy.ToFromSpec[conf]{To: []policy.Entry[conf]{{TargetRef: tt.ref}}}}
			matched := policy.Matched(testKind(), newProxy(nil), []*resource.Resource{newPolicy("p", spec, zone)}, "", false)
			rules, err := policy.BuildTo(testKind(), matched, services)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range rules.ToResources {
				got = append(got, r.Target.String()+"/"+r.Section)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("targets (-want +got):\n%s", diff)
			}
		})
	}
}

func TestForService(t *testing.T) {
	key := resource.Key{Kind: resource.KindMeshService, Mesh: "m", Name: "a"}
	rule := func(target resource.Key, section, conf string) policy.ResourceRule {
		return policy.ResourceRule{Target: target, Section: section, Conf: []any{conf}}
	}
	rules := &policy.Rules{ToResources: []policy.ResourceRule{
		rule(resource.Key{Kind: resource.KindMesh, Name: "m"}, "", "mesh"), rule(key, "", "service"), rule(key, "api", "section"),
	}}
	for _, tt := range []struct {
		name, section string
		key           resource.Key
		want          []any
	}{
		{"section", "api", key, []any{"section"}},
		{"service", "admin", key, []any{"service"}},
		{"no section", "", key, []any{"service"}},
		{"mesh", "api", resource.Key{Kind: resource.KindMeshService, Mesh: "m", Name: "b"}, []any{"mesh"}},
	} {
		if diff := cmp.Diff(tt.want, rules.ForService(tt.key, tt.section)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	if got := (*policy.Rules)(nil).ForService(key, ""); got != nil {
		t.Errorf("no rules gave %v", got)
	}
}

func TestToRulesByTags(t *testing.T) {
	item := func(ref policy.TargetRef, c conf) policy.Entry[conf] {
		return policy.Entry[conf]{TargetRef: ref, Default: c}
	}
	spec := &testSpec{policy.ToFromSpec[conf]{To: []policy.Entry[conf]{
		item(policy.TargetRef{Kind: policy.Mesh}, conf{A: new(1), B: new(1)}),
		item(policy.TargetRef{Kind: policy.MeshService, Name: "a"}, conf{A: new(2)}),
		item(policy.TargetRef{Kind: policy.MeshExternalService, Name: "a"}, conf{A: new(3)}),
		item(policy.TargetRef{Kind: policy.MeshService, Name: "a"}, conf{C: new(4)}),
	}}}
	matched := policy.Matched(testKind(), newProxy(nil), []*resource.Resource{newPolicy("p", spec, nil)}, "", false)
	rules, err := policy.BuildTo(testKind(), matched, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rules.To {
		got = append(got, text(t, r.Matchers)+text(t, r.Conf))
	}
	want := []string{`[{"key":"kuma.io/service","value":"a","not":false}]{"a":2,"b":1,"c":4}`, `[]{"a":1,"b":1}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}
