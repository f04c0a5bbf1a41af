//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// TestTransparentProxyPage runs the page of that name.
func TestTransparentProxyPage(t *testing.T) {
	p := readPage(t, "transparent-proxy.md")
	p.scene = scenetest.New(t, "kuma-tproxy")
	if err := p.scene.StartControlPlane(ctx(t)); err != nil {
		t.Fatal(err)
	}
	apply(t, p.scene, scene.Mesh)
	apply(t, p.scene, scene.Permission)
	p.add(scene.WorkloadConfig{Name: "backend", Service: "backend"})
	web := p.add(scene.WorkloadConfig{Name: "web", Service: "web", NoAgent: true, NoRedirect: true})
	// What is remembered of an installation is apart from that of the machine.
	run := filepath.Join(p.scene.Dir(), "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	p.prelude = "mkdir -p /run/kuma-tproxy; mount --bind " + run + " /run/kuma-tproxy\n"
	before := shellOn(t, web.Host, "nft list ruleset; ip -o addr")
	t.Setenv("CP", p.scene.ControlPlane.Host.Addr.String())
	t.Setenv("ADDRESS", web.Host.Addr.String())
	p.before["lifetime"] = func() {
		p.interrupt("watch")
		shellOn(t, web.Host, p.prelude+p.scene.Path("kumactl")+" uninstall transparent-proxy")
		ca, err := os.ReadFile(p.scene.ControlPlane.CAFile())
		if err == nil {
			err = os.WriteFile(filepath.Join(p.scene.Dir(), "kuma-cp.crt"), ca, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p.before["ended"] = func() {
		p.interrupt("proxy")
		p.interrupt("proxy") // not to wait for connections to drain
	}
	p.run()
	if after := shellOn(t, web.Host, "nft list ruleset; ip -o addr"); after != before {
		t.Errorf("the host is not as before:\n%s\nbut\n%s", before, after)
	}
}

func shellOn(t *testing.T, h *netlab.Host, script string) string {
	t.Helper()
	out, err := h.Command(ctx(t), 0, "sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}
