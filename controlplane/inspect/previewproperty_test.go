package inspect

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoregistry"
	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/policy/all/alltest"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/effect/effecttest"
	"github.com/kuma-dp/kuma-dp/resource"
)

// TestPreviewIsWhatHappens previews random requests in random meshes, then does what they say and compares what became of
// the proxies: policies of every kind and now and then something else, one or several at once, written or deleted.
func TestPreviewIsWhatHappens(t *testing.T) {
	w := &foreseen{rig: start(t, nil), seen: map[string]int{}}
	rapid.Check(t, func(rt *rapid.T) {
		w.begin(rt)
		for range rapid.IntRange(1, 4).Draw(rt, "requests") {
			w.request(rt)
		}
	})
	if w.compared < w.refused {
		t.Errorf("%d requests were compared, %d refused", w.compared, w.refused)
	}
	for _, what := range slices.Concat(alltest.Modes(), []string{"removal", "several"}) {
		if w.seen[what] == 0 {
			t.Errorf("no request was for %s", what)
		}
	}
	for _, k := range alltest.Kinds() {
		if w.seen[string(k)] == 0 {
			t.Errorf("no request was for %s", k)
		}
	}
}

// foreseen is a mesh of which a preview has told what would become.
type foreseen struct {
	*rig
	stored map[resource.Key]bool
	now    map[string]shown
	// compared and refused count requests, seen those that were compared, by mode, kind and form.
	compared, refused int
	seen              map[string]int
	mode              string
}

// begin puts a random world in the place of the one before.
func (w *foreseen) begin(rt *rapid.T) {
	w.mode = rapid.SampledFrom(alltest.Modes()).Draw(rt, "mode of the mesh")
	var ops []store.Op
	for key := range w.stored {
		if key.Mesh == "" { // what is in a mesh goes with it
			ops = append(ops, store.Op{Action: store.Delete, Resource: &resource.Resource{Meta: resource.Meta{Key: key}}})
		}
	}
	w.stored = map[resource.Key]bool{}
	if len(ops) > 0 {
		w.commit(rt, ops)
	}
	ops = nil
	for _, r := range append([]*resource.Resource{alltest.MeshIn(rt, w.mode)}, alltest.World(rt)...) {
		ops = append(ops, store.Op{Action: store.Create, Resource: r})
		w.stored[r.Key] = true
	}
	w.commit(rt, ops)
	w.now = w.look(rt)
}

func (w *foreseen) commit(rt *rapid.T, ops []store.Op) {
	if _, err := w.store.Commit(rt.Context(), ops...); err != nil {
		rt.Fatal(err)
	}
}

// look asks what all proxies get of what is stored now. Identities that a service has lost a moment ago, which clients go on
// accepting for two seconds, are none of what a preview tells.
func (w *foreseen) look(rt *rapid.T) map[string]shown {
	w.anew()
	out := map[string]shown{}
	for _, name := range append(alltest.Proxies(), "web-3") {
		out[name] = w.shown(rt, name)
	}
	return out
}

// draw returns what a request proposes.
func (w *foreseen) draw(rt *rapid.T) (list []*resource.Resource, remove bool) {
	var deletable []resource.Key
	for key := range w.stored {
		if key.Kind != resource.KindMesh && key.Kind != resource.KindConfig {
			deletable = append(deletable, key)
		}
	}
	if rapid.IntRange(0, 3).Draw(rt, "remove") == 0 {
		slices.SortFunc(deletable, func(a, b resource.Key) int { return strings.Compare(a.String(), b.String()) })
		for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom(deletable), 1, 3, func(k resource.Key) resource.Key { return k }).Draw(rt, "keys") {
			list = append(list, &resource.Resource{Meta: resource.Meta{Key: key}})
		}
		return list, true
	}
	for range rapid.IntRange(1, 3).Draw(rt, "documents") {
		r := alltest.Policy(rt)
		if rapid.IntRange(0, 4).Draw(rt, "other") == 0 {
			r = rapid.Custom(alltest.More).Filter(func(r *resource.Resource) bool { return r.Kind != resource.KindConfig }).Draw(rt, "more")
		}
		list = append(list, r)
	}
	return list, false
}

