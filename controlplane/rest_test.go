package controlplane

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// answer is like call, for requests that may be refused; header are pairs.
func (r *running) answer(method, path, body string, header ...string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, "http://"+r.cp.Addresses().HTTP.String()+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.http.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestInsightsOfAMesh: people see the sums of a mesh that nobody has asked for before.
func TestInsightsOfAMesh(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Store.Type = StoreMemory
	cfg.Metrics.Mesh.MinResyncInterval = Duration(10 * time.Millisecond)
	r := start(t, cfg)
	r.call("PUT", "/meshes/default/dataplanes/web-1", `{"type":"Dataplane","mesh":"default","name":"web-1","networking":{"address":"192.0.2.1","inbound":[{"port":80,"tags":{"kuma.io/service":"web"}}]}}`)
	ctx, cancel := t.Context(), time.After(20*time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		status, body := r.answer("GET", "/meshes/default/service-insights/web", "")
		if status == http.StatusOK && strings.Contains(body, `"status": "offline"`) {
			break
		}
		select {
		case <-ctx.Done():
		case <-cancel:
			t.Fatalf("no insight: %d %s", status, body)
		case <-tick.C:
		}
	}
	var sum struct {
		Dataplanes struct{ Total, Offline int }
		Policies   map[string]struct{ Total int }
		Services   struct{ Internal int }
	}
	r.get("/mesh-insights/default", &sum)
	if sum.Dataplanes.Total != 1 || sum.Dataplanes.Offline != 1 || sum.Policies["MeshTimeout"].Total != 2 || sum.Services.Internal != 1 {
		t.Errorf("got %+v", sum)
	}
}

// TestTokensOfAZone: the key of zone tokens is made at the first start.
func TestTokensOfAZone(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Store.Type = StoreMemory
	r := start(t, cfg)
	if raw := r.call("POST", "/tokens/zone", `{"zone":"default","scope":["egress"]}`); !bytes.HasPrefix(raw, []byte("eyJ")) {
		t.Errorf("got %s", raw)
	}
	r.call("GET", "/global-secrets/zone-token-signing-key-1", "")
}

// TestHardened: the setting reaches the API and what others serve there.
func TestHardened(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Store.Type = StoreMemory
	cfg.APIServer.Hardened = true
	r := start(t, cfg)
	far := []string{"X-Forwarded-For", "192.0.2.1"}
	for _, c := range [][2]string{
		{"PUT", "/meshes/default"},
		{"DELETE", "/meshes/default"},
		{"POST", "/tokens/user"},
		{"GET", "/config"},
		{"GET", "/meshes/default/dataplanes/x/_config"},
		{"GET", "/meshes/default/dataplanes/x/xds"},
		{"GET", "/meshes/default/dataplanes/x/stats"},
		{"GET", "/meshes/default/dataplanes/x/clusters"},
	} {
		if status, body := r.answer(c[0], c[1], `{}`, far...); status != http.StatusForbidden {
			t.Errorf("%s %s: got %d %s", c[0], c[1], status, body)
		}
	}
	if status, _ := r.answer("GET", "/meshes", "", far...); status != http.StatusOK {
		t.Errorf("reading meshes: got %d", status)
	}
}
