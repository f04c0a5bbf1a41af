package policy_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

func named(name string, ref *policy.TargetRef, labels map[string]string) *resource.Resource {
	return newPolicy(name, &testSpec{policy.ToFromSpec[conf]{TargetRef: ref}}, labels)
}

func TestMatched(t *testing.T) {
	web := map[string]string{"kuma.io/service": "web", "team": "a"}
	admin := map[string]string{"kuma.io/service": "admin", "team": "a"}
	zoned := map[string]string{"kuma.io/origin": "zone", "kuma.io/zone": "z1", "k8s.kuma.io/namespace": "ns"}
	with := func(extra map[string]string) map[string]string {
		out := map[string]string{"kuma.io/origin": "zone"}
		for k, v := range extra {
			out[k] = v
		}
		return out
	}
	for _, tt := range []struct {
		name   string
		ref    *policy.TargetRef
		labels map[string]string
		shadow bool
		// want are the ports of the selected inbounds, nil when the policy does not match.
		want []uint32
	}{
		{name: "no target", want: []uint32{8080, 8081}},
		{name: "mesh", ref: &policy.TargetRef{Kind: policy.Mesh}, want: []uint32{8080, 8081}},
		{name: "sidecars", ref: &policy.TargetRef{Kind: policy.Mesh, ProxyTypes: []string{"Gateway", "Sidecar"}}, want: []uint32{8080, 8081}},
		{name: "gateways", ref: &policy.TargetRef{Kind: policy.Mesh, ProxyTypes: []string{"Gateway"}}},
		{name: "subset", ref: &policy.TargetRef{Kind: policy.MeshSubset, Tags: map[string]string{"team": "a"}}, want: []uint32{8080, 8081}},
		{name: "any value", ref: &policy.TargetRef{Kind: policy.MeshSubset, Tags: map[string]string{"team": "*"}}, want: []uint32{8080, 8081}},
		{name: "absent tag", ref: &policy.TargetRef{Kind: policy.MeshSubset, Tags: map[string]string{"x": "*"}}},
		{name: "gateway subset", ref: &policy.TargetRef{Kind: policy.MeshSubset, ProxyTypes: []string{"Gateway"}}},
		{name: "service", ref: &policy.TargetRef{Kind: policy.MeshService, Name: "web"}, want: []uint32{8080}},
		{name: "service subset", ref: &policy.TargetRef{Kind: policy.MeshServiceSubset, Name: "admin", Tags: map[string]string{"team": "a"}}, want: []uint32{8081}},
		{name: "service subset without", ref: &policy.TargetRef{Kind: policy.MeshServiceSubset, Name: "admin", Tags: map[string]string{"team": "b"}}},
		{name: "gateway", ref: &policy.TargetRef{Kind: policy.MeshGateway, Name: "g"}},
		{name: "shadow", labels: map[string]string{"kuma.io/effect": "shadow"}},
		{name: "shadow wanted", labels: map[string]string{"kuma.io/effect": "shadow"}, shadow: true, want: []uint32{8080, 8081}},
		{name: "own zone", labels: with(map[string]string{"kuma.io/zone": "z1"}), want: []uint32{8080, 8081}},
		{name: "other zone", labels: with(map[string]string{"kuma.io/zone": "z2"})},
		{name: "other zone from global", labels: map[string]string{"kuma.io/origin": "global", "kuma.io/zone": "z2"}, want: []uint32{8080, 8081}},
		{name: "producer of another zone", labels: with(map[string]string{"kuma.io/zone": "z2", "kuma.io/policy-role": "producer", "k8s.kuma.io/namespace": "other"}), want: []uint32{8080, 8081}},
		{name: "consumer", labels: map[string]string{"kuma.io/policy-role": "consumer", "k8s.kuma.io/namespace": "ns"}, want: []uint32{8080, 8081}},
		{name: "foreign consumer", labels: map[string]string{"kuma.io/policy-role": "consumer", "k8s.kuma.io/namespace": "other"}},
		{name: "foreign owner", labels: map[string]string{"kuma.io/policy-role": "workload-owner", "k8s.kuma.io/namespace": "other"}},
		{name: "consumer of nowhere", labels: map[string]string{"kuma.io/policy-role": "consumer"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dp := newProxy(web, admin, admin)
			dp.Labels = zoned
			dp.Spec.(*resource.Dataplane).Networking.Inbound[2].State = resource.InboundIgnored
			var got []uint32
			for _, m := range policy.Matched(testKind(), dp, []*resource.Resource{named("p", tt.ref, tt.labels)}, "z1", tt.shadow) {
				for _, in := range m.Inbounds {
					got = append(got, in.Port)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("inbounds (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMatchedGateway(t *testing.T) {
	dp := newProxy()
	dp.Spec.(*resource.Dataplane).Networking.Gateway = &resource.Gateway{Tags: map[string]string{"kuma.io/service": "edge"}}
	for _, tt := range []struct {
		name string
		ref  policy.TargetRef
		want bool
	}{
		{"mesh", policy.TargetRef{Kind: policy.Mesh}, true},
		{"gateways", policy.TargetRef{Kind: policy.Mesh, ProxyTypes: []string{"Gateway"}}, true},
		{"sidecars", policy.TargetRef{Kind: policy.Mesh, ProxyTypes: []string{"Sidecar"}}, false},
		{"tags", policy.TargetRef{Kind: policy.MeshSubset, Tags: map[string]string{"kuma.io/service": "edge"}}, true},
		{"other tags", policy.TargetRef{Kind: policy.MeshSubset, Tags: map[string]string{"kuma.io/service": "web"}}, false},
	} {
		got := policy.Matched(testKind(), dp, []*resource.Resource{named("p", &tt.ref, nil)}, "", false)
		if (len(got) == 1 && got[0].Gateway) != tt.want {
			t.Errorf("%s: got %v, want match %v", tt.name, got, tt.want)
		}
	}
}

func TestMatchedPassesOverOthers(t *testing.T) {
	other, kind := named("a", nil, nil), named("b", nil, nil)
	other.Mesh, kind.Kind = "other", "Other"
	if got := policy.Matched(testKind(), newProxy(nil), []*resource.Resource{other, kind}, "", false); got != nil {
		t.Errorf("got %v, want nothing", got)
	}
}

// The order of precedence (contract policies.md §4.3), lowest first, whatever order the policies come in.
func TestOrder(t *testing.T) {
	subset := &policy.TargetRef{Kind: policy.MeshSubset}
	label := func(k, v string) map[string]string { return map[string]string{k: v} }
	want := []*resource.Resource{
		named("odd", nil, label("kuma.io/origin", "odd")),
		named("global", nil, label("kuma.io/origin", "global")),
		named("z", nil, nil),
		named("stored-name", nil, label("kuma.io/display-name", "y")),
		named("a", nil, nil),
		named("producer", nil, label("kuma.io/policy-role", "producer")),
		named("zone", nil, label("kuma.io/origin", "zone")),
		named("zz", subset, label("kuma.io/origin", "global")),
		named("more-tags", &policy.TargetRef{Kind: policy.MeshSubset, Tags: map[string]string{"a": "b"}}, nil),
		named("less-tags", subset, nil),
		named("service", &policy.TargetRef{Kind: policy.MeshService, Name: "web"}, nil),
		named("service-subset", &policy.TargetRef{Kind: policy.MeshServiceSubset, Name: "web"}, nil),
	}
	dp := newProxy(map[string]string{"kuma.io/service": "web", "a": "b"})
	rapid.Check(t, func(rt *rapid.T) {
		var got []string
		for _, m := range policy.Matched(testKind(), dp, rapid.Permutation(want).Draw(rt, "input"), "", false) {
			got = append(got, m.Policy.Name)
		}
		var names []string
		for _, p := range want {
			names = append(names, p.Name)
		}
		if !slices.Equal(got, names) {
			rt.Fatalf("got %v, want %v", got, names)
		}
	})
}

func TestComputeRole(t *testing.T) {
	to := func(refs ...policy.TargetRef) policy.ToFromSpec[conf] {
		var s policy.ToFromSpec[conf]
		for _, r := range refs {
			s.To = append(s.To, policy.Entry[conf]{TargetRef: r})
		}
		return s
	}
	own := policy.TargetRef{Kind: policy.MeshService, Name: "a"}
	foreign := policy.TargetRef{Kind: policy.MeshService, Name: "a", Namespace: "other"}
	labelled := policy.TargetRef{Kind: policy.MeshService, Labels: map[string]string{"a": "b"}}
	from := policy.ToFromSpec[conf]{From: []policy.Entry[conf]{{}}}
	both := to(own)
	both.From = from.From
	for _, tt := range []struct {
		name, namespace string
		spec            policy.ToFromSpec[conf]
		want            policy.Role
		err             error
	}{
		{"universal", "", both, policy.RoleSystem, nil},
		{"system namespace", "kuma-system", both, policy.RoleSystem, nil},
		{"both lists", "ns", both, "", policy.ErrMixedLists},
		{"from", "ns", from, policy.RoleWorkloadOwner, nil},
		{"neither", "ns", policy.ToFromSpec[conf]{}, policy.RoleWorkloadOwner, nil},
		{"producer", "ns", to(own, policy.TargetRef{Kind: policy.MeshService, Name: "b", Namespace: "ns"}), policy.RoleProducer, nil},
		{"consumer", "ns", to(foreign, labelled, policy.TargetRef{Kind: policy.Mesh}, policy.TargetRef{Kind: policy.MeshMultiZoneService, Name: "a"}), policy.RoleConsumer, nil},
		{"mixed", "ns", to(own, foreign), "", policy.ErrMixedItems},
	} {
		got, err := policy.ComputeRole(&testSpec{tt.spec}, tt.namespace, "kuma-system")
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: got %q, %v; want %q, %v", tt.name, got, err, tt.want, tt.err)
		}
	}
}
