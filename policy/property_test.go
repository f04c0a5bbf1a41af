package policy_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// services answers with a fixed list.
type services []*resource.Resource

func (s services) Services(string) []*resource.Resource { return s }

func newService(kind resource.Kind, name string, labels map[string]string) *resource.Resource {
	r := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: kind, Mesh: "m", Name: name}, Labels: labels}}
	ports := []resource.ServicePort{{Name: "api", Port: 80}, {Port: 81}}
	switch kind {
	case resource.KindMeshService:
		r.Spec = &resource.MeshService{Ports: ports}
	case resource.KindMeshMultiZoneService:
		r.Spec = &resource.MeshMultiZoneService{}
	default:
		r.Spec = &resource.MeshExternalService{Match: resource.ExternalMatch{Port: 80, Protocol: "http"}}
	}
	return r
}

func someServices() services {
	return services{
		newService(resource.KindMeshService, "a", map[string]string{"x": "1"}),
		newService(resource.KindMeshMultiZoneService, "a", map[string]string{"x": "1"}),
		newService(resource.KindMeshService, "b", map[string]string{"x": "2", "k8s.kuma.io/namespace": "ns"}),
		newService(resource.KindMeshExternalService, "b", map[string]string{"x": "1"}),
		newService(resource.KindMeshService, "c-1", map[string]string{"kuma.io/display-name": "c", "k8s.kuma.io/namespace": "ns", "x": "1"}),
	}
}

// drawRef makes targetRefs, also those that validation refuses.
func drawRef(rt *rapid.T, kinds ...string) policy.TargetRef {
	maybe := func(what string, values ...string) string {
		return rapid.SampledFrom(append(values, "", "", "")).Draw(rt, what)
	}
	ref := policy.TargetRef{
		Kind: rapid.SampledFrom(kinds).Draw(rt, "kind"), Name: rapid.SampledFrom([]string{"a", "b", "c", "c_ns_svc_80", "c_ns_svc", "d"}).Draw(rt, "name"),
		Namespace: maybe("namespace", "ns"), SectionName: maybe("section", "api", "81"),
	}
	if v := maybe("tag", "1", "2", "*"); v != "" {
		ref.Tags = map[string]string{"team": v}
	}
	if v := maybe("label", "1", "2"); v != "" && ref.SectionName == "" {
		ref.Labels = map[string]string{"x": v}
	}
	if v := maybe("proxyType", "Sidecar", "Gateway"); v != "" {
		ref.ProxyTypes = []string{v}
	}
	return ref
}

var toKinds = []string{"Mesh", "MeshService", "MeshExternalService", "MeshMultiZoneService"}

func drawPolicy(rt *rapid.T, name string) *resource.Resource {
	number := rapid.Ptr(rapid.IntRange(0, 3), true)
	entries := func(what string, kinds ...string) []policy.Entry[conf] {
		return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) policy.Entry[conf] {
			return policy.Entry[conf]{TargetRef: drawRef(rt, kinds...), Default: conf{A: number.Draw(rt, "a"), B: number.Draw(rt, "b"), AppendMatch: []string{name}}}
		}), 0, 3).Draw(rt, what)
	}
	top := drawRef(rt, "Mesh", "Mesh", "MeshSubset", "MeshService", "MeshHTTPRoute", "MeshGateway")
	labels := map[string]string{}
	for _, l := range []struct {
		key    string
		values []string
	}{
		{"kuma.io/origin", []string{"zone", "global", "", ""}},
		{"kuma.io/zone", []string{"z1", "z2", "", "", ""}},
		{"k8s.kuma.io/namespace", []string{"ns", ""}},
		{"kuma.io/policy-role", []string{"producer", "consumer", "workload-owner", "", ""}},
		{"kuma.io/effect", []string{"shadow", "", "", "", ""}},
		{"kuma.io/display-name", []string{"a", "p", "", "", ""}},
	} {
		if v := rapid.SampledFrom(l.values).Draw(rt, l.key); v != "" {
			labels[l.key] = v
		}
	}
	return newPolicy(name, &testSpec{policy.ToFromSpec[conf]{
		TargetRef: &top, To: entries("to", toKinds...), From: entries("from", "Mesh", "MeshSubset", "MeshService", "MeshServiceSubset"),
	}}, labels)
}

func drawPolicies(rt *rapid.T) []*resource.Resource {
	var out []*resource.Resource
	for i := range rapid.IntRange(0, 6).Draw(rt, "policies") {
		out = append(out, drawPolicy(rt, fmt.Sprintf("p%d", i)))
	}
	return out
}

func client() *resource.Resource {
	dp := newProxy(map[string]string{"kuma.io/service": "a", "team": "1"}, map[string]string{"kuma.io/service": "b", "team": "2"})
	dp.Labels = map[string]string{"kuma.io/origin": "zone", "k8s.kuma.io/namespace": "ns"}
	return dp
}

