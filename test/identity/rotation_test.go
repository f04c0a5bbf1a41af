//go:build linux

package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// The load of TestNobodyNoticesRenewals, and how long it goes on: 24,000 requests are two minutes at the least.
const (
	rate     = 200
	requests = 120 * rate
)

// TestNobodyNoticesRenewals has certificates renewed every few seconds under load with short connections, and then exchanges
// the authority. No request fails.
func TestNobodyNoticesRenewals(t *testing.T) {
	t.Parallel()
	s := newScene(t, "kuma-renew", shortLived("12s")+"---\n"+scene.Permission+"---\n"+scene.ShortConnections)
	backend := add(t, s, scene.WorkloadConfig{Name: "backend", Service: "backend"})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	awaitAnswer(t, web)
	shaken := handshakes(t, web)
	seen := map[string]map[string]bool{web.Name: {}, backend.Name: {}}
	load := scenetest.StartLoadAt(t, web, rate)

	// Envoy tells what it uses only to those who ask. A certificate is in use for seconds.
	look := time.NewTicker(500 * time.Millisecond)
	defer look.Stop()
	for load.Sent.Load() < requests {
		for _, w := range []*scene.Workload{web, backend} {
			for serial := range inUse(t, w) {
				seen[w.Name][serial] = true
			}
		}
		select {
		case <-look.C:
		case <-web.Agent.Done():
			t.Fatalf("the agent has ended:\n%s", web.Agent.Log())
		}
		if load.Failed.Load() > 0 {
			t.Fatalf("a request failed: %s\n%s\n%s", load.First(), web.Agent.Log(), backend.Agent.Log())
		}
	}
	// At half of a life of 12 s, and a tenth later at the most.
	const least = 120 / 8
	for name, serials := range seen {
		if len(serials) < least {
			t.Errorf("Envoy of %s had %d certificates in use, want %d at the least", name, len(serials), least)
		}
	}

	before := inUse(t, web)
	out, err := s.Kumactl(ctx(t), nil, "rotate", "authority")
	if err != nil || !strings.Contains(out, "ca-2 is the authority of mesh default") {
		t.Fatalf("%v\n%s", err, out)
	}
	load.AwaitMore(rate)
	for serial := range inUse(t, web) {
		if before[serial] {
			t.Errorf("certificate %s of the old authority is still in use", serial)
		}
	}
	sent := load.Sent.Load()
	load.Unharmed()
	t.Logf("%d requests, %d handshakes, %d and %d certificates", sent, handshakes(t, web)-shaken, len(seen[web.Name]), len(seen[backend.Name]))
}

// inUse returns the serials of the workload's certificates that its Envoy has in use.
func inUse(t *testing.T, w *scene.Workload) map[string]bool {
	t.Helper()
	code, body, err := get(ctx(t), w, "http://127.0.0.1:9901/certs")
	if err != nil || code != http.StatusOK {
		t.Fatalf("Envoy's /certs: %d, %v", code, err)
	}
	var all struct {
		Certificates []struct {
			Chain []struct {
				Serial string `json:"serial_number"`
				Names  []struct {
					URI string `json:"uri"`
				} `json:"subject_alt_names"`
			} `json:"cert_chain"`
		}
	}
	if err := json.Unmarshal([]byte(body), &all); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	serials := map[string]bool{}
	for _, c := range all.Certificates {
		for _, leaf := range c.Chain {
			for _, n := range leaf.Names {
				if n.URI == "spiffe://default/"+w.Service {
					serials[leaf.Serial] = true
				}
			}
		}
	}
	if len(serials) == 0 {
		t.Fatalf("Envoy of %s has no certificate in use: %s", w.Name, body)
	}
	return serials
}

// handshakes counts those of a workload's Envoy with backends.
func handshakes(t *testing.T, w *scene.Workload) int {
	t.Helper()
	return counted(t, w, `cluster\.default_backend_\S*\.ssl\.handshake`)
}

// unverified counts the certificates of backends that a workload's Envoy has refused.
func unverified(t *testing.T, w *scene.Workload) int {
	t.Helper()
	return counted(t, w, `cluster\.default_backend_\S*\.ssl\.fail_verify_error`)
}

// refused counts the certificates of clients that a workload's Envoy has refused.
func refused(t *testing.T, w *scene.Workload) int {
	t.Helper()
	return counted(t, w, `listener\.\S*8080\.ssl\.fail_verify_error`)
}

// counted is a statistic of a workload's Envoy.
func counted(t *testing.T, w *scene.Workload, name string) int {
	t.Helper()
	_, body, err := get(ctx(t), w, "http://127.0.0.1:9901/stats?filter=ssl")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + `: ([0-9]+)$`).FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("no %s in\n%s", name, body)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// awaitRefused waits until requests of a workload fail as they do when an Envoy refuses the other's certificate, which is not
// told to the application.
func awaitRefused(t *testing.T, w *scene.Workload) {
	t.Helper()
	await(t, w.Name+" to be refused", func(c context.Context) error {
		code, body, err := w.Curl(c, backendURL)
		if err == nil && (code != http.StatusServiceUnavailable || !strings.Contains(body, "remote connection failure")) {
			err = fmt.Errorf("got %d, %q, want 503 and a connection that failed", code, body)
		}
		return err
	})
}
