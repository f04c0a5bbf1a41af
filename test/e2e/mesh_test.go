//go:build linux

// Package e2e runs the product as its users do: real processes, real Envoy, real redirection, each host a namespace.
package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// patience bounds what a test waits for; it is no measurement.
const patience = 60 * time.Second

// otherHost sends a retry to an instance that has not failed yet; without it chance may send all five to the dead one.
const otherHost = `type: MeshRetry
mesh: default
name: other-host
spec:
  targetRef:
    kind: Mesh
  to:
  - targetRef:
      kind: Mesh
    default:
      http:
        hostSelection:
        - predicate: OmitPreviousHosts
        hostSelectionMaxAttempts: 5
`

// multiZone puts one virtual address and name in front of all services named backend.
const multiZone = `type: MeshMultiZoneService
mesh: default
name: backend-all
spec:
  selector:
    meshService:
      matchLabels:
        kuma.io/display-name: backend
  ports:
  - port: 8080
    appProtocol: http
---
type: HostnameGenerator
name: multi-zone
spec:
  selector:
    meshMultiZoneService:
      matchLabels:
        kuma.io/origin: zone
  template: "{{ .DisplayName }}.mzsvc.mesh.local"
`

const backendURL = "http://backend.svc.mesh.local:8080/"

// Steps of a test under short names.
var ctx, apply, add, await = scenetest.Context, scenetest.Apply, scenetest.Add, scenetest.Await

// newScene brings up a control plane; the scene goes when the test ends.
func newScene(t *testing.T, prefix string) *scene.Scene {
	t.Helper()
	s := scenetest.New(t, prefix)
	if err := s.StartControlPlane(ctx(t)); err != nil {
		t.Fatal(err)
	}
	return s
}

// get asks url from w's host with curl.
func get(t *testing.T, w *scene.Workload, url string) (int, scene.Seen) {
	t.Helper()
	status, body, err := w.Curl(ctx(t), url)
	if err != nil {
		t.Fatal(err)
	}
	var seen scene.Seen
	if status == http.StatusOK {
		if err := json.Unmarshal([]byte(body), &seen); err != nil {
			t.Fatalf("%s answers %q: %v", url, body, err)
		}
	}
	return status, seen
}

