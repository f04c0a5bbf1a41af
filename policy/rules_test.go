package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// conf has a field of each sort that merging knows.
type conf struct {
	A           *int         `json:"a,omitempty"`
	B           *int         `json:"b,omitempty"`
	C           *int         `json:"c,omitempty"`
	List        []string     `json:"list,omitempty"`
	AppendMatch []string     `json:"appendMatch,omitempty"`
	Deep        *nestedConf  `json:"deep,omitempty"`
	Big         *json.Number `json:"big,omitempty"`
}

type nestedConf struct {
	X              *int     `json:"x,omitempty"`
	Y              *int     `json:"y,omitempty"`
	AppendProfiles []string `json:"appendProfiles,omitempty"`
}

type testSpec struct {
	policy.ToFromSpec[conf]
}

func (*testSpec) Validate(*resource.Meta) []resource.Violation { return nil }

type singleSpec struct {
	policy.SingleSpec[conf]
}

func (*singleSpec) Validate(*resource.Meta) []resource.Violation { return nil }

func testKind() policy.Kind {
	return policy.Kind{
		Descriptor: &resource.Descriptor{Kind: "Test"},
		NewConf:    func() any { return &conf{} },
	}
}

func newPolicy(name string, spec resource.Spec, labels map[string]string) *resource.Resource {
	return &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: "Test", Mesh: "m", Name: name}, Labels: labels},
		Spec: spec,
	}
}

func newProxy(tags ...map[string]string) *resource.Resource {
	n := &resource.Networking{Address: "10.0.0.1"}
	for i, t := range tags {
		n.Inbound = append(n.Inbound, &resource.Inbound{Port: uint32(8080 + i), Tags: t})
	}
	return &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: resource.KindDataplane, Mesh: "m", Name: "dp"}},
		Spec: &resource.Dataplane{Networking: n},
	}
}

func fromItem(tags map[string]string, c conf) policy.Entry[conf] {
	ref := policy.TargetRef{Kind: policy.Mesh}
	if len(tags) > 0 {
		ref = policy.TargetRef{Kind: policy.MeshSubset, Tags: tags}
	}
	return policy.Entry[conf]{TargetRef: ref, Default: c}
}

// firstMatch evaluates rules as Envoy does.
func firstMatch(rules []policy.SubsetRule, client map[string]string) any {
	for _, r := range rules {
		if !slices.ContainsFunc(r.Matchers, func(m policy.Matcher) bool { return (client[m.Key] == m.Value) == m.Not }) {
			return r.Conf
		}
	}
	return nil
}

// naive merges what selects the client, item by item, field by field.
func naive(items []policy.Entry[conf], client map[string]string) any {
	var out *conf
	for _, item := range items {
		if slices.ContainsFunc(slices.Collect(maps.Keys(item.TargetRef.Tags)), func(k string) bool { return client[k] != item.TargetRef.Tags[k] }) {
			continue
		}
		if out == nil {
			out = &conf{}
		}
		if c := item.Default; c.A != nil {
			out.A = c.A
		}
		if c := item.Default; c.B != nil {
			out.B = c.B
		}
	}
	if out == nil {
		return nil
	}
	return out
}

func text(t rapid.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The first rule that matches a client must be the merge of all items that select the client, whatever the groups are.
func TestFromRulesEqualNaiveEvaluation(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		values := rapid.MapOfN(rapid.SampledFrom([]string{"k1", "k2", "k3"}), rapid.SampledFrom([]string{"x", "y", "z"}), 0, 3)
		number := rapid.Ptr(rapid.IntRange(0, 2), true)
		items := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) policy.Entry[conf] {
			return fromItem(values.Draw(rt, "tags"), conf{A: number.Draw(rt, "a"), B: number.Draw(rt, "b")})
		}), 1, 6).Draw(rt, "items")
		spec := &testSpec{policy.ToFromSpec[conf]{From: items}}
		dp := newProxy(map[string]string{})
		matched := policy.Matched(testKind(), dp, []*resource.Resource{newPolicy("p", spec, nil)}, "", false)
		rules, err := policy.Build(testKind(), dp, matched, nil)
		if err != nil {
			rt.Fatal(err)
		}
		got, ok := rules.ForInbound(dp.Spec.(*resource.Dataplane).Networking.Inbound[0])
		if !ok {
			rt.Fatal("the inbound is not selected")
		}
		for range 20 {
			client := values.Draw(rt, "client")
			if a, b := text(t, naive(items, client)), text(t, firstMatch(got, client)); a != b {
				rt.Fatalf("client %v: want %s, got %s from rules %s", client, a, b, text(t, got))
			}
		}
	})
}

// A client with tags of two disjoint groups must not escape the denial of one (the cliques of Kuma let it).
func TestFromRulesForgetNoItem(t *testing.T) {
	allow, deny := conf{A: new(1)}, conf{A: new(0)}
	spec := &testSpec{policy.ToFromSpec[conf]{From: []policy.Entry[conf]{
		fromItem(nil, allow),
		fromItem(map[string]string{"team": "a"}, deny),
		fromItem(map[string]string{"team": "b", "env": "x"}, allow),
	}}}
	dp := newProxy(map[string]string{})
	matched := policy.Matched(testKind(), dp, []*resource.Resource{newPolicy("p", spec, nil)}, "", false)
	rules, err := policy.BuildFrom(testKind(), dp, matched)
	if err != nil {
		t.Fatal(err)
	}
	got := firstMatch(rules.From[0].Rules, map[string]string{"team": "a", "env": "x"})
	if text(t, got) != `{"a":0}` {
		t.Errorf("got %s, want the denial; rules %s", text(t, got), text(t, rules.From[0].Rules))
	}
}