func names(matched []*policy.Match) []string {
	var out []string
	for _, m := range matched {
		out = append(out, m.Policy.Name)
	}
	return out
}

// The order in which policies are stored means nothing, and rules are the same every time.
func TestRulesDoNotDependOnStorage(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		policies := drawPolicies(rt)
		one := buildAll(rt, policies)
		if two := buildAll(rt, rapid.Permutation(policies).Draw(rt, "order")); one != two {
			rt.Fatalf("rules differ:\n%s", cmp.Diff(one, two))
		}
	})
}

func buildAll(rt *rapid.T, policies []*resource.Resource) string {
	rules, err := policy.Build(testKind(), client(), policy.Matched(testKind(), client(), policies, "z1", false), someServices())
	if err != nil {
		rt.Fatal(err)
	}
	return readable(rt, rules)
}

// readable is what of rules can be compared.
func readable(t rapid.TB, r *policy.Rules) string {
	var out []any
	origin := func(list []*resource.Resource) (names []string) {
		for _, p := range list {
			names = append(names, p.Name)
		}
		return names
	}
	for _, f := range r.From {
		for _, s := range f.Rules {
			out = append(out, f.Inbound.Port, s.Matchers, s.Conf, origin(s.Origin))
		}
	}
	for _, s := range r.To {
		out = append(out, "to", s.Matchers, s.Conf, origin(s.Origin))
	}
	for _, s := range r.ToResources {
		out = append(out, s.Target, s.Section, s.Conf)
		for _, o := range s.Origin {
			out = append(out, o.Policy.Name, o.Index)
		}
	}
	return text(t, out)
}

// The precedence is a strict order: of two policies exactly one wins, and whoever beats the winner beats the loser.
func TestPrecedenceIsStrict(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		policies := []*resource.Resource{drawPolicy(rt, "p0"), drawPolicy(rt, "p1"), drawPolicy(rt, "p2")}
		for _, p := range policies {
			// All must match, or there is nothing to order.
			delete(p.Labels, "kuma.io/effect")
			delete(p.Labels, "kuma.io/zone")
			p.Labels["k8s.kuma.io/namespace"] = "ns"
			p.Spec.(*testSpec).TargetRef = &policy.TargetRef{
				Kind: rapid.SampledFrom([]string{"Mesh", "MeshSubset", "MeshService", "MeshServiceSubset"}).Draw(rt, "top"), Name: "a",
			}
		}
		before := func(i, j int) bool {
			a := names(policy.Matched(testKind(), client(), []*resource.Resource{policies[i], policies[j]}, "z1", false))
			b := names(policy.Matched(testKind(), client(), []*resource.Resource{policies[j], policies[i]}, "z1", false))
			if len(a) != 2 || !slices.Equal(a, b) {
				rt.Fatalf("order of %d and %d: %v, the other way %v", i, j, a, b)
			}
			return a[0] == policies[i].Name
		}
		if before(0, 1) && before(1, 2) && !before(0, 2) || !before(0, 1) && !before(1, 2) && before(0, 2) {
			rt.Fatal("the order is not transitive")
		}
		all := names(policy.Matched(testKind(), client(), policies, "z1", false))
		if len(all) != 3 || (slices.Index(all, "p0") < slices.Index(all, "p1")) != before(0, 1) {
			rt.Fatalf("three together: %v", all)
		}
	})
}

// For every client one rule is first, whatever was drawn, unless no item selects it.
func TestFromRulesCoverEveryClient(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		policies := drawPolicies(rt)
		dp := client()
		matched := policy.Matched(permitting(), dp, policies, "z1", false)
		rules, err := policy.BuildFrom(permitting(), dp, matched)
		if err != nil {
			rt.Fatal(err)
		}
		for _, in := range resource.SpecOf[*resource.Dataplane](dp).Networking.Inbound {
			_, selected := rules.ForInbound(in)
			got := rules.Enforced(in)
			var items []policy.Entry[conf]
			for _, m := range matched {
				if slices.Contains(m.Inbounds, in) {
					items = append(items, m.Policy.Spec.(*testSpec).From...)
				}
			}
			if !selected && len(items) > 0 {
				rt.Fatalf("inbound %d is not selected", in.Port)
			}
			for i := range items { // as tags
				items[i].TargetRef = asSubset(items[i].TargetRef)
			}
			for range 10 {
				who := map[string]string{
					"kuma.io/service": rapid.SampledFrom([]string{"a", "b", "c", "z"}).Draw(rt, "service"),
					"team":            rapid.SampledFrom([]string{"1", "2", "3", "*"}).Draw(rt, "team"),
				}
				var appended []string
				for _, item := range items {
					// In `from` items "*" is a value like others.
					if policy.HasTags(who, item.TargetRef.Tags) && (item.TargetRef.Tags["team"] != "*" || who["team"] == "*") {
						appended = append(appended, item.Default.AppendMatch...)
					}
				}
				first, _ := firstMatch(got, who).(*conf)
				switch {
				case first == nil && appended != nil:
					rt.Fatalf("client %v meets no rule of %s", who, text(rt, got))
				case first != nil && !slices.Equal(first.AppendMatch, appended):
					rt.Fatalf("client %v: items %v, the rule has those of %v", who, appended, first.AppendMatch)
				}
			}
		}
	})
}

