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

// permitting is a kind that decides who gets in.
func permitting() policy.Kind {
	k := testKind()
	k.Permits = true
	return k
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

// The first rule to enforce that matches a client must be the merge of all items that select the client, whatever the
// groups are.
func TestFromRulesEqualNaiveEvaluation(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		values := rapid.MapOfN(rapid.SampledFrom([]string{"k1", "k2", "k3"}), rapid.SampledFrom([]string{"x", "y", "z"}), 0, 3)
		number := rapid.Ptr(rapid.IntRange(0, 2), true)
		items := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) policy.Entry[conf] {
			return fromItem(values.Draw(rt, "tags"), conf{A: number.Draw(rt, "a"), B: number.Draw(rt, "b")})
		}), 1, 6).Draw(rt, "items")
		spec := &testSpec{policy.ToFromSpec[conf]{From: items}}
		dp := newProxy(map[string]string{})
		kind := permitting()
		kind.Components = rapid.Bool().Draw(rt, "components")
		matched := policy.Matched(kind, dp, []*resource.Resource{newPolicy("p", spec, nil)}, "", false)
		rules, err := policy.Build(kind, dp, matched, nil)
		if err != nil {
			rt.Fatal(err)
		}
		in := dp.Spec.(*resource.Dataplane).Networking.Inbound[0]
		if _, ok := rules.ForInbound(in); !ok {
			rt.Fatal("the inbound is not selected")
		}
		got := rules.Enforced(in)
		for range 20 {
			client := values.Draw(rt, "client")
			if a, b := text(t, naive(items, client)), text(t, firstMatch(got, client)); a != b {
				rt.Fatalf("client %v: want %s, got %s from rules %s", client, a, b, text(t, got))
			}
		}
	})
}

// A client with tags of two disjoint groups must not escape the denial of one: the cliques of Kuma, which are what is
// shown, let it.
func TestRulesToEnforceForgetNoItem(t *testing.T) {
	allow, deny := conf{A: new(1)}, conf{A: new(0)}
	spec := &testSpec{policy.ToFromSpec[conf]{From: []policy.Entry[conf]{
		fromItem(nil, allow),
		fromItem(map[string]string{"team": "a"}, deny),
		fromItem(map[string]string{"team": "b", "env": "x"}, allow),
	}}}
	dp := newProxy(map[string]string{})
	matched := policy.Matched(permitting(), dp, []*resource.Resource{newPolicy("p", spec, nil)}, "", false)
	rules, err := policy.BuildFrom(permitting(), dp, matched)
	if err != nil {
		t.Fatal(err)
	}
	from, client := rules.From[0], map[string]string{"team": "a", "env": "x"}
	if got := text(t, firstMatch(from.Rules, client)); got != `{"a":1}` {
		t.Errorf("shown is %s, want what the first clique says; rules %s", got, text(t, from.Rules))
	}
	if got := text(t, firstMatch(rules.Enforced(from.Inbound), client)); got != `{"a":0}` {
		t.Errorf("enforced is %s, want the denial; rules %s", got, text(t, from.Exact))
	}
	// Kinds that let nobody in or out have only what is shown.
	if rules, err = policy.BuildFrom(testKind(), dp, matched); err != nil || rules.From[0].Exact != nil {
		t.Errorf("%v, %s", err, text(t, rules.From[0].Exact))
	}
	// The groups of older versions forget nothing.
	old := permitting()
	old.Components = true
	rules, err = policy.BuildFrom(old, dp, matched)
	if err != nil || text(t, rules.From[0].Rules) != text(t, from.Exact) || rules.From[0].Exact != nil {
		t.Errorf("%v, rules of components %s", err, text(t, rules.From[0]))
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
	matched := policy.Matched(permitting(), dp, []*resource.Resource{newPolicy("p", &testSpec{policy.ToFromSpec[conf]{From: items}}, nil)}, "", false)
	rules, err := policy.Build(permitting(), dp, matched, nil)
	if !errors.Is(err, policy.ErrTooManySubsets) {
		t.Fatalf("got %v, want ErrTooManySubsets", err)
	}
	if f := rules.From[0]; len(f.Rules) > 0 || f.Exact == nil || len(f.Exact) > 0 {
		t.Errorf("rules %s, want none, and nobody let in", text(t, f))
	}
}

// Rules that are few are shown also where the exact ones, which are enforced, are too many: these let nobody in. An inbound
// that such a policy does not select keeps its own.
func TestTooManyExactRules(t *testing.T) {
	items := []policy.Entry[conf]{fromItem(nil, conf{A: new(1)}), fromItem(map[string]string{"kuma.io/service": "x"}, conf{A: new(0)})}
	for i := range 11 { // each with a key of its own; the services keep them apart
		items = append(items, fromItem(map[string]string{"kuma.io/service": fmt.Sprint(i), fmt.Sprintf("k%d", i): "v"}, conf{A: new(1)}))
	}
	dp := newProxy(map[string]string{"port": "a"}, map[string]string{"port": "b"})
	many := newPolicy("many", &testSpec{policy.ToFromSpec[conf]{TargetRef: &policy.TargetRef{Kind: policy.MeshSubset, Tags: map[string]string{"port": "a"}}, From: items}}, nil)
	few := newPolicy("few", &testSpec{policy.ToFromSpec[conf]{From: items[:1]}}, nil)
	rules, err := policy.BuildFrom(permitting(), dp, policy.Matched(permitting(), dp, []*resource.Resource{many, few}, "", false))
	if !errors.Is(err, policy.ErrTooManySubsets) {
		t.Fatalf("got %v, want ErrTooManySubsets", err)
	}
	a, b := rules.From[0], rules.From[1]
	if got := len(a.Rules); got != 2+11*4 {
		t.Errorf("%d rules are shown, want those of 12 cliques", got)
	}
	if got := rules.Enforced(a.Inbound); got == nil || len(got) != 0 {
		t.Errorf("enforced are %s, want none", text(t, got))
	}
	if got := text(t, firstMatch(rules.Enforced(b.Inbound), nil)); got != `{"a":1}` {
		t.Errorf("at the other inbound %s is enforced", got)
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