// Services that exclude each other give rules of Kuma's shape: one group for each.
func TestFromRulesKeepCliques(t *testing.T) {
	spec := &testSpec{policy.ToFromSpec[conf]{From: []policy.Entry[conf]{
		fromItem(nil, conf{A: new(0)}),
		fromItem(map[string]string{"svc": "a"}, conf{A: new(1)}),
		fromItem(map[string]string{"svc": "b"}, conf{A: new(1)}),
	}}}
	dp := newProxy(map[string]string{})
	rules, err := policy.BuildFrom(testKind(), dp, policy.Matched(testKind(), dp, []*resource.Resource{newPolicy("p", spec, nil)}, "", false))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rules.From[0].Rules {
		got = append(got, text(t, r.Matchers)+text(t, r.Conf))
	}
	want := []string{
		`[{"key":"svc","value":"b","not":false}]{"a":1}`, `[{"key":"svc","value":"a","not":false}]{"a":1}`,
		`[{"key":"svc","value":"b","not":true}]{"a":0}`, `[{"key":"svc","value":"a","not":true}]{"a":0}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

func TestTooManySubsets(t *testing.T) {
	var items []policy.Entry[conf]
	for i := range 40 {
		items = append(items, fromItem(map[string]string{fmt.Sprintf("k%d", i): "v"}, conf{A: &i}))
	}
	dp := newProxy(map[string]string{})
	matched := policy.Matched(testKind(), dp, []*resource.Resource{newPolicy("p", &testSpec{policy.ToFromSpec[conf]{From: items}}, nil)}, "", false)
	if _, err := policy.Build(testKind(), dp, matched, nil); !errors.Is(err, policy.ErrTooManySubsets) {
		t.Errorf("got %v, want ErrTooManySubsets", err)
	}
}

func buildSingle(t testing.TB, confs ...conf) *policy.Rules {
	t.Helper()
	var policies []*resource.Resource
	for i, c := range confs {
		// The smaller name wins: names descend so that confs ascend.
		policies = append(policies, newPolicy(fmt.Sprintf("p%02d", 50-i), &singleSpec{policy.SingleSpec[conf]{Conf: c}}, nil))
	}
	dp := newProxy(map[string]string{})
	rules, err := policy.Build(testKind(), dp, policy.Matched(testKind(), dp, policies, "", false), nil)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func TestMerge(t *testing.T) {
	big := json.Number("9007199254740993")
	for _, tt := range []struct {
		name  string
		confs []conf
		want  string
	}{
		{"one", []conf{{A: new(0)}}, `{"a":0}`},
		{"later wins", []conf{{A: new(1), B: new(1)}, {A: new(0)}}, `{"a":0,"b":1}`},
		{"lists replace", []conf{{List: []string{"a", "b"}}, {List: []string{"c"}}}, `{"list":["c"]}`},
		{"append joins", []conf{{AppendMatch: []string{"a"}}, {}, {AppendMatch: []string{"b", "a"}}}, `{"appendMatch":["a","b","a"]}`},
		{
			"deep",
			[]conf{{Deep: &nestedConf{X: new(1), AppendProfiles: []string{"a"}}}, {Deep: &nestedConf{Y: new(2), AppendProfiles: []string{"b"}}}},
			`{"deep":{"x":1,"y":2,"appendProfiles":["a","b"]}}`,
		},
		{"empty keeps", []conf{{Deep: &nestedConf{X: new(1)}}, {Deep: &nestedConf{}}}, `{"deep":{"x":1}}`},
		{"digits", []conf{{Big: &big}, {A: new(1)}}, `{"a":1,"big":9007199254740993}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := text(t, buildSingle(t, tt.confs...).Single.Conf); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// Confs that set different fields merge to the same in any order.
func TestMergeOfDistinctKeysHasNoOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		number := rapid.IntRange(-5, 5)
		confs := []conf{
			{A: new(number.Draw(rt, "a"))},
			{B: new(number.Draw(rt, "b"))},
			{C: new(number.Draw(rt, "c"))},
			{List: rapid.SliceOfN(rapid.String(), 1, 3).Draw(rt, "list")},
			{Deep: &nestedConf{X: new(number.Draw(rt, "x"))}},
			{Deep: &nestedConf{Y: new(number.Draw(rt, "y"))}},
		}
		want := text(t, buildSingle(t, confs...).Single.Conf)
		if got := text(t, buildSingle(t, rapid.Permutation(confs).Draw(rt, "order")...).Single.Conf); got != want {
			rt.Fatalf("got %s, want %s", got, want)
		}
	})
}

// A permission with an item for each of many services is the usual large policy.
func BenchmarkFromRules(b *testing.B) {
	items := []policy.Entry[conf]{fromItem(nil, conf{A: new(0)})}
	for i := range 300 {
		items = append(items, fromItem(map[string]string{"kuma.io/service": fmt.Sprintf("s%d", i)}, conf{A: new(1)}))
	}
	dp := newProxy(map[string]string{})
	matched := policy.Matched(testKind(), dp, []*resource.Resource{newPolicy("p", &testSpec{policy.ToFromSpec[conf]{From: items}}, nil)}, "", false)
	for b.Loop() {
		if _, err := policy.BuildFrom(testKind(), dp, matched); err != nil {
			b.Fatal(err)
		}
	}
}
