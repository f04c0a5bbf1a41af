//go:build linux

package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

const allowAll = `type: MeshTrafficPermission
mesh: default
name: all
spec:
  targetRef: {kind: Mesh}
  from:
  - targetRef: {kind: Mesh}
    default: {action: Allow}
`

const (
	otherURL = "http://other.svc.mesh.local:8080/"
	// leafLife is how long certificates live by default, and so does the token of a scene.
	leafLife = 24 * time.Hour
	// planeAge is how long ago the certificate of the control plane became valid.
	planeAge = 48 * time.Hour
)

// TestClocks puts agents with their Envoys on hosts whose clocks are wrong: each says so, whatever it does to the traffic.
func TestClocks(t *testing.T) {
	t.Parallel()
	build := buildShifted(t)
	s := scenetest.NewFrom(t, "kuma-clock", build.dir)
	olderPair(t, s)
	if err := s.StartControlPlane(ctx(t)); err != nil {
		t.Fatal(err)
	}
	apply(t, s, scene.Mesh+"---\n"+allowAll)
	add(t, s, scene.WorkloadConfig{Name: "backend", Service: "backend"})
	other := add(t, s, scene.WorkloadConfig{Name: "other", Service: "other"})
	// at adds a workload on a host with this clock.
	at := func(t *testing.T, name string, ahead time.Duration) (*scene.Workload, hostClock) {
		t.Helper()
		clock := build.clock(t, s.Dir(), name, ahead)
		return add(t, s, scene.WorkloadConfig{Name: name, Service: name, Env: clock.env()}), clock
	}

	t.Run("an hour ahead", func(t *testing.T) {
		w, _ := at(t, "ahead", time.Hour)
		says(t, w, "ahead", time.Hour)
		awaitAnswer(t, w)
	})

	// A certificate is valid from five minutes before it was made.
	t.Run("an hour behind", func(t *testing.T) {
		w, _ := at(t, "behind", -time.Hour)
		says(t, w, "behind", -time.Hour)
		awaitRefused(t, w)
		if unverified(t, w) == 0 {
			t.Error("Envoy has not refused a backend's certificate of the future")
		}
		awaitAnswers(t, other, "http://behind.svc.mesh.local:8080/", http.StatusServiceUnavailable)
		if refused(t, w) == 0 {
			t.Error("Envoy has not refused a client's certificate of the future")
		}
	})

	t.Run("past the end of all certificates", func(t *testing.T) {
		w, _ := at(t, "late", leafLife+time.Hour)
		says(t, w, "ahead", leafLife+time.Hour)
		awaitRefused(t, w)
		if unverified(t, w) == 0 {
			t.Error("Envoy has not refused a certificate of the past")
		}
	})

	t.Run("before the control plane's own certificate", func(t *testing.T) {
		clock := build.clock(t, s.Dir(), "early", -planeAge-time.Hour)
		cfg := scene.WorkloadConfig{Name: "early", Service: "early", Env: clock.env(), NoAgent: true}
		w := add(t, s, cfg)
		if err := w.StartAgent(ctx(t), cfg); err != nil {
			t.Fatal(err)
		}
		awaitLines(t, w.Agent, 0, 1, "certificate has expired or is not yet valid: current time")
		w.KillAgent()
	})

	t.Run("jumps", func(t *testing.T) {
		w, clock := at(t, "jumps", 0)
		awaitAnswer(t, w)
		load := scenetest.StartLoadAt(t, w, 50)
		load.AwaitMore(50)
		before, err := certificateOf(ctx(t), w)
		if err != nil {
			t.Fatal(err)
		}
		shaken := handshakes(t, w)
		clock.set(t, leafLife+time.Hour)
		says(t, w, "ahead", leafLife+time.Hour) // when it has asked for another certificate, as the one it has is over
		if got, err := certificateOf(ctx(t), w); err != nil || got.Serial == before.Serial {
			t.Errorf("the certificate is still %s, %v", got.Serial, err)
		}
		awaitAnswers(t, w, otherURL, http.StatusServiceUnavailable) // a new connection
		load.AwaitMore(100)
		if got := handshakes(t, w); got != shaken {
			t.Errorf("%d handshakes, %d before the clock jumped: connections were not kept", got, shaken)
		}
		clock.set(t, 0)
		awaitAnswers(t, w, otherURL, http.StatusOK)
		load.Unharmed()
	})
}

// olderPair gives the control plane to be a certificate of the day before yesterday: agents whose clock is behind refuse one of
// today.
func olderPair(t *testing.T, s *scene.Scene) {
	t.Helper()
	cert, key, err := certs.ServerPair([]string{"10.77.0.2", "127.0.0.1", "localhost"}, time.Now().Add(-planeAge))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(s.Dir(), "cp")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"kuma-cp.crt": cert, "kuma-cp.key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// says waits until an agent tells how far its clock is off, in the log and on its pages.
func says(t *testing.T, w *scene.Workload, how string, ahead time.Duration) {
	t.Helper()
	awaitLines(t, w.Agent, 0, 1, "local_clock_is="+how)
	for _, name := range []string{"status", "identity"} {
		text, err := page(ctx(t), w, name)
		if err != nil {
			t.Fatal(err)
		}
		var shown struct{ Clock struct{ ClockSkew string } }
		if err := json.Unmarshal([]byte(text), &shown); err != nil {
			t.Fatal(err)
		}
		skew, err := time.ParseDuration(shown.Clock.ClockSkew)
		if err != nil || (skew-ahead).Abs() > 5*time.Second {
			t.Errorf("%s: page %s tells a skew of %q, want %s", w.Name, name, shown.Clock.ClockSkew, ahead)
		}
	}
	if !strings.Contains(w.Agent.Log(), "control_plane_time=") {
		t.Errorf("%s: the log does not tell both clocks:\n%s", w.Name, w.Agent.Log())
	}
}

// awaitAnswers waits until a request is answered with a status.
func awaitAnswers(t *testing.T, w *scene.Workload, url string, want int) {
	t.Helper()
	await(t, fmt.Sprintf("%s to answer %d", url, want), func(c context.Context) error {
		code, body, err := w.Curl(c, url)
		if err == nil && code != want {
			err = fmt.Errorf("got %d: %s", code, body)
		}
		return err
	})
}
