//go:build linux

package scenetest

import (
	"context"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
)

// Context bounds one step of a test. It outlasts the test's own context, since what cleans up needs one too.
func Context(t *testing.T) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), Patience)
	t.Cleanup(cancel)
	return c
}

// Apply stores resources.
func Apply(t *testing.T, s *scene.Scene, yaml string) {
	t.Helper()
	if err := s.Apply(Context(t), yaml); err != nil {
		t.Fatal(err)
	}
}

// Add starts a workload and waits until it is ready.
func Add(t *testing.T, s *scene.Scene, cfg scene.WorkloadConfig) *scene.Workload {
	t.Helper()
	w, err := s.AddWorkload(Context(t), cfg)
	if err != nil {
		if w != nil && w.Agent != nil {
			t.Logf("agent of %s said:\n%s", cfg.Name, w.Agent.Log())
		}
		t.Logf("control plane said:\n%s", s.ControlPlane.Process.Log())
		t.Fatal(err)
	}
	return w
}

// Await asks again until check is content.
func Await(t *testing.T, what string, check func(context.Context) error) {
	t.Helper()
	if err := scene.Await(Context(t), what, check); err != nil {
		t.Fatal(err)
	}
}
