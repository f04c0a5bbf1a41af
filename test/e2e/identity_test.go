//go:build linux

package e2e

import (
	"path/filepath"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// TestWorkloadIdentity runs the page of that name.
func TestWorkloadIdentity(t *testing.T) {
	p := readPage(t, "workload-identity.md")
	p.scene = scenetest.New(t, "kuma-wid")
	path := func(parts ...string) string { return filepath.Join(append([]string{p.scene.Dir()}, parts...)...) }
	p.before["workloads"] = func() {
		p.add(scene.WorkloadConfig{Name: "web", Service: "web", Args: []string{"--workload-api-socket=" + path("web", "app.sock"), "--workload-api-uids=1000"}})
	}
	p.before["payments"] = func() {
		p.add(scene.WorkloadConfig{Name: "payments", Service: "payments", Args: []string{
			"--identity-source=files", "--identity-cert-file=" + path("pair", "tls.crt"), "--identity-key-file=" + path("pair", "tls.key"),
		}})
	}
	p.run()
}
