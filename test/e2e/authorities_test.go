//go:build linux

package e2e

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// TestCertificateAuthorities runs the page of that name.
func TestCertificateAuthorities(t *testing.T) {
	p := readPage(t, "certificate-authorities.md")
	p.scene = scenetest.New(t, "kuma-cas")
	p.before["workloads"] = func() {
		p.add(scene.WorkloadConfig{Name: "backend", Service: "backend"})
		p.add(scene.WorkloadConfig{Name: "web", Service: "web"})
	}
	p.run()
}
