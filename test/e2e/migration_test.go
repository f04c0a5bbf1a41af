//go:build linux

package e2e

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// TestMigratingToMeshService runs the page of that name while a client calls by the old name until it moves, and by the new
// one as soon as there is one. None of its requests is lost.
func TestMigratingToMeshService(t *testing.T) {
	p := readPage(t, "migrating-to-meshservice.md")
	p.scene = scenetest.New(t, "kuma-migr")
	var web *scene.Workload
	var old, moved *scenetest.Load
	p.before["workloads"] = func() {
		p.add(scene.WorkloadConfig{Name: "backend-1", Service: "backend"})
		p.add(scene.WorkloadConfig{Name: "backend-2", Service: "backend"})
		p.add(scene.WorkloadConfig{Name: "other", Service: "other"})
		web = p.add(scene.WorkloadConfig{Name: "web", Service: "web", Dataplane: p.file("dataplane")})
	}
	p.before["reachable"] = func() {
		old = scenetest.StartLoadTo(t, web, "backend.mesh", 80)
		old.AwaitMore(20)
	}
	p.before["everywhere"] = func() {
		moved = scenetest.StartLoadTo(t, web, "backend.svc.mesh.local", scene.AppPort)
		moved.AwaitMore(20)
	}
	p.before["moved"] = func() {
		old.AwaitMore(50)
		old.Unharmed()
	}
	p.run()
	moved.AwaitMore(50)
	moved.Unharmed()
	t.Logf("%d requests by the old name, %d by the new one", old.Sent.Load(), moved.Sent.Load())
}
