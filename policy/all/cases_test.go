package all_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// The parts of an answer of `_rules`; the cases were captured from Kuma 2.9.13 (zone mode, zone zone-a).
type (
	rulesAnswer struct {
		Rules []kindRules `json:"rules"`
	}
	kindRules struct {
		Type            string         `json:"type"`
		ProxyRule       any            `json:"proxyRule,omitempty"`
		FromRules       []fromRule     `json:"fromRules"`
		ToRules         []tagRule      `json:"toRules"`
		ToResourceRules []resourceRule `json:"toResourceRules"`
		Warnings        []string       `json:"warnings"`
	}
	fromRule struct {
		Inbound inbound   `json:"inbound"`
		Rules   []tagRule `json:"rules"`
	}
	inbound struct {
		Port uint32            `json:"port"`
		Tags map[string]string `json:"tags"`
	}
	tagRule struct {
		Matchers []policy.Matcher `json:"matchers"`
		Conf     any              `json:"conf"`
		Origin   []meta           `json:"origin"`
	}
	resourceRule struct {
		Conf    []any  `json:"conf"`
		Origin  []item `json:"origin"`
		Meta    meta   `json:"resourceMeta"`
		Section string `json:"resourceSectionName"`
	}
	item struct {
		Meta  meta `json:"resourceMeta"`
		Index int  `json:"ruleIndex"`
	}
	meta struct {
		Labels map[string]string `json:"labels"`
		Mesh   string            `json:"mesh"`
		Name   string            `json:"name"`
		Type   resource.Kind     `json:"type"`
	}
)

// world holds the resources of a case.
type world struct{ all []*resource.Resource }

func (w *world) ofKind(k resource.Kind) []*resource.Resource {
	var out []*resource.Resource
	for _, r := range w.all {
		if r.Kind == k {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b *resource.Resource) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Services implements policy.Resolver.
func (w *world) Services(string) []*resource.Resource { return w.ofKind(resource.KindMeshService) }

func (w *world) meta(t *testing.T, key resource.Key) meta {
	t.Helper()
	i := slices.IndexFunc(w.all, func(r *resource.Resource) bool { return r.Key == key })
	if i < 0 {
		t.Fatalf("rule for %s, which does not exist", key)
	}
	return metaOf(w.all[i])
}

func metaOf(r *resource.Resource) meta {
	labels := maps.Clone(r.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	return meta{Labels: labels, Mesh: r.Mesh, Name: r.Name, Type: r.Kind}
}

// load reads a stream of resources and treats them as the API does on creation. Kinds that are not known are left out.
func load(t *testing.T, path string) *world {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	registry := resource.NewRegistry(all.Descriptors()...)
	info := resource.ZoneInfo{Zone: "zone-a"}
	w := &world{}
	for _, doc := range resource.SplitYAML(data) {
		r, err := registry.DecodeYAML(doc)
		if _, unknown := errors.AsType[*resource.UnknownKindError](err); unknown {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		resource.ComputeLabels(r, info)
		resource.SetDefaults(r, info)
		if faults := append(resource.Validate(r), resource.ValidateLabels(r, info)...); len(faults) > 0 {
			t.Fatalf("%s: %v", r.Key, faults)
		}
		w.all = append(w.all, r)
	}
	return w
}

func TestRulesOfCases(t *testing.T) {
	files, err := filepath.Glob("testdata/cases/*/expected/*.rules.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		dir := filepath.Dir(filepath.Dir(file))
		proxy := strings.TrimSuffix(filepath.Base(file), ".rules.json")
		t.Run(filepath.Base(dir)+"/"+proxy, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want rulesAnswer
			if err := json.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			w := load(t, filepath.Join(dir, "input.yaml"))
			got := rulesAnswer{Rules: w.rules(t, proxy)}
			known := map[string]bool{}
			for _, k := range all.Kinds() {
				known[string(k.Descriptor.Kind)] = true
			}
			want.Rules = slices.DeleteFunc(want.Rules, func(r kindRules) bool { return !known[r.Type] })
			normalise(&want)
			normalise(&got)
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("rules differ (-want +got):\n%s", diff)
			}
		})
	}
}

// rules answers as `_rules` does. All cases here are in mode Exclusive, which shows no rules by tags.
func (w *world) rules(t *testing.T, proxy string) []kindRules {
	t.Helper()
	dps := w.ofKind(resource.KindDataplane)
	dp := dps[slices.IndexFunc(dps, func(r *resource.Resource) bool { return r.Name == proxy })]
	var out []kindRules
	for _, kind := range all.Kinds() {
		matched := policy.Matched(kind, dp, w.ofKind(kind.Descriptor.Kind), "zone-a", false)
		rules, err := policy.Build(kind, dp, matched, w)
		if err != nil {
			t.Fatal(err)
		}
		answer := kindRules{Type: string(rules.Kind)}
		for _, f := range rules.From {
			if len(f.Rules) > 0 {
				answer.FromRules = append(answer.FromRules, fromRule{
					Inbound: inbound{f.Inbound.Port, f.Inbound.Tags}, Rules: tagRules(t, f.Rules),
				})
			}
		}
		for _, r := range rules.ToResources {
			rule := resourceRule{Conf: plain(t, r.Conf).([]any), Meta: w.meta(t, r.Target), Section: r.Section}
			for _, o := range r.Origin {
				rule.Origin = append(rule.Origin, item{metaOf(o.Policy), o.Index})
			}
			answer.ToResourceRules = append(answer.ToResourceRules, rule)
		}
		if len(answer.FromRules)+len(answer.ToResourceRules) > 0 {
			out = append(out, answer)
		}
	}
	return out
}

func tagRules(t *testing.T, rules []policy.SubsetRule) []tagRule {
	t.Helper()
	var out []tagRule
	for _, r := range rules {
		rule := tagRule{Matchers: r.Matchers, Conf: plain(t, r.Conf)}
		for _, o := range r.Origin {
			rule.Origin = append(rule.Origin, metaOf(o))
		}
		out = append(out, rule)
	}
	return out
}

// plain turns a conf into what JSON says of it.
func plain(t *testing.T, v any) any {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// normalise brings what is a set into one order and makes empty lists nil.
func normalise(a *rulesAnswer) {
	if len(a.Rules) == 0 {
		a.Rules = nil
	}
	for i := range a.Rules {
		r := &a.Rules[i]
		slices.SortFunc(r.ToResourceRules, func(a, b resourceRule) int {
			return cmp.Or(cmp.Compare(a.Meta.Type, b.Meta.Type), cmp.Compare(a.Meta.Name, b.Meta.Name), cmp.Compare(a.Section, b.Section))
		})
		slices.SortFunc(r.FromRules, func(a, b fromRule) int { return cmp.Compare(a.Inbound.Port, b.Inbound.Port) })
		for _, f := range r.FromRules {
			for j := range f.Rules {
				ms := f.Rules[j].Matchers
				slices.SortFunc(ms, func(a, b policy.Matcher) int { return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Value, b.Value)) })
				if len(ms) == 0 {
					f.Rules[j].Matchers = nil
				}
			}
		}
		r.FromRules, r.ToRules = orNil(r.FromRules), orNil(r.ToRules)
		r.ToResourceRules, r.Warnings = orNil(r.ToResourceRules), orNil(r.Warnings)
	}
}

func orNil[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}
