package envoy

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHidden: Envoy has the environment of the agent, but for what is hidden from it.
func TestHidden(t *testing.T) {
	dir := t.TempDir()
	fake := filepath.Join(dir, "envoy")
	if err := os.WriteFile(fake, []byte("#!/bin/sh\nenv\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOME_TOKEN", "secret")
	t.Setenv("SOME_TOKEN_TOO", "shown")
	var out bytes.Buffer
	p, err := New(Config{Binary: fake, BootstrapPath: filepath.Join(dir, "b.yaml"), Bootstrap: []byte("{}"), Admin: "127.0.0.1:1", Hidden: []string{"SOME_TOKEN"}, Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Contains(got, "secret") || !strings.Contains(got, "SOME_TOKEN_TOO=shown") {
		t.Errorf("the environment is\n%s", got)
	}
}
