// Package test holds what needs more than one package.
package test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/kuma-dp/kuma-dp"

// rule says what the packages below from may reach, directly or not: of ours only themselves and what is below one of may,
// of others nothing below one of never.
type rule struct {
	from       string
	may, never []string
	why        string
}

var (
	stores     = []string{"go.etcd.io/bbolt", "github.com/jackc/pgx"}
	kubernetes = []string{"k8s.io"}
	// heavy is what takes time before main, or room.
	heavy = []string{"github.com/envoyproxy", "google.golang.org/grpc", "google.golang.org/protobuf", "net/http"}
	// redirecting is what programs need that redirect traffic.
	redirecting = []string{"internal/command", "internal/version", "transparentproxy"}
	process     = []string{"internal/filewatch", "internal/group", "internal/mtlsreport", "internal/portowner", "internal/version", "internal/yamljson"}
)

// The column "may know" of docs/architecture.md. internal/yamljson is the one leaf that a pure room may reach: JSON and
// YAML must be read in one way everywhere, and what reads them knows no more than text.
var rules = []rule{
	{
		"agent", slices.Concat(process, []string{"bootstrap", "certs", "dns"}), slices.Concat(stores, kubernetes),
		"the sidecar stays small: it knows bytes and names, not resources",
	},
	{
		// Redirection that lives as long as the proxy is wired here, so that the agent need not know of it.
		"cmd/kuma-dp", slices.Concat(process, []string{"agent", "bootstrap", "certs", "dns", "internal/command", "transparentproxy"}), slices.Concat(stores, kubernetes),
		"the sidecar stays small",
	},
	{
		"controlplane", slices.Concat(process, []string{"bootstrap", "certs", "dns", "internal/crew", "internal/wirejson", "policy", "resource"}), kubernetes,
		"the control plane talks to agents over the wire only",
	},
	{
		"cmd", slices.Concat(process, []string{"agent", "bootstrap", "certs", "controlplane", "dns", "internal/command", "internal/crew", "internal/wirejson", "policy", "resource", "transparentproxy"}), kubernetes,
		"a program has nothing of its tests",
	},
	{
		"cmd/kuma-init", slices.Concat(redirecting, []string{"cmd/internal/redirection"}), slices.Concat(heavy, stores, kubernetes),
		"an init container starts in milliseconds",
	},
	{"cmd/internal/redirection", redirecting, slices.Concat(heavy, stores, kubernetes), "kuma-init is made of it"},
	{"transparentproxy", nil, nil, "redirection knows nothing of a mesh"},
	{"dns", nil, nil, "the resolver knows a table, not a mesh"},
	{"certs", nil, nil, "certificates know keys and names, not a mesh"},
	{"bootstrap", nil, nil, "wire types only"},
	{"resource", []string{"internal/yamljson"}, []string{"net/http"}, "the model is pure"},
	{"policy", []string{"internal/yamljson", "resource"}, []string{"net/http"}, "rules are pure"},
	{"internal", nil, nil, "a leaf knows no room, so that every room may know it"},
}

// perKind are the folders of policy that every kind may know; kinds never know each other.
var perKind = []string{module + "/policy/effect"}

type pkg struct {
	ImportPath, Dir        string
	Deps, Imports, GoFiles []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Deps,Imports,GoFiles,Dir", module+"/...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p pkg
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

func (r *rule) allows(dep string) bool {
	if ours, ok := strings.CutPrefix(dep, module+"/"); ok {
		return below(ours, r.from) || slices.ContainsFunc(r.may, func(room string) bool { return below(ours, room) })
	}
	return !slices.ContainsFunc(r.never, func(root string) bool { return below(dep, root) })
}

func below(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

func TestWhoMayKnowWhom(t *testing.T) {
	all := packages(t)
	for _, r := range rules {
		seen := false
		for _, p := range all {
			if !below(p.ImportPath, module+"/"+r.from) {
				continue
			}
			seen = true
			for _, dep := range p.Deps {
				if !r.allows(dep) {
					t.Errorf("%s reaches %s: %s", p.ImportPath, dep, r.why)
				}
			}
		}
		if !seen {
			t.Errorf("no package below %s: the rule guards nothing", r.from)
		}
	}
}

func TestRuleAllows(t *testing.T) {
	r := rule{from: "resource", may: []string{"internal/yamljson"}, never: []string{"net/http"}}
	for dep, want := range map[string]bool{
		module + "/resource": true, module + "/resource/x": true, module + "/internal/yamljson": true,
		module + "/resources": false, module + "/internal/group": false, module + "/policy": false, module + "/test/scene": false,
		"net/http": false, "net/http/httptest": false, "net": true, "net/httpx": true, "go.yaml.in/yaml/v3": true,
	} {
		if got := r.allows(dep); got != want {
			t.Errorf("%s: allowed %v, want %v", dep, got, want)
		}
	}
}

func TestPolicyKindsDoNotKnowEachOther(t *testing.T) {
	root := module + "/policy/"
	for _, p := range packages(t) {
		kind, ok := strings.CutPrefix(p.ImportPath, root)
		if !ok || strings.HasPrefix(kind, "all") || kind == "policytest" {
			continue
		}
		folder, _, _ := strings.Cut(kind, "/")
		for _, dep := range p.Imports {
			if below(dep, module+"/policy") && dep != module+"/policy" && !slices.Contains(perKind, dep) && !below(dep, root+folder) {
				t.Errorf("%s imports %s: a kind stands alone", p.ImportPath, dep)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		documented := false
		for _, f := range p.GoFiles {
			text, err := os.ReadFile(p.Dir + "/" + f)
			if err != nil {
				t.Fatal(err)
			}
			documented = documented || bytes.Contains(text, []byte("\n// Package ")) || bytes.HasPrefix(text, []byte("// Package ")) ||
				bytes.HasPrefix(text, []byte("// Command ")) || bytes.Contains(text, []byte("\n// Command "))
		}
		if len(p.GoFiles) > 0 && !documented {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// TestAgentIsPruned looks into the kuma-dp that make build made. Code that looks up methods by their names makes the linker
// keep every exported method of every type, a sixth of the program, in the memory of every sidecar: templates do, and gRPC's
// pages of traces without the tag grpcnotrace.
func TestAgentIsPruned(t *testing.T) {
	program, err := os.ReadFile("../bin/kuma-dp")
	if err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	if !bytes.Contains(program, []byte("github.com/kuma-dp/kuma-dp/agent/mustache.Render")) {
		t.Fatal("names of functions are not found in it: this test sees nothing")
	}
	for _, function := range []string{"text/template.(*state).evalField", "html/template.(*Template)", "github.com/cbroglie/mustache.Render"} {
		if bytes.Contains(program, []byte(function)) {
			t.Errorf("kuma-dp contains %s: find what brings it with go build -ldflags=-dumpdep (ReflectMethod)", function)
		}
	}
}
