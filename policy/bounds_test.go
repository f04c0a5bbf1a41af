package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Two keys with many values each make a clique for every pair: the worst that is still listed. It must stay far below what
// a person would notice.
func TestManyPairsAreQuick(t *testing.T) {
	items := []policy.Entry[conf]{fromItem(nil, conf{A: new(0)})}
	for i := range 100 {
		items = append(items, fromItem(map[string]string{"kuma.io/service": fmt.Sprint(i)}, conf{A: new(1)}))
	}
	for i := range 40 {
		items = append(items, fromItem(map[string]string{"team": fmt.Sprint(i)}, conf{B: new(i)}))
	}
	dp := newProxy(map[string]string{})
	kind := permitting()
	matched := policy.Matched(kind, dp, []*resource.Resource{newPolicy("p", &testSpec{policy.ToFromSpec[conf]{From: items}}, nil)}, "", false)
	start := time.Now()
	rules, err := policy.BuildFrom(kind, dp, matched)
	if err != nil {
		t.Fatal(err)
	}
	from := rules.From[0]
	t.Logf("%d rules, %d of them exact, in %v", len(from.Rules), len(from.Exact), time.Since(start))
	if got := len(from.Rules); got != 100*40*4 {
		t.Errorf("%d rules, want four of each clique", got)
	}
	// Each service or none of them, with each team or none.
	if got := len(from.Exact); got != 101*41 {
		t.Errorf("%d exact rules, want those of one component", got)
	}
	for _, who := range []map[string]string{{"kuma.io/service": "3", "team": "7"}, {"kuma.io/service": "3"}, {"team": "39"}, {}} {
		if a, b := text(t, naive(items, who)), text(t, firstMatch(rules.Enforced(from.Inbound), who)); a != b {
			t.Errorf("client %v: want %s, got %s", who, a, b)
		}
	}
}

// FuzzRules builds rules of arbitrary policies, also of such that validation refuses: nothing may panic or run away.
func FuzzRules(f *testing.F) {
	f.Add([]byte(`[{"targetRef":{"kind":"MeshSubset","tags":{"team":"*"}},"to":[{"targetRef":{"kind":"MeshService","labels":{"x":"1"},"sectionName":"api"},"default":{"a":1}}]}]`), "ns")
	f.Add([]byte(`[{"to":[{"targetRef":{"kind":"MeshService","name":"c_ns_svc_80"},"default":{"list":["x"]}},{"targetRef":{"kind":"Mesh"},"default":{}}]}]`), "")
	f.Add([]byte(`[{"targetRef":{"kind":"MeshHTTPRoute","name":"r"},"to":[{"targetRef":{"kind":"Mesh"},"default":{"b":2}}]},{"targetRef":{"kind":"MeshGateway","name":"own","tags":{"port":"http"}}}]`), "")
	f.Add([]byte(`[{"from":[{"targetRef":{"kind":"Mesh"},"default":{"a":0}},{"targetRef":{"kind":"MeshServiceSubset","name":"a","tags":{"team":"a"}},"default":{"a":1}},{"targetRef":{"kind":"MeshSubset","tags":{"x":"y","team":"b"}},"default":{"deep":{"x":1}}}]}]`), "ns")
	f.Fuzz(func(t *testing.T, data []byte, namespace string) {
		var specs []policy.ToFromSpec[conf]
		if json.Unmarshal(data, &specs) != nil || len(specs) > 50 {
			return
		}
		var policies []*resource.Resource
		for i, spec := range specs {
			policies = append(policies, newPolicy(fmt.Sprint(i), &testSpec{spec}, map[string]string{"k8s.kuma.io/namespace": namespace}))
		}
		set := policy.NewSet(testKind(), policies, []*resource.Resource{newRoute("r", nil, nil)}, nil)
		view := policy.View{Gateways: []*resource.Resource{newGateway("own", nil, map[string]string{"kuma.io/service": "edge"})}}
		start := time.Now()
		for _, dp := range []*resource.Resource{client(), newBuiltin()} {
			matched, _ := set.Matched(dp, view)
			kind := testKind()
			kind.Permits, kind.Components = len(namespace)%2 == 0, len(namespace)%3 == 1
			rules, err := policy.Build(kind, dp, matched, someServices())
			if err != nil {
				if !errors.Is(err, policy.ErrTooManySubsets) {
					t.Fatal(err)
				}
				continue
			}
			for _, s := range someServices() {
				rules.ForService(s.Key, "api")
				rules.ForLegacyService(s.Name)
			}
		}
		if spent := time.Since(start); spent > 20*time.Second {
			t.Errorf("took %v", spent)
		}
	})
}
