//go:build linux

package e2e

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// TestPreview runs the page of that name.
func TestPreview(t *testing.T) {
	p := readPage(t, "preview.md")
	p.scene = scenetest.New(t, "kuma-preview")
	p.before["workloads"] = func() {
		apply(t, p.scene, "type: Mesh\nname: default\nskipCreatingInitialPolicies: ['*']\n")
		p.add(scene.WorkloadConfig{Name: "backend", Service: "backend"})
		p.add(scene.WorkloadConfig{Name: "web", Service: "web"})
	}
	p.run()
}
