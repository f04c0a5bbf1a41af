package xds

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/older"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Override tells that a policy has the last word on something that another one says too.
type Override struct {
	By, Of resource.Key
	// Fields name what is overridden, sorted, as in "to MeshService backend: http.requestTimeout".
	Fields []string
	// Whole says that nothing of the overridden policy is left at any of the proxies.
	Whole bool
	// Proxies counts where.
	Proxies int
}

// overrides finds out, for the policies that a change writes, from which others they take effect, and which take it from
// them: by leaving policies out and looking at what becomes of the rules.
type overrides struct {
	kinds   []policy.Kind
	zone    string
	written map[resource.Key]bool
	matched map[resource.Key]int
	found   map[[2]resource.Key]*overridden
	// groups remembers the answer for proxies whose rules are made from the same.
	groups map[string][]Override
}

type overridden struct {
	fields  map[string]bool
	whole   bool
	proxies int
}

func newOverrides(kinds []policy.Kind, before, after *topology.World) *overrides {
	o := &overrides{
		kinds: kinds, zone: after.Zones.Local, written: map[resource.Key]bool{}, matched: map[resource.Key]int{},
		found: map[[2]resource.Key]*overridden{}, groups: map[string][]Override{},
	}
	for name, m := range after.Meshes {
		var old map[resource.Kind][]*resource.Resource
		if b := before.Meshes[name]; b != nil {
			old = b.Policies
		}
		for kind, list := range m.Policies {
			for _, p := range list {
				if !slices.Contains(old[kind], p) {
					o.written[p.Key] = true
				}
			}
		}
	}
	return o
}

// look takes in the rules of a proxy after the change.
func (o *overrides) look(book *meshBook, m *topology.Mesh, dp *topology.Dataplane, rules map[resource.Kind]*policy.Rules) {
	for _, kind := range resource.OlderPolicies() {
		for _, p := range m.Policies[kind] {
			if o.written[p.Key] && older.Matches(p, dp.Resource, o.zone) {
				o.matched[p.Key]++
			}
		}
	}
	for _, k := range o.kinds {
		r := rules[k.Descriptor.Kind]
		if r == nil {
			continue
		}
		concerned := false
		for _, p := range r.Policies {
			if o.written[p.Policy.Key] {
				o.matched[p.Policy.Key]++
				concerned = true
			}
		}
		if !concerned || len(r.Policies) < 2 {
			continue
		}
		inbounds, err := json.Marshal(dp.Spec.Networking)
		if err != nil {
			continue // it came from JSON
		}
		if len(r.From) == 0 {
			inbounds = nil
		}
		key := join(m.Name, string(k.Descriptor.Kind), policy.KeyOf(r.Policies), string(inbounds))
		list, ok := o.groups[key]
		if !ok {
			byTags := m.Spec.ServicesMode() != resource.MeshServicesExclusive
			a := &ablation{kind: k, dp: dp.Resource, rules: r, index: book.index, byTags: byTags, written: o.written, leaves: map[string]map[string]string{}}
			list = a.run()
			o.groups[key] = list
		}
		for _, one := range list {
			o.add(one)
		}
	}
}

func (o *overrides) add(one Override) {
	pair := [2]resource.Key{one.By, one.Of}
	sum := o.found[pair]
	if sum == nil {
		sum = &overridden{fields: map[string]bool{}, whole: true}
		o.found[pair] = sum
	}
	for _, f := range one.Fields {
		sum.fields[f] = true
	}
	sum.whole = sum.whole && one.Whole
	sum.proxies++
}

func (o *overrides) list() []Override {
	out := make([]Override, 0, len(o.found))
	for pair, sum := range o.found {
		out = append(out, Override{pair[0], pair[1], slices.Sorted(maps.Keys(sum.fields)), sum.whole, sum.proxies})
	}
	text := func(k resource.Key) string { return k.String() }
	slices.SortFunc(out, func(a, b Override) int {
		return cmp.Or(cmp.Compare(text(a.By), text(b.By)), cmp.Compare(text(a.Of), text(b.Of)))
	})
	return out
}

// section is a part of rules in which policies meet.
type section struct {
	name     string
	policies []resource.Key
	// of returns the confs of the section out of other rules, with what tells clients apart.
	of func(*policy.Rules) []policy.SubsetRule
}

// ablation looks at the rules of one kind at one proxy.
type ablation struct {
	kind    policy.Kind
	dp      *resource.Resource
	rules   *policy.Rules
	index   *policy.Index
	byTags  bool
	written map[resource.Key]bool
	leaves  map[string]map[string]string // by section and set of policies
}

