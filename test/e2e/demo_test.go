//go:build linux

package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/scene"
)

// safeBuffer collects what a process prints while others read it.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// buildDemo builds the demo beside the other binaries, as make does.
func buildDemo(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../bin/demo")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", path, "../demo")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the demo: %v: %s", err, out)
	}
	return path
}

// traces lists what a demo may leave on the machine.
func traces(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"/run/netns/kuma-demo-*", "/etc/netns/kuma-demo-*", filepath.Join(os.TempDir(), "kuma-scene-kuma-demo*")} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, found...)
	}
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		if line, err := os.ReadFile(p); err == nil && bytes.Contains(line, []byte("kuma-scene-kuma-demo")) {
			out = append(out, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return out
}

func TestDemoProvesItselfAndLeavesNothing(t *testing.T) {
	netlab.RequireRoot(t)
	cmd := exec.CommandContext(ctx(t), buildDemo(t), "--check")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for _, want := range []string{
		"241.", "outbound:", "default_backend__", "spiffe://default/web", "spiffe://default/backend", "TLSv1.",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the demo does not say %q:\n%s", want, out)
		}
	}
	if left := traces(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestDemoStaysUpUntilInterrupted(t *testing.T) {
	netlab.RequireRoot(t)
	var out safeBuffer
	cmd := exec.CommandContext(ctx(t), buildDemo(t))
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait() }()
	if err := scene.Await(ctx(t), "the demo's suggestions", func(context.Context) error {
		if !strings.Contains(out.String(), "Ctrl-C") {
			return os.ErrNotExist
		}
		return nil
	}); err != nil {
		t.Fatalf("%v:\n%s", err, out.String())
	}
	suggestions(t, out.String())
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Fatalf("%v:\n%s", err, out.String())
	}
	if left := traces(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// suggestions runs the commands that the demo prints, in order: what it promises must come true.
func suggestions(t *testing.T, out string) {
	t.Helper()
	_, list, _ := strings.Cut(out, "Try next")
	want := map[string]string{
		"call it again": `"instance":"backend-`, "see the 403": "403 Forbidden", "see the identity": "spiffe://default/web",
		"see the services": "backend.svc.mesh.local",
	}
	ran := 0
	for line := range strings.Lines(list) {
		title, command, ok := strings.Cut(strings.TrimSpace(line), "ip netns exec")
		title = strings.TrimSpace(title)
		if !ok {
			continue
		}
		ran++
		if err := scene.Await(ctx(t), title, func(c context.Context) error {
			text, err := exec.CommandContext(c, "bash", "-c", "ip netns exec"+command).CombinedOutput()
			if err == nil && !strings.Contains(string(text), want[title]) {
				err = &unexpected{string(text)}
			}
			return err
		}); err != nil {
			t.Errorf("%s: %v", title, err)
		}
	}
	if ran < len(want) {
		t.Errorf("only %d commands were suggested:\n%s", ran, out)
	}
}

type unexpected struct{ text string }

func (u *unexpected) Error() string { return "it printed: " + u.text }

func TestDemoCleansUpAfterAKilledRun(t *testing.T) {
	netlab.RequireRoot(t)
	demo := buildDemo(t)
	var out safeBuffer
	cmd := exec.CommandContext(ctx(t), demo, "--check")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := scene.Await(ctx(t), "the control plane", func(context.Context) error {
		if !strings.Contains(out.String(), "control plane") {
			return os.ErrNotExist
		}
		return nil
	}); err != nil {
		t.Fatalf("%v:\n%s", err, out.String())
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	text, err := exec.CommandContext(ctx(t), demo, "--check").CombinedOutput()
	if err != nil {
		t.Fatalf("after a killed run: %v:\n%s", err, text)
	}
	if left := traces(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
