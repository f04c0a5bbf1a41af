//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

const legacyURL = "http://backend.mesh/"

// inMode is scene.Mesh in another mode, none for a mesh that says nothing of services.
func inMode(mode string) string {
	const services = "meshServices:\n  mode: Exclusive\n"
	if mode == "" {
		return strings.Replace(scene.Mesh, services, "", 1)
	}
	return strings.Replace(scene.Mesh, "Exclusive", mode, 1)
}

// TestMigration takes a mesh that knows kuma.io/service only to one of services. Clients move when both ways are open; no
// request of theirs is lost.
func TestMigration(t *testing.T) {
	s := newScene(t, "kuma-modes")
	apply(t, s, inMode("")+"---\n"+scene.Permission)
	add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend"})
	add(t, s, scene.WorkloadConfig{Name: "backend-2", Service: "backend"})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	other := add(t, s, scene.WorkloadConfig{Name: "other", Service: "other"})

	awaitStatus(t, web, legacyURL, http.StatusOK)
	instances := map[string]bool{}
	for range 20 {
		_, seen := get(t, web, legacyURL)
		instances[seen.Instance] = true
		if !strings.Contains(seen.ClientCert, "URI=spiffe://default/web") || !strings.Contains(seen.ClientCert, "By=spiffe://default/backend") {
			t.Fatalf("identities are %q", seen.ClientCert)
		}
	}
	if !instances["backend-1"] || !instances["backend-2"] {
		t.Errorf("answered by %v, want both backends", instances)
	}
	if status, _ := get(t, other, legacyURL); status != http.StatusForbidden {
		t.Errorf("a client without permission gets %d, want 403", status)
	}
	if status, body, err := web.Curl(ctx(t), backendURL); err == nil {
		t.Errorf("%s answers %d %s in a mesh without services", backendURL, status, body)
	}
	address := scenetest.Resolve(t, web, "backend.mesh")
	if !strings.HasPrefix(address, "240.") {
		t.Errorf("backend.mesh is %s, want an address of 240.0.0.0/4", address)
	}

	old := scenetest.StartLoadTo(t, web, "backend.mesh", 80)
	old.AwaitMore(50)
	// The address is the same after a restart of the control plane.
	if err := errors.Join(s.ControlPlane.Stop(ctx(t)), s.ControlPlane.Start(ctx(t))); err != nil {
		t.Fatal(err)
	}
	apply(t, s, inMode("Everywhere"))
	awaitStatus(t, web, backendURL, http.StatusOK)
	awaitStatus(t, web, legacyURL, http.StatusOK)
	if now := scenetest.Resolve(t, web, "backend.mesh"); now != address {
		t.Errorf("backend.mesh was %s and is %s", address, now)
	}
	old.AwaitMore(50)
	moved := scenetest.StartLoadTo(t, web, "backend.svc.mesh.local", scene.AppPort)
	moved.AwaitMore(50)
	old.Unharmed()

	apply(t, s, inMode("Exclusive"))
	err := scene.Await(ctx(t), "the old name to be gone", func(c context.Context) error {
		if status, body, err := web.Curl(c, legacyURL); err == nil {
			return fmt.Errorf("got %d: %s", status, body)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	moved.AwaitMore(50)
	moved.Unharmed()
	// The way back leads to the same addresses.
	apply(t, s, inMode("Everywhere"))
	awaitStatus(t, web, legacyURL, http.StatusOK)
	if now := scenetest.Resolve(t, web, "backend.mesh"); now != address {
		t.Errorf("backend.mesh was %s and is %s", address, now)
	}
}