func (a *ablation) run() []Override {
	sections := a.sections()
	found := map[[2]resource.Key]*Override{}
	for _, s := range sections {
		for _, by := range s.policies {
			for _, of := range s.policies {
				if by == of || !a.written[by] && !a.written[of] {
					continue
				}
				left, all, less := a.decides(s, of), a.fields(s), a.fields(without(s, by))
				for field := range a.decides(without(s, by), of) {
					if left[field] || all[field] == less[field] {
						continue // it still says it, or the other one says the same
					}
					one := found[[2]resource.Key{by, of}]
					if one == nil {
						one = &Override{By: by, Of: of, Whole: a.silent(sections, of)}
						found[[2]resource.Key{by, of}] = one
					}
					one.Fields = append(one.Fields, strings.TrimSuffix(s.name+": "+field, ": "))
				}
			}
		}
	}
	var out []Override
	for _, one := range found {
		out = append(out, *one)
	}
	return out
}

// silent tells whether nothing of a policy is left at the proxy.
func (a *ablation) silent(sections []section, of resource.Key) bool {
	return !slices.ContainsFunc(sections, func(s section) bool { return slices.Contains(s.policies, of) && len(a.decides(s, of)) > 0 })
}

func without(s section, key resource.Key) section {
	s.policies = slices.DeleteFunc(slices.Clone(s.policies), func(k resource.Key) bool { return k == key })
	return s
}

// decides names the fields of a section that would be others without a policy.
func (a *ablation) decides(s section, key resource.Key) map[string]bool {
	with, less := a.fields(s), a.fields(without(s, key))
	out := map[string]bool{}
	for f, v := range with {
		if w, ok := less[f]; !ok || w != v {
			out[f] = true
		}
	}
	return out
}

// fields are the leaves of the confs of a section made from its policies alone.
func (a *ablation) fields(s section) map[string]string {
	id := s.name
	for _, k := range s.policies {
		id = join(id, k.String())
	}
	if known, ok := a.leaves[id]; ok {
		return known
	}
	out := map[string]string{}
	a.leaves[id] = out
	var matched []*policy.Match
	for _, m := range a.rules.Policies {
		if slices.Contains(s.policies, m.Policy.Key) {
			matched = append(matched, m)
		}
	}
	if len(matched) == 0 {
		return out
	}
	r, err := policy.BuildFrom(a.kind, a.dp, matched)
	if err != nil {
		return out // what is too many is not compared
	}
	if to, err := policy.BuildToAfter(nil, a.kind, matched, a.index, a.byTags); err == nil {
		r.SetTo(to)
	}
	for _, rule := range s.of(r) {
		b, err := json.Marshal(rule.Conf)
		if err != nil {
			continue
		}
		var conf any
		if json.Unmarshal(b, &conf) == nil {
			flatten("", conf, func(path, value string) { out[path] += fmt.Sprint(rule.Matchers, value, ";") })
		}
	}
	return out
}

// flatten calls f with every field that is no object.
func flatten(path string, v any, f func(path, value string)) {
	m, ok := v.(map[string]any)
	if !ok || len(m) == 0 {
		b, _ := json.Marshal(v) // it was JSON
		f(path, string(b))
		return
	}
	for k, e := range m {
		flatten(strings.TrimPrefix(path+"."+k, "."), e, f)
	}
}

func (a *ablation) sections() []section {
	var out []section
	for _, in := range a.rules.From {
		s := section{name: fmt.Sprintf("from at inbound %d", in.Inbound.Port), of: func(r *policy.Rules) []policy.SubsetRule {
			rules, _ := r.ForInbound(in.Inbound)
			return rules
		}}
		for _, rule := range in.Rules {
			s.add(rule.Origin)
		}
		out = append(out, s)
	}
	for _, rule := range a.rules.To {
		name := "to everything"
		if len(rule.Matchers) > 0 {
			name = "to tags"
			for _, m := range rule.Matchers {
				name += " " + map[bool]string{true: "!"}[m.Not] + m.Key + "=" + m.Value
			}
		}
		s := section{name: name, of: func(r *policy.Rules) []policy.SubsetRule { return r.To }}
		s.add(rule.Origin)
		out = append(out, s)
	}
	for _, rule := range a.rules.ToResources {
		name := strings.TrimSpace("to " + string(rule.Target.Kind) + " " + rule.Target.Name + " " + rule.Section)
		s := section{name: name, of: func(r *policy.Rules) []policy.SubsetRule {
			for _, other := range r.ToResources {
				if other.Target == rule.Target && other.Section == rule.Section {
					var out []policy.SubsetRule
					for _, conf := range other.Conf {
						out = append(out, policy.SubsetRule{Conf: conf})
					}
					return out
				}
			}
			return nil
		}}
		for _, o := range rule.Origin {
			s.add([]*resource.Resource{o.Policy})
		}
		out = append(out, s)
	}
	if single := a.rules.Single; single != nil {
		s := section{name: "default", of: func(r *policy.Rules) []policy.SubsetRule {
			if r.Single == nil {
				return nil
			}
			return []policy.SubsetRule{{Conf: r.Single.Conf}}
		}}
		s.add(single.Origin)
		out = append(out, s)
	}
	return out
}

func (s *section) add(origin []*resource.Resource) {
	for _, p := range origin {
		if !slices.Contains(s.policies, p.Key) {
			s.policies = append(s.policies, p.Key)
		}
	}
}