// request previews one, applies it, and compares.
func (w *foreseen) request(rt *rapid.T) {
	list, remove := w.draw(rt)
	bodies := make([]string, len(list))
	for i, r := range list {
		bodies[i] = w.body(rt, r)
	}
	query, body := "", bodies[0]
	if remove {
		query = "?delete=true"
	}
	if len(bodies) > 1 {
		body = "[" + strings.Join(bodies, ",") + "]"
	}
	status, text := w.post("/_preview"+query, body)
	applied := w.apply(list, bodies, remove)
	before := w.now
	w.now = w.look(rt)
	if status != http.StatusOK || applied != http.StatusOK {
		w.refused++
		if status != applied {
			rt.Fatalf("preview of %s: %d %s, but to apply it is answered %d", body, status, text, applied)
		}
		return
	}
	w.compared++
	w.seen[w.mode]++
	if remove {
		w.seen["removal"]++
	}
	if len(list) > 1 {
		w.seen["several"]++
	}
	for _, r := range list {
		w.seen[string(r.Kind)]++
	}
	var preview previewBody
	if err := json.Unmarshal([]byte(text), &preview); err != nil {
		rt.Fatalf("preview of %s: %v", body, err)
	}
	said := map[string]previewProxy{}
	for _, p := range preview.Proxies {
		said[p.Name] = p
	}
	for name, old := range before {
		compare(rt, "to "+name+" after "+query+" "+body, old, said[name], w.now[name])
	}
}

func (w *foreseen) body(rt *rapid.T, r *resource.Resource) string {
	if r.Spec == nil { // to be removed
		return `{"type": "` + string(r.Kind) + `", "mesh": "` + r.Mesh + `", "name": "` + r.Name + `"}`
	}
	b, err := w.reg.Encode(r, resource.FormUniversal)
	if err != nil {
		rt.Fatal(err)
	}
	return string(b)
}

// apply does one after the other what a request proposes, until one is refused.
func (w *foreseen) apply(list []*resource.Resource, bodies []string, remove bool) int {
	for i, r := range list {
		path := "/" + w.reg.ByKind(r.Kind).Path + "/" + r.Name
		if r.Mesh != "" {
			path = "/meshes/" + r.Mesh + path
		}
		method, body := http.MethodPut, bodies[i]
		if remove {
			method, body = http.MethodDelete, ""
		}
		status, _ := w.send(method, path, body)
		if status >= 300 {
			return status
		}
		if w.stored[r.Key] = true; remove {
			delete(w.stored, r.Key)
		}
	}
	return http.StatusOK
}

// compare asks that what a preview said of a proxy is what became of it.
func compare(rt *rapid.T, what string, before shown, said previewProxy, now shown) {
	if said.Error != "" {
		rt.Fatalf("%s: %s", what, said.Error)
	}
	want, err := apply(before.xds, said.Diff)
	if err != nil {
		rt.Fatalf("%s: the patch does not apply: %v", what, err)
	}
	if diff := gocmp.Diff(want, now.xds); diff != "" {
		rt.Fatalf("%s: configuration (-preview +applied):\n%s", what, diff)
	}
	rules := maps.Clone(before.rules)
	for _, c := range said.Rules {
		delete(rules, string(c.Type))
		if _, ok := now.rules[string(c.Type)]; c.After != nil && ok {
			b, err := json.Marshal(c.After)
			if err != nil {
				rt.Fatal(err)
			}
			var v any
			if err := json.Unmarshal(b, &v); err != nil {
				rt.Fatal(err)
			}
			rules[string(c.Type)] = v
		}
	}
	if diff := gocmp.Diff(rules, now.rules); diff != "" {
		rt.Fatalf("%s: rules (-preview +applied):\n%s", what, diff)
	}
}

// shown is what the inspection endpoints say of a proxy.
type shown struct {
	xds   any
	rules map[string]any
}

// shown of a proxy that is not there is empty.
func (g *rig) shown(t rapid.TB, proxy string) shown {
	out := shown{xds: map[string]any{}, rules: map[string]any{}}
	path := "/meshes/m/dataplanes/" + proxy
	var config struct{ XDS any }
	var rules struct{ Rules []map[string]any }
	for _, one := range []struct {
		path string
		into any
	}{{path + "/_config", &config}, {path + "/_rules", &rules}} {
		status, _, text := g.get(one.path)
		if status == http.StatusNotFound {
			return out
		}
		if err := json.Unmarshal([]byte(text), one.into); status != http.StatusOK || err != nil {
			t.Fatalf("%s: %d %s %v", one.path, status, text, err)
		}
	}
	if out.xds = config.XDS; config.XDS == nil {
		out.xds = map[string]any{}
	}
	taken(t, config.XDS)
	for _, r := range rules.Rules {
		out.rules[r["type"].(string)] = r
	}
	return out
}

// taken asks that an Envoy takes the resources of a configuration.
func taken(t rapid.TB, xds any) {
	byType, _ := xds.(map[string]any)
	for typeURL, byName := range byType {
		typ, err := protoregistry.GlobalTypes.FindMessageByURL(typeURL)
		if err != nil {
			t.Fatal(err)
		}
		for name, r := range byName.(map[string]any) {
			m := typ.New().Interface()
			b, err := json.Marshal(r)
			if err == nil {
				err = protojson.UnmarshalOptions{Resolver: effect.Types{}}.Unmarshal(b, m)
			}
			if err == nil {
				err = effecttest.Refusal(m)
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}
