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

// rule forbids packages below From to reach, directly or not, a package below one of Never.
type rule struct {
	from  string
	never []string
	why   string
}

var rules = []rule{
	{
		"agent",
		[]string{module + "/resource", module + "/policy", module + "/controlplane", "go.etcd.io/bbolt", "github.com/jackc/pgx", "k8s.io"},
		"the sidecar stays small: it knows bytes and names, not resources",
	},
	{
		"cmd/kuma-dp",
		[]string{module + "/resource", module + "/policy", module + "/controlplane", "go.etcd.io/bbolt", "k8s.io"},
		"the sidecar stays small",
	},
	{
		"controlplane",
		[]string{module + "/agent", module + "/transparentproxy"},
		"the control plane talks to agents over the wire only",
	},
	{"transparentproxy", ours("transparentproxy"), "redirection knows nothing of a mesh"},
	{"dns", ours("dns"), "the resolver knows a table, not a mesh"},
	{"certs", ours("certs"), "certificates know keys and names, not a mesh"},
	{"bootstrap", ours("bootstrap"), "wire types only"},
	{"resource", ours("resource"), "the model is pure"},
	{"policy", append(ours("policy", "resource"), "net/http"), "rules are pure"},
}

// ours lists our top-level rooms except those given.
func ours(except ...string) []string {
	var out []string
	for _, room := range []string{"agent", "bootstrap", "certs", "controlplane", "dns", "policy", "resource", "transparentproxy"} {
		if !slices.Contains(except, room) {
			out = append(out, module+"/"+room)
		}
	}
	return out
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
				for _, never := range r.never {
					if below(dep, never) {
						t.Errorf("%s reaches %s: %s", p.ImportPath, dep, r.why)
					}
				}
			}
		}
		if !seen {
			t.Errorf("no package below %s: the rule guards nothing", r.from)
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
		for _, dep := range p.Imports {
			if below(dep, module+"/policy") && dep != module+"/policy" && !slices.Contains(perKind, dep) && !below(dep, p.ImportPath) {
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
