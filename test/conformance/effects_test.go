package conformance

import (
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var effectsDir = flag.String("effects", "testdata/effects", "directory of captured worlds and policy effects")

// xdsConfig is the configuration of a proxy: the last word of the type, the name, the resource.
type xdsConfig map[string]map[string]any

// tally counts the outcomes of a kind of policy.
type tally struct {
	mu    sync.Mutex
	kinds map[string]*counts
}

type counts struct {
	equal     int
	different []string
}

func (c *tally) add(kind, name string, first string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kinds[kind] == nil {
		c.kinds[kind] = &counts{}
	}
	if first == "" {
		c.kinds[kind].equal++
		return
	}
	c.kinds[kind].different = append(c.kinds[kind].different, name+": "+first)
}

func (c *tally) String() string {
	var b strings.Builder
	equal, different := 0, 0
	for _, kind := range slices.Sorted(maps.Keys(c.kinds)) {
		k := c.kinds[kind]
		fmt.Fprintf(&b, "%-28s equal %3d  different %3d\n", kind, k.equal, len(k.different))
		for _, d := range slices.Sorted(slices.Values(k.different)) {
			fmt.Fprintf(&b, "    %s\n", d)
		}
		equal, different = equal+k.equal, different+len(k.different)
	}
	fmt.Fprintf(&b, "%-28s equal %3d  different %3d\n", "all", equal, different)
	return b.String()
}

// TestEffects puts every case of the corpus on top of its world, in a control plane of its own, and compares `_config` of
// the proxies: of the worlds whole, of the cases with the captured changes applied.
func TestEffects(t *testing.T) {
	worlds, err := filepath.Glob(filepath.Join(*effectsDir, "worlds", "*", "world.yaml"))
	if err != nil || len(worlds) == 0 {
		t.Fatalf("no worlds in %s: %v", *effectsDir, err)
	}
	inputs, err := filepath.Glob(filepath.Join(*effectsDir, "*", "*", "input.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	counted := &tally{kinds: map[string]*counts{}}
	t.Run("all", func(t *testing.T) {
		for _, dir := range append(dirs(inputs), dirs(worlds)...) {
			kind, name := filepath.Base(filepath.Dir(dir)), filepath.Base(dir)
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				first := "failed before the comparison"
				defer func() { counted.add(kind, name, first) }()
				first = runEffect(t, dir)
			})
		}
	})
	t.Logf("effects of %s:\n%s", *effectsDir, counted)
}

func dirs(files []string) []string {
	out := make([]string, len(files))
	for i, f := range files {
		out[i] = filepath.Dir(f)
	}
	return out
}

// runEffect reports all differences, and returns the first.
func runEffect(t *testing.T, dir string) string {
	t.Helper()
	worldDir, input := dir, []byte(nil)
	if kind := filepath.Base(filepath.Dir(dir)); kind != "worlds" {
		var err error
		if input, err = os.ReadFile(filepath.Join(dir, "input.yaml")); err != nil {
			t.Fatal(err)
		}
		worldDir = filepath.Join(*effectsDir, "worlds", worldOf(string(input)))
	}
	world, err := os.ReadFile(filepath.Join(worldDir, "world.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := wantedConfigs(t, worldDir, dir)
	p := start(t)
	refusals := p.build(t, documents(t, world), documents(t, input))
	var got map[string]any
	read := func() any {
		got = map[string]any{}
		for dp := range want {
			a := p.ask(t, http.MethodGet, "/meshes/m/dataplanes/"+dp+"/_config", nil)
			if a.status != http.StatusOK {
				got[dp] = map[string]any{"(status)": a.status, "(body)": a.value}
				continue
			}
			got[dp] = asConfig(normal(a.value, p.addresses(t)))
		}
		return got
	}
	p.settle(t, read)
	diffs := compareRefusals(t, dir, refusals)
	var configs []difference
	for deadline := time.Now().Add(patience); ; time.Sleep(poll) {
		configs = nil
		for _, dp := range slices.Sorted(maps.Keys(want)) {
			configs = append(configs, compareConfig(dp, want[dp], got[dp])...)
		}
		if len(configs) == 0 || time.Now().After(deadline) {
			break
		}
		read()
	}
	if diffs = append(diffs, configs...); len(diffs) == 0 {
		return ""
	}
	t.Errorf("%d differences:%s", len(diffs), report(diffs))
	return strings.Join(strings.Fields(diffs[0].String()), " ")
}

func worldOf(input string) string {
	first, _, _ := strings.Cut(input, "\n")
	words := strings.FieldsFunc(strings.TrimPrefix(strings.TrimPrefix(first, "#"), " world:"), func(r rune) bool { return strings.ContainsRune(" ,;#", r) })
	if len(words) == 0 {
		return ""
	}
	return words[0]
}

// build writes the resources in an order in which nothing is generated too early, and answers what was refused or warned
// of, by name of the resource.
func (p *plane) build(t *testing.T, world, input []document) []answerOf {
	t.Helper()
	inWorld := map[string]bool{}
	for i, d := range world {
		inWorld[d.key()] = true
		if j := slices.IndexFunc(input, func(o document) bool { return o.key() == d.key() }); j >= 0 && before(d) {
			world[i] = input[j]
		}
	}
	var early, late []document // in their order
	for _, d := range world {
		if before(d) {
			early = append(early, d)
		} else {
			late = append(late, d)
		}
	}
	for _, d := range input {
		switch {
		case !before(d):
			late = append(late, d)
		case !inWorld[d.key()]:
			early = append(early, d)
		}
	}
	rank := func(d document) int { return slices.Index(order, d.text("type")) }
	slices.SortStableFunc(early, func(a, b document) int { return rank(a) - rank(b) })

	mesh := early[slices.IndexFunc(early, func(d document) bool { return d.text("type") == "Mesh" })]
	ready := mesh["mtls"] != nil && slices.ContainsFunc(early, func(d document) bool { return d.text("type") == "MeshMultiZoneService" })
	bare := document{}
	for k, v := range mesh {
		if ready || k != "mtls" && k != "meshServices" && k != "routing" {
			bare[k] = v
		}
	}
	p.apply(t, bare)
	services := func(d document) bool { return strings.HasSuffix(d.text("type"), "Service") }
	if ready {
		// Services without proxies become ready for TLS, and stay so; those that a case adds come too late for that.
		p.write(t, early, func(d document) bool { return services(d) && inWorld[d.key()] })
		p.settle(t, func() any {
			for _, s := range list(p.ask(t, http.MethodGet, "/meshes/m/meshservices", nil).value, "items") {
				if at(s, "labels", "kuma.io/origin") != "global" && at(s, "status", "tls", "status") != "Ready" {
					return time.Now() // never equal: not yet
				}
			}
			return nil
		})
		p.write(t, early, func(d document) bool { return !services(d) && d.text("type") != "Mesh" })
		p.write(t, early, func(d document) bool { return services(d) && !inWorld[d.key()] })
	} else {
		p.write(t, early, func(d document) bool { return d.text("type") != "Mesh" })
		p.settle(t, func() any { return nil })
		p.apply(t, mesh)
		p.settle(t, func() any { return nil })
	}
	paths := p.paths(t)
	var out []answerOf
	for _, d := range late {
		if a := p.put(t, paths, d); a.status >= 300 || a.value != nil {
			out = append(out, answerOf{d, a})
		}
	}
	return out
}

// order is in which order the resources of a world are written; policies come after all of them.
var order = []string{
	"Mesh", "Zone", "Secret", "Dataplane", "ZoneIngress", "ZoneEgress", "ExternalService", "MeshService", "MeshExternalService", "MeshMultiZoneService",
}

func before(d document) bool { return slices.Contains(order, d.text("type")) }

func (p *plane) write(t *testing.T, docs []document, which func(document) bool) {
	t.Helper()
	for _, d := range docs {
		if which(d) {
			p.apply(t, d)
		}
	}
}

type answerOf struct {
	document document
	answer   answer
}

// compareRefusals compares what was refused or warned of with put.json.
func compareRefusals(t *testing.T, dir string, got []answerOf) []difference {
	t.Helper()
	var puts []map[string]any
	if file := filepath.Join(dir, "put.json"); exists(file) {
		readJSON(t, file, &puts)
	}
	want, have := map[string]any{}, map[string]any{}
	for _, p := range puts {
		delete(p, "id")
		if at(p, "status") == 201.0 {
			p["status"] = 200.0
		}
		want[fmt.Sprint(p["type"], "/", p["name"])] = p
	}
	for _, g := range got {
		entry := map[string]any{"type": g.document.text("type"), "name": g.document.text("name"), "status": float64(g.answer.status)}
		switch {
		case g.answer.status >= 300:
			entry["body"] = g.answer.value
		default:
			texts := slices.DeleteFunc(list(g.answer.value, "warnings"), beyond)
			if len(texts) == 0 {
				continue
			}
			entry["status"], entry["warnings"] = 200.0, texts
		}
		have[g.document.text("type")+"/"+g.document.text("name")] = entry
	}
	return compare("PUT", any(want), any(have))
}

// beyond tells of a warning whether it is one that 2.9 does not give: it says what Envoy will refuse.
func beyond(warning any) bool {
	text := fmt.Sprint(warning)
	return strings.HasPrefix(text, "spec.") || strings.HasPrefix(text, "on ")
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// wantedConfigs are the captured configurations by proxy: those of the world, with the changes of the case in dir.
func wantedConfigs(t *testing.T, worldDir, dir string) map[string]any {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(worldDir, "*.config.json"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	for _, f := range files {
		config := xdsConfig{}
		readJSON(t, f, &config)
		out[strings.TrimSuffix(filepath.Base(f), ".config.json")] = config
	}
	if worldDir != dir {
		var changed map[string]xdsConfig
		readJSON(t, filepath.Join(dir, "changed.json"), &changed)
		for dp, types := range changed {
			if _, failed := types["error"]; failed {
				out[dp] = nil // any working configuration
				continue
			}
			config, _ := out[dp].(xdsConfig)
			if config == nil {
				config = xdsConfig{}
			}
			for typ, resources := range types {
				if config[typ] == nil {
					config[typ] = map[string]any{}
				}
				for name, r := range resources {
					if config[typ][name] = r; r == nil {
						delete(config[typ], name)
					}
				}
			}
			out[dp] = config
		}
	}
	for dp, c := range out {
		if c == nil {
			continue
		}
		plain := map[string]any{}
		for typ, resources := range c.(xdsConfig) {
			if len(resources) > 0 {
				plain[typ] = resources
			}
		}
		out[dp] = plain
	}
	return out
}

// asConfig brings an answer of `_config` into the form of the corpus.
func asConfig(v any) any {
	types, _ := at(v, "xds").(map[string]any)
	out := map[string]any{}
	for url, resources := range types {
		if len(resources.(map[string]any)) > 0 {
			out[url[strings.LastIndexByte(url, '.')+1:]] = resources
		}
	}
	return out
}

func compareConfig(dp string, want, got any) []difference {
	if want != nil {
		return compare(dp, want, got)
	}
	if len(list(got, "Listener")) == 0 && at(got, "Listener") == nil {
		return []difference{{dp, "any working configuration", got}}
	}
	return nil
}
