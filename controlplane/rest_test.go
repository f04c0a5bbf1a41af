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

// TestWritersAreWarned of what Envoy will refuse, by the field, and of what a patch cannot do at the proxies that there are.
func TestWritersAreWarned(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Store.Type = StoreMemory
	r := start(t, cfg)
	r.call("PUT", "/meshes/default/dataplanes/web-1", dataplaneJSON("web-1", "web", "192.0.2.1"))
	rest := func(kind, conf string) string {
		return `{"type":"` + kind + `","mesh":"default","name":"p","spec":{"targetRef":{"kind":"Mesh","proxyTypes":["Sidecar"]},` + conf + `}}`
	}
	from := func(kind, conf string) string {
		return rest(kind, `"from":[{"targetRef":{"kind":"Mesh"},"default":`+conf+`}]`)
	}
	patch := func(path string) string {
		return rest("MeshProxyPatch", `"default":{"appendModifications":[{"cluster":{"operation":"Patch","match":{"origin":"inbound"},"jsonPatches":[{"op":"replace","path":"`+path+`","value":"3s"}]}}]}`)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, tt := range []struct{ path, body, want string }{
		{"meshratelimits", from("MeshRateLimit", `{"local":{"http":{"requestRate":{"num":1,"interval":"1s"},"onRateLimit":{"status":420}}}}`), "spec.from[0].default.local.http.onRateLimit.status: Envoy knows no status 420"},
		{"meshfaultinjections", from("MeshFaultInjection", `{"http":[{"delay":{"value":"0s","percentage":5}}]}`), "spec.from[0].default.http[0].delay.value: Envoy refuses"},
		{"meshproxypatches", patch("/lbSubsetConfig/x"), "on web-1: appendModifications[0] is left out: cluster localhost:"},
		{"meshproxypatches", patch("/connectTimeout"), ""},
	} {
		// What has just been written may not have reached the picture that is asked.
		for deadline := time.After(20 * time.Second); ; {
			status, body := r.answer("PUT", "/meshes/default/"+tt.path+"/p", tt.body)
			if status < 300 && (tt.want == "" && body == "" || tt.want != "" && strings.Contains(body, `"`+tt.want)) {
				break
			}
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("%s: got %d %s, want %s", tt.path, status, body, tt.want)
			}
		}
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
		{"GET", "/meshes/default/dataplanes/x/_status"},
		{"GET", "/meshes/default/meshtimeouts/x/_status"},
		{"GET", "/zoneegresses/x/_status"},
		{"GET", "/zoneegresses/x/xds"},
		{"GET", "/zoneingresses/x/stats"},
	} {
		if status, body := r.answer(c[0], c[1], `{}`, far...); status != http.StatusForbidden {
			t.Errorf("%s %s: got %d %s", c[0], c[1], status, body)
		}
	}
	if status, _ := r.answer("GET", "/meshes", "", far...); status != http.StatusOK {
		t.Errorf("reading meshes: got %d", status)
	}
}
