package api_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/controlplane/store/storetest"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/policy/meshtimeout"
	"github.com/kuma-dp/kuma-dp/policy/meshtrafficpermission"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func registry() *resource.Registry {
	return resource.NewRegistry(append(resource.Core(), meshtimeout.Kind().Descriptor, meshtrafficpermission.Kind().Descriptor)...)
}

// rig is a real API over a real store, reached over loopback.
type rig struct {
	t     *testing.T
	store store.Store
	url   string
	// host and header are sent with every request when they are set.
	host   string
	header http.Header
}

// start serves an API whose zone is zone-1 and whose store has the mesh "default" and keys. Options change the Config.
func start(t *testing.T, options ...func(*api.Config)) *rig {
	t.Helper()
	cfg := config(t)
	for _, o := range options {
		o(&cfg)
	}
	s, err := api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return &rig{t: t, store: cfg.Store, url: server.URL}
}

func config(t *testing.T) api.Config {
	t.Helper()
	s := memory.Open(registry())
	t.Cleanup(func() { s.Close() })
	if _, err := s.Commit(t.Context(), storetest.Create(storetest.Mesh("default")), signingKey(t, "default"), signingKey(t, "")); err != nil {
		t.Fatal(err)
	}
	v, err := token.NewValidator(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return api.Config{
		Store: s, Registry: registry(), Issuer: token.NewIssuer(s, nil), Validator: v, LocalhostIsAdmin: true,
		Zone:  resource.ZoneInfo{Zone: "zone-1"},
		Index: api.Index{ClusterID: "c", GUI: "/gui", Hostname: "h", InstanceID: "i", Product: "Kuma", Version: "2.9.13"},
	}
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (g *rig) do(method, path, body string, header ...string) answer {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), method, g.url+path, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Host = g.host
	for k, v := range g.header {
		req.Header[k] = v
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func (g *rig) put(path, body string) {
	g.t.Helper()
	if a := g.do("PUT", path, body); a.status != http.StatusCreated && a.status != http.StatusOK {
		g.t.Fatalf("PUT %s: got %d %s", path, a.status, a.body)
	}
}

func (g *rig) want(method, path, body string, status int, json string) {
	g.t.Helper()
	a := g.do(method, path, body)
	if a.status != status {
		g.t.Errorf("%s %s: got status %d, want %d: %s", method, path, a.status, status, a.body)
		return
	}
	same(g.t, method+" "+path, a.body, json)
}

// same compares JSON, without times.
func same(t *testing.T, what, got, want string) {
	t.Helper()
	if diff := cmp.Diff(plain(want), plain(got)); diff != "" {
		t.Errorf("%s: -want +got:\n%s", what, diff)
	}
}

func plain(text string) any {
	var v any
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return text
	}
	return strip(v)
}

func strip(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range []string{"creationTime", "modificationTime", "creationTimestamp", "createdAt"} {
			delete(v, k)
		}
		for _, e := range v {
			strip(e)
		}
	case []any:
		for _, e := range v {
			strip(e)
		}
	}
	return v
}
