package policytest

import (
	"bytes"
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
	"github.com/kuma-dp/kuma-dp/resource"
)

// Rules runs conformance cases: dir/<case>/input.yaml and dir/<case>/expected/<proxy>.rules.json, of which it compares
// what belongs to kind, but for the cases that are excepted. Mode Exclusive hides the rules by tags.
func Rules(t *testing.T, kind policy.Kind, dir string, except ...string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*/expected/*.rules.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases in %s: %v", dir, err)
	}
	for _, file := range files {
		root := filepath.Dir(filepath.Dir(file))
		if slices.Contains(except, filepath.Base(root)) {
			continue
		}
		proxy := strings.TrimSuffix(filepath.Base(file), ".rules.json")
		t.Run(filepath.Base(root)+"/"+proxy, func(t *testing.T) {
			var answer struct {
				Rules []map[string]any `json:"rules"`
			}
			read(t, file, &answer)
			var want map[string]any
			for _, r := range answer.Rules {
				if r["type"] == string(kind.Descriptor.Kind) {
					want = r
				}
			}
			got := load(t, kind, filepath.Join(root, "input.yaml")).rules(t, kind, proxy)
			if diff := gocmp.Diff(normal(t, want), normal(t, got)); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
		})
	}
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// world holds the resources of a case, in the order of names; it implements policy.Resolver.
type world []*resource.Resource

func (w world) ofKind(k resource.Kind) []*resource.Resource {
	return slices.DeleteFunc(slices.Clone(w), func(r *resource.Resource) bool { return r.Kind != k })
}

// Services implements policy.Resolver.
func (w world) Services(string) []*resource.Resource { return w.ofKind(resource.KindMeshService) }

// load treats resources as the API of zone-a does; those of other kinds of policy are left out.
func load(t *testing.T, kind policy.Kind, path string) world {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	registry := resource.NewRegistry(append(resource.Core(), kind.Descriptor)...)
	info := resource.ZoneInfo{Zone: "zone-a"}
	var w world
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
		w = append(w, r)
	}
	slices.SortStableFunc(w, func(a, b *resource.Resource) int { return cmp.Compare(a.Name, b.Name) })
	return w
}

// rules is the part of `_rules` for one kind, nil when there is nothing to say.
func (w world) rules(t *testing.T, kind policy.Kind, proxy string) map[string]any {
	t.Helper()
	dps := w.ofKind(resource.KindDataplane)
	i := slices.IndexFunc(dps, func(r *resource.Resource) bool { return r.Name == proxy })
	if i < 0 {
		t.Fatalf("no Dataplane %s", proxy)
	}
	matched := policy.Matched(kind, dps[i], w.ofKind(kind.Descriptor.Kind), "zone-a", false)
	rules, err := policy.Build(kind, dps[i], matched, w)
	if err != nil {
		t.Fatal(err)
	}
	var from, to, resources []any
	for _, f := range rules.From {
		if len(f.Rules) > 0 {
			in := map[string]any{"port": f.Inbound.Port, "tags": f.Inbound.Tags}
			from = append(from, map[string]any{"inbound": in, "rules": bySubset(f.Rules)})
		}
	}
	mesh, ok := w.ofKind(resource.KindMesh)[0].Spec.(*resource.Mesh)
	if !ok || mesh.ServicesMode() != resource.MeshServicesExclusive {
		to = bySubset(rules.To)
	}
	for _, r := range rules.ToResources {
		var origin []any
		for _, o := range r.Origin {
			origin = append(origin, map[string]any{"resourceMeta": metaOf(o.Policy), "ruleIndex": o.Index})
		}
		target := w[slices.IndexFunc(w, func(x *resource.Resource) bool { return x.Key == r.Target })]
		resources = append(resources, map[string]any{
			"conf": r.Conf, "origin": origin, "resourceMeta": metaOf(target), "resourceSectionName": r.Section,
		})
	}
	var single any
	if r := rules.Single; r != nil {
		var origin []any
		for _, o := range r.Origin {
			origin = append(origin, metaOf(o))
		}
		single = map[string]any{"conf": r.Conf, "origin": origin}
	}
	if single == nil && len(from)+len(to)+len(resources) == 0 {
		return nil
	}
	return map[string]any{
		"proxyRule": single, "type": kind.Descriptor.Kind, "fromRules": from, "toRules": to, "toResourceRules": resources, "warnings": rules.Warnings,
	}
}

func bySubset(rules []policy.SubsetRule) []any {
	var out []any
	for _, r := range rules {
		var origin []any
		for _, o := range r.Origin {
			origin = append(origin, metaOf(o))
		}
		out = append(out, map[string]any{"matchers": r.Matchers, "conf": r.Conf, "origin": origin})
	}
	return out
}

func metaOf(r *resource.Resource) map[string]any {
	labels := maps.Clone(r.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	return map[string]any{"labels": labels, "mesh": r.Mesh, "name": r.Name, "type": r.Kind}
}

// normal is v as plain JSON, without empty lists and with the lists that are sets sorted.
func normal(t *testing.T, v map[string]any) any {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"fromRules", "toResourceRules"} {
		list, _ := out[set].([]any)
		slices.SortFunc(list, func(a, b any) int {
			first, _ := json.Marshal(a)
			second, _ := json.Marshal(b)
			return bytes.Compare(first, second)
		})
	}
	maps.DeleteFunc(out, func(_ string, v any) bool {
		list, isList := v.([]any)
		return v == nil || isList && len(list) == 0
	})
	return out
}
