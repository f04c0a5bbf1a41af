//go:build linux

package scenetest

import (
	"path/filepath"
	"testing"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/internal/realenvoy"
	"github.com/kuma-dp/kuma-dp/test/scene"
)

// New makes an empty scene of the binaries in bin, which goes when the test ends. The test fails when an Envoy of it has
// refused anything by then, see scene.ExpectRefusal. It runs in a folder two below the root of the module.
func New(t *testing.T, prefix string) *scene.Scene {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	return NewFrom(t, prefix, bin)
}

// NewFrom is New with the binaries of another folder.
func NewFrom(t *testing.T, prefix, bin string) *scene.Scene {
	t.Helper()
	netlab.RequireRoot(t)
	s, err := scene.New(scene.Config{Prefix: prefix, Bin: bin, Envoy: realenvoy.ForTest(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Refused(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("take the scene down: %v", err)
		}
	})
	return s
}
