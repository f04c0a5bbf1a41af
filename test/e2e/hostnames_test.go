//go:build linux

package e2e

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// TestHostnames runs the page of that name.
func TestHostnames(t *testing.T) {
	p := readPage(t, "hostnames.md")
	p.scene = scenetest.New(t, "kuma-names")
	p.before["workloads"] = func() {
		apply(t, p.scene, "type: Mesh\nname: default\n"+"meshServices: {mode: Exclusive}\n"+"skipCreatingInitialPolicies: ['*']\n")
		p.add(scene.WorkloadConfig{Name: "backend", Service: "backend"})
		web := p.add(scene.WorkloadConfig{Name: "web", Service: "web"})
		// The hosts of a scene have IPv4 alone.
		shellOn(t, web.Host, "ip -6 address add fd00:77::5/64 dev eth0 nodad && ip -6 route add default dev eth0")
		p.prelude = "kuma-dp() { command kuma-dp \"$@\" --work-dir " + web.WorkDir + "; }\n" // several run here
	}
	p.run()
}