// awaitStatus asks until answers have this status, many in a row: every instance has then heard of the change.
func awaitStatus(t *testing.T, w *scene.Workload, url string, want int) {
	t.Helper()
	const inARow = 8
	err := scene.Await(ctx(t), fmt.Sprintf("%s to answer %d", url, want), func(c context.Context) error {
		for range inARow {
			if got, body, err := w.Curl(c, url); err != nil {
				return err
			} else if got != want {
				return fmt.Errorf("got %d: %s", got, body)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestMesh(t *testing.T) {
	s := newScene(t, "kuma-e2e")
	apply(t, s, scene.Mesh+"---\n"+scene.Permission)
	backend1 := add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend"})
	backend2 := add(t, s, scene.WorkloadConfig{Name: "backend-2", Service: "backend"})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	other := add(t, s, scene.WorkloadConfig{Name: "other", Service: "other"})
	stranger, err := s.Lab().AddHost("stranger")
	if err != nil {
		t.Fatal(err)
	}

	t.Run("a request goes by name over mTLS to both instances", func(t *testing.T) {
		instances := map[string]bool{}
		for range 20 {
			status, seen := get(t, web, backendURL)
			if status != http.StatusOK {
				t.Fatalf("got status %d", status)
			}
			instances[seen.Instance] = true
			if !strings.Contains(seen.ClientCert, "URI=spiffe://default/web") || !strings.Contains(seen.ClientCert, "By=spiffe://default/backend") {
				t.Fatalf("identities are %q", seen.ClientCert)
			}
		}
		if !instances["backend-1"] || !instances["backend-2"] {
			t.Errorf("answered by %v, want both backends", instances)
		}
	})

	t.Run("a name outside of the mesh is not the mesh's to answer", func(t *testing.T) {
		if status, body, err := web.Curl(ctx(t), "http://nobody.svc.mesh.local:8080/"); err == nil {
			t.Errorf("got %d %s for a service that does not exist", status, body)
		}
	})

	t.Run("plaintext to a strict inbound is refused", func(t *testing.T) {
		for _, w := range []*scene.Workload{backend1, backend2} {
			client := scene.HTTPClient(stranger)
			resp, err := client.Get("http://" + net.JoinHostPort(w.Host.Addr.String(), "8080"))
			if err == nil {
				resp.Body.Close()
				t.Errorf("%s answers plaintext with %s", w.Name, resp.Status)
			}
			client.CloseIdleConnections()
		}
	})

	t.Run("a stranger's certificate is refused", func(t *testing.T) {
		if err := foreignTLS(ctx(t), stranger, backend1); err == nil {
			t.Error("a request with a self-signed client certificate was answered")
		}
	})

	t.Run("a client without permission gets 403", func(t *testing.T) {
		if status, _ := get(t, other, backendURL); status != http.StatusForbidden {
			t.Errorf("got status %d, want 403", status)
		}
	})

	t.Run("the certificate in use is the backend's", func(t *testing.T) {
		uris, err := serverURIs(ctx(t), stranger, backend1)
		if err != nil {
			t.Fatal(err)
		}
		if len(uris) == 0 || uris[0] != "spiffe://default/backend" {
			t.Errorf("got %v", uris)
		}
	})

	t.Run("one name for several services", func(t *testing.T) {
		apply(t, s, multiZone)
		awaitStatus(t, web, "http://backend-all.mzsvc.mesh.local:8080/", http.StatusOK)
		if status, _ := get(t, other, "http://backend-all.mzsvc.mesh.local:8080/"); status != http.StatusForbidden {
			t.Errorf("a client without permission gets %d, want 403", status)
		}
	})

	t.Run("taking the permission away and giving it back is enforced", func(t *testing.T) {
		if _, err := s.Kumactl(ctx(t), nil, "delete", "meshtrafficpermission", "web-to-backend"); err != nil {
			t.Fatal(err)
		}
		awaitStatus(t, web, backendURL, http.StatusForbidden)
		apply(t, s, scene.Permission)
		awaitStatus(t, web, backendURL, http.StatusOK)
	})

	t.Run("restarting the control plane interrupts no traffic and needs no new token", func(t *testing.T) {
		load := scenetest.StartLoad(t, web)
		if err := s.ControlPlane.Stop(ctx(t)); err != nil {
			t.Fatal(err)
		}
		load.AwaitMore(50)
		if err := s.ControlPlane.Start(ctx(t)); err != nil {
			t.Fatal(err)
		}
		load.AwaitMore(50)
		// The agents are back when a change reaches them, with the tokens that they have.
		if _, err := s.Kumactl(ctx(t), nil, "delete", "meshtrafficpermission", "web-to-backend"); err != nil {
			t.Fatal(err)
		}
		load.Stop()
		awaitStatus(t, web, backendURL, http.StatusForbidden)
		apply(t, s, scene.Permission)
		awaitStatus(t, web, backendURL, http.StatusOK)
		if load.Failed.Load() > load.Denied.Load() {
			t.Errorf("%d of %d requests failed, first: %v", load.Failed.Load(), load.Sent.Load(), load.First())
		}
		for _, w := range []*scene.Workload{web, backend1, backend2} {
			select {
			case <-w.Agent.Done():
				t.Errorf("the agent of %s has ended:\n%s", w.Name, w.Agent.Log())
			default:
			}
		}
	})

	t.Run("killing an instance loses no request that a retry covers", func(t *testing.T) {
		apply(t, s, otherHost)
		awaitRetryPolicy(t, web)
		load := scenetest.StartLoad(t, web)
		load.AwaitMore(50)
		if err := backend2.Agent.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := backend2.App.Close(); err != nil {
			t.Fatal(err)
		}
		load.AwaitMore(200)
		load.Unharmed()
		awaitNoProcess(t, backend2)
	})

	t.Run("SIGTERM to an agent leaves no process, socket or file", func(t *testing.T) {
		if err := other.Agent.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		// The second one cuts the drain time short.
		awaitDraining(t, other)
		if err := other.Agent.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code, err := other.Agent.Wait(ctx(t)); code != 0 {
			t.Fatalf("exit code %d: %v", code, err)
		}
		awaitNoProcess(t, other)
		left, err := os.ReadDir(other.WorkDir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range left {
			if f.Name() != "token" && f.Name() != "dataplane.yaml" {
				t.Errorf("left behind: %s", f.Name())
			}
		}
	})
}

// awaitDraining waits until the readiness endpoint says that the agent is going away.
func awaitDraining(t *testing.T, w *scene.Workload) {
	t.Helper()
	client := scene.HTTPClient(w.Host)
	defer client.CloseIdleConnections()
	err := scene.Await(ctx(t), w.Name+" to drain", func(context.Context) error {
		resp, err := client.Get("http://127.0.0.1:9902/ready")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable {
			return fmt.Errorf("ready answers %s", resp.Status)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// awaitRetryPolicy waits until Envoy has the host predicate of otherHost.
func awaitRetryPolicy(t *testing.T, w *scene.Workload) {
	t.Helper()
	client := scene.HTTPClient(w.Host)
	defer client.CloseIdleConnections()
	err := scene.Await(ctx(t), "the retry policy in Envoy", func(context.Context) error {
		resp, err := client.Get("http://127.0.0.1:9901/config_dump?resource=dynamic_listeners")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		dump, err := io.ReadAll(resp.Body)
		if err == nil && !strings.Contains(string(dump), "previous_hosts") {
			err = errors.New("no host predicate yet")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// awaitNoProcess waits until no process is left in the workload's namespace: the kernel kills Envoy with its agent.
func awaitNoProcess(t *testing.T, w *scene.Workload) {
	t.Helper()
	err := scene.Await(ctx(t), "the processes of "+w.Name+" to end", func(c context.Context) error {
		out, err := w.Host.Command(c, 0, "ip", "netns", "pids", w.Host.Namespace).Output()
		if err != nil {
			return err
		}
		var left []string
		for pid := range strings.FieldsSeq(string(out)) {
			name, err := os.ReadFile("/proc/" + pid + "/comm")
			if err == nil && (strings.HasPrefix(string(name), "envoy") || strings.HasPrefix(string(name), "kuma-dp")) {
				left = append(left, strings.TrimSpace(string(name))+" "+pid)
			}
		}
		if len(left) > 0 {
			return errors.New("still running: " + strings.Join(left, ", "))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// serverURIs returns the URI SANs of the certificate that w's inbound shows to anybody.
func serverURIs(c context.Context, from *netlab.Host, w *scene.Workload) ([]string, error) {
	conn, err := from.DialContext(c, "tcp", net.JoinHostPort(w.Host.Addr.String(), "8080"))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// The chain is looked at, not trusted.
	client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"kuma"}})
	if err := client.HandshakeContext(c); err != nil && len(client.ConnectionState().PeerCertificates) == 0 {
		return nil, err
	}
	var uris []string
	for _, u := range client.ConnectionState().PeerCertificates[0].URIs {
		uris = append(uris, u.String())
	}
	return uris, nil
}
