//go:build linux

package e2e

import (
	"fmt"
	"net"
	"strconv"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// TestProgressiveMTLS runs the page on strict mTLS (guide G3) while a client that always is where it should be loses no request.
func TestProgressiveMTLS(t *testing.T) {
	p := readPage(t, "progressively-rolling-in-strict-mtls.md")
	p.scene = scenetest.New(t, "kuma-g3")
	var backend, client *scene.Workload
	var load *scenetest.Load
	p.before["server-meshed"] = func() {
		backend = p.add(scene.WorkloadConfig{Name: "backend", Service: "backend", NoRedirect: true, NoAgent: true})
		client = p.add(scene.WorkloadConfig{Name: "client", Service: "client", NoRedirect: true, NoAgent: true})
		address := backend.Host.Addr.String()
		p.prelude = fmt.Sprintf("BACKEND=%s\nkuma-dp() { command kuma-dp \"$@\" --work-dir %s; }\n", address, client.WorkDir)
		load = scenetest.StartLoadDirect(t, client, net.JoinHostPort(address, strconv.Itoa(scene.AppPort)))
		load.AwaitMore(10)
		mesh(t, backend)
		load.AwaitMore(100)
	}
	p.before["client-meshed"] = func() {
		load.Unharmed()
		mesh(t, client)
		load = scenetest.StartLoad(t, client)
		load.AwaitMore(10)
	}
	p.run()
	load.AwaitMore(100)
	load.Unharmed()
}

// mesh gives a workload its agent, and then redirection.
func mesh(t *testing.T, w *scene.Workload) {
	t.Helper()
	if err := w.StartAgent(ctx(t), scene.WorkloadConfig{}); err != nil {
		t.Fatal(err)
	}
	if err := w.Ready(ctx(t)); err != nil {
		t.Fatalf("%v\n%s", err, w.Agent.Log())
	}
	if err := w.Redirect(ctx(t)); err != nil {
		t.Fatal(err)
	}
}
