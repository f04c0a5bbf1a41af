//go:build linux

package e2e

import (
	"context"
	"fmt"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// TestBlueGreenAndCanary runs the page of that name while requests come that nothing retries; none is lost.
func TestBlueGreenAndCanary(t *testing.T) {
	const multiZoneName = "backend.mzsvc.mesh.local"
	p := readPage(t, "blue-green-and-canary.md")
	p.scene = scenetest.New(t, "kuma-canary")
	var web *scene.Workload
	var one, all *scenetest.Load
	p.before["workloads"] = func() {
		p.add(scene.WorkloadConfig{Name: "blue", Service: "blue"})
		p.add(scene.WorkloadConfig{Name: "green", Service: "green"})
		web = p.add(scene.WorkloadConfig{Name: "web", Service: "web"})
	}
	p.before["green"] = func() { one = scenetest.StartLoad(t, web) }
	p.before["labels"] = func() { all = scenetest.StartLoadTo(t, web, multiZoneName, scene.AppPort) }
	p.before["canary"] = func() { all.AwaitMore(50); all.Unharmed() }
	p.before["more"] = func() { share(t, web, 2, 25) }
	p.before["all"] = func() { share(t, web, 30, 70) }
	p.run()
	one.AwaitMore(50)
	one.Unharmed()
	t.Logf("%d requests to the MeshService, %d to the MeshMultiZoneService", one.Sent.Load(), all.Sent.Load())
}

// share waits until green answers from min to max of a hundred requests.
func share(t *testing.T, w *scene.Workload, low, high int) {
	t.Helper()
	await(t, fmt.Sprintf("green to answer %d to %d of 100 requests", low, high), func(c context.Context) error {
		got, err := instances(c, w, backendURL, 100)
		if err == nil && (got["green"] < low || got["green"] > high) {
			err = fmt.Errorf("answered by %v", got)
		}
		return err
	})
}
