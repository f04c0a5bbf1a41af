package meshtcproute_test

import (
	"encoding/json"
	"testing"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/meshtcproute"
	"github.com/kuma-dp/kuma-dp/resource"
)

type resolver []*resource.Resource

func (r resolver) Services(string) []*resource.Resource { return r }

// conf is what routes to service a, named z, y, ... in this order, are merged into.
func conf(t *testing.T, items ...string) *meshtcproute.Conf {
	t.Helper()
	kind := meshtcproute.Kind()
	registry := resource.NewRegistry(kind.Descriptor)
	var routes []*resource.Resource
	for i, item := range items {
		name := string(rune('z' - i)) // the last has the smallest name and so the highest precedence
		r, err := registry.DecodeYAML([]byte("{type: MeshTCPRoute, mesh: m, name: p" + name + ", spec: {to: [{targetRef: {kind: MeshService, name: a}, " + item + "}]}}"))
		if err != nil {
			t.Fatal(err)
		}
		routes = append(routes, r)
	}
	service := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMeshService, Mesh: "m", Name: "a"}}, Spec: &resource.MeshService{}}
	dp := &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: resource.KindDataplane, Mesh: "m", Name: "d"}},
		Spec: &resource.Dataplane{Networking: &resource.Networking{Inbound: []*resource.Inbound{{Port: 1}}}},
	}
	rules, err := policy.BuildTo(kind, policy.Matched(kind, dp, routes, "", false), resolver{service})
	if err != nil {
		t.Fatal(err)
	}
	return rules.ToResources[0].Conf[0].(*meshtcproute.Conf)
}

func TestMerge(t *testing.T) {
	const toB = "rules: [{default: {backendRefs: [{kind: MeshService, name: b, port: 1}]}}]"
	const toC = "rules: [{default: {backendRefs: [{kind: MeshService, name: c, port: 1}, {kind: MeshService, name: d, weight: 0}]}}]"
	for _, tt := range []struct {
		name  string
		items []string
		want  string
	}{
		{"one", []string{toB}, `[{"kind":"MeshService","name":"b","port":1}]`},
		{"no rules", []string{"rules: []"}, `[{"kind":"MeshService","name":"a","weight":1}]`},
		{"the higher replaces", []string{toB, toC}, `[{"kind":"MeshService","name":"c","port":1},{"kind":"MeshService","name":"d","weight":0}]`},
		{"no rules replace too", []string{toB, "rules: []"}, `[{"kind":"MeshService","name":"a","weight":1}]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := conf(t, tt.items...)
			got, err := json.Marshal(c.BackendRefs())
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tt.want || len(c.Rules) != 1 {
				t.Errorf("%d rules, refs %s, want one with %s", len(c.Rules), got, tt.want)
			}
		})
	}
	if got := (&meshtcproute.Conf{}).BackendRefs(); got != nil {
		t.Errorf("refs of nothing: %v", got)
	}
}
