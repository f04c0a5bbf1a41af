//go:build linux

package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// TestAddingAPolicy adds a kind to a copy of the tree, as the page of that name says, and runs what comes out.
func TestAddingAPolicy(t *testing.T) {
	netlab.RequireRoot(t)
	p := readPage(t, "adding-a-policy.md")
	p.tree = copyTree(t)
	p.before["built"] = func() { p.scene = scenetest.NewFrom(t, "kuma-kind", filepath.Join(p.tree, "bin")) }
	p.before["workloads"] = func() {
		p.add(scene.WorkloadConfig{Name: "backend", Service: "backend"})
		p.add(scene.WorkloadConfig{Name: "web", Service: "web"})
	}
	p.run()
}

// compiling bounds what the compiler may take, which has much to do when it knows nothing of the tree yet.
const compiling = 5 * time.Minute

// copyTree copies the tree without what is built or kept by git.
func copyTree(t *testing.T) string {
	t.Helper()
	const root = "../.."
	to := t.TempDir()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "bin" || e.Name() == "dist" || e.Name() == ".git" {
			continue
		}
		if out, err := exec.CommandContext(ctx(t), "cp", "-a", filepath.Join(root, e.Name()), to).CombinedOutput(); err != nil {
			t.Fatalf("copy the tree: %v: %s", err, out)
		}
	}
	return to
}

// inTree does what a block says in the copy of the tree.
func (p *page) inTree(b block) {
	p.t.Helper()
	_, command := b.info["tree"]
	switch {
	case b.info["file"] != "":
		path := filepath.Join(p.tree, b.info["file"])
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(b.text), 0o600)); err != nil {
			p.t.Fatal(err)
		}
	case b.info["edit"] != "":
		p.edit(filepath.Join(p.tree, b.info["edit"]), b.text)
	case command:
		c, cancel := context.WithTimeout(p.t.Context(), compiling)
		defer cancel()
		cmd := exec.CommandContext(c, "bash", "-euc", b.text)
		cmd.Dir = p.tree
		// As the binaries are built, so that what they have in common is compiled once.
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath")
		out, err := cmd.CombinedOutput()
		if err != nil {
			p.t.Fatalf("%s\n%v: %s", b.text, err, out)
		}
		p.t.Logf("%s%s", b.text, out)
	}
}

// edit puts every line that begins with a plus sign after the line above it, which the file must have exactly once.
func (p *page) edit(path, text string) {
	p.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		p.t.Fatal(err)
	}
	content, above := string(data), ""
	for line := range strings.Lines(text) {
		if next, added := strings.CutPrefix(line, "+"); added {
			content = strings.Replace(content, above, above+next, 1)
			above = next
		} else if above = strings.TrimPrefix(line, " "); strings.Count(content, above) != 1 {
			p.t.Fatalf("%s has %d times the line %q", path, strings.Count(content, above), above)
		}
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
}