func asSubset(ref policy.TargetRef) policy.TargetRef {
	tags := map[string]string{}
	if ref.Kind == "MeshSubset" || ref.Kind == "MeshServiceSubset" {
		for k, v := range ref.Tags {
			tags[k] = v
		}
	}
	if ref.Kind == "MeshService" || ref.Kind == "MeshServiceSubset" {
		tags["kuma.io/service"] = ref.Name
	}
	return policy.TargetRef{Tags: tags}
}

// Rules that are made from earlier ones are those that would be made from nothing.
func TestRulesAfterChangesAreTheSame(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		policies := drawPolicies(rt)
		index := policy.NewIndex("m", someServices())
		var set *policy.Set
		var earlier *policy.ToRules
		for step := range 6 {
			set = policy.NewSet(testKind(), policies, nil, set)
			matched, _ := set.Matched(client(), policy.View{Zone: "z1"})
			fresh, _ := policy.NewSet(testKind(), policies, nil, nil).Matched(client(), policy.View{Zone: "z1"})
			if a, b := names(fresh), names(matched); !slices.Equal(a, b) {
				rt.Fatalf("step %d: order %v, want %v", step, b, a)
			}
			byTags := rapid.Bool().Draw(rt, "byTags")
			got, err := policy.BuildToAfter(earlier, testKind(), matched, index, byTags)
			if err != nil {
				rt.Fatal(err)
			}
			want, err := policy.BuildToAfter(nil, testKind(), fresh, index, byTags)
			if err != nil {
				rt.Fatal(err)
			}
			var a, b policy.Rules
			a.SetTo(want)
			b.SetTo(got)
			if a, b := readable(rt, &a), readable(rt, &b); a != b {
				rt.Fatalf("step %d:\n%s", step, cmp.Diff(a, b))
			}
			for _, s := range someServices() {
				for _, section := range []string{"", "api", "81", "other"} {
					plain := policy.Rules{ToResources: want.ToResources} // looked up one by one
					if x, y := text(rt, plain.ForService(s.Key, section)), text(rt, b.ForService(s.Key, section)); x != y {
						rt.Fatalf("look up %s %q: %s, want %s", s.Key, section, y, x)
					}
				}
			}
			earlier = got
			name := fmt.Sprintf("p%d", rapid.IntRange(0, 6).Draw(rt, "changed"))
			policies = slices.DeleteFunc(slices.Clone(policies), func(p *resource.Resource) bool { return p.Name == name })
			if rapid.Bool().Draw(rt, "written") {
				policies = append(policies, drawPolicy(rt, name))
			}
		}
	})
}

// A change of what is said about a whole service changes the rules of its sections, and the end of the last item about a
// place ends its rule.
func TestRulesAfterAChangeOfTheWholeService(t *testing.T) {
	about := func(name, section string, a int) *resource.Resource {
		return newPolicy(name, &testSpec{policy.ToFromSpec[conf]{To: []policy.Entry[conf]{
			{TargetRef: policy.TargetRef{Kind: policy.MeshService, Name: "a", SectionName: section}, Default: conf{A: &a, AppendMatch: []string{name}}},
		}}}, nil)
	}
	section, other := about("p", "api", 1), about("q", "81", 2)
	index := policy.NewIndex("m", someServices())
	var set *policy.Set
	var rules *policy.ToRules
	for _, step := range []struct {
		policies []*resource.Resource
		want     string
	}{
		{[]*resource.Resource{section, other}, `81 [{"a":2,"appendMatch":["q"]}] api [{"a":1,"appendMatch":["p"]}] `},
		{
			[]*resource.Resource{section, other, about("r", "", 3)},
			` [{"a":3,"appendMatch":["r"]}] 81 [{"a":2,"appendMatch":["r","q"]}] api [{"a":1,"appendMatch":["r","p"]}] `,
		},
		{[]*resource.Resource{section, about("r", "", 4)}, ` [{"a":4,"appendMatch":["r"]}] api [{"a":1,"appendMatch":["r","p"]}] `},
		{[]*resource.Resource{section}, `api [{"a":1,"appendMatch":["p"]}] `},
	} {
		set = policy.NewSet(testKind(), step.policies, nil, set)
		matched, _ := set.Matched(client(), policy.View{})
		var err error
		if rules, err = policy.BuildToAfter(rules, testKind(), matched, index, false); err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, r := range rules.ToResources {
			got += r.Section + " " + text(t, r.Conf) + " "
		}
		if got != step.want {
			t.Errorf("got  %s\nwant %s", got, step.want)
		}
	}
}
