//go:build linux

package identity

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// expired is what an agent says when its certificate ends.
const expired = `msg="workload certificate expired`

// TestControlPlaneAwayAcrossAnExpiry: without a control plane certificates expire. What is connected stays so, new connections
// fail, the agents say why, and all is well as soon as the control plane is back.
func TestControlPlaneAwayAcrossAnExpiry(t *testing.T) {
	t.Parallel()
	s := newScene(t, "kuma-expiry", shortLived("15s")+"---\n"+scene.Permission)
	workloads := []*scene.Workload{
		add(t, s, scene.WorkloadConfig{Name: "backend", Service: "backend"}),
		add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"}),
		add(t, s, scene.WorkloadConfig{Name: "late", Service: "web"}),
	}
	web, late := workloads[1], workloads[2]
	awaitAnswer(t, web)
	load := scenetest.StartLoadAt(t, web, 50)
	load.AwaitMore(50)
	s.ControlPlane.Kill()
	shaken := handshakes(t, web)
	last := map[string]certificate{}
	for _, w := range workloads {
		c, err := certificateOf(ctx(t), w)
		if err != nil {
			t.Fatal(err)
		}
		last[w.Name] = c
	}

	for _, w := range workloads {
		await(t, w.Name+" to say that its certificate expired", func(c context.Context) error {
			code, text, err := readiness(c, w)
			if err == nil && (code != http.StatusServiceUnavailable || !strings.Contains(text, "the workload certificate expired at "+last[w.Name].NotAfter.UTC().Format(time.RFC3339))) {
				err = fmt.Errorf("readiness: %d, %s", code, text)
			}
			return err
		})
		awaitLines(t, w.Agent, 0, 1, expired)
		if got, err := certificateOf(ctx(t), w); err != nil || got.Serial != last[w.Name].Serial || got.LastError == "" || got.NotAfter.After(time.Now()) {
			t.Errorf("%s: debug identity says %+v, %v", w.Name, got, err)
		}
	}
	load.AwaitMore(200)
	if got := handshakes(t, web); got != shaken {
		t.Errorf("%d handshakes, %d before the certificates expired: connections were not kept", got, shaken)
	}
	awaitRefused(t, late)
	if unverified(t, late) == 0 {
		t.Error("the connection was not refused because of a certificate")
	}
	load.AwaitMore(50)

	if err := s.ControlPlane.Start(ctx(t)); err != nil {
		t.Fatal(err)
	}
	for _, w := range workloads {
		await(t, w.Name+" to have a new certificate", func(c context.Context) error {
			got, err := certificateOf(c, w)
			if err == nil && (got.Serial == last[w.Name].Serial || got.LastError != "" || !got.NotAfter.After(time.Now())) {
				err = fmt.Errorf("debug identity says %+v", got)
			}
			return err
		})
		if err := w.Ready(ctx(t)); err != nil {
			t.Error(err)
		}
		if n := strings.Count(w.Agent.Log(), expired); n != 1 {
			t.Errorf("%s tells %d times that its certificate expired, want once:\n%s", w.Name, n, w.Agent.Log())
		}
	}
	awaitAnswer(t, late)
	load.Unharmed()
}
