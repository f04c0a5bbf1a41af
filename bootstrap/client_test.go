package bootstrap

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quick(url string) Config {
	return Config{URL: url, Backoff: time.Millisecond, MaxDuration: 20 * time.Millisecond}
}

const good = `{"bootstrap":"YWRtaW46IHt9","kumaSidecarConfiguration":{"networking":{"isUsingTransparentProxy":true,"corefileTemplate":null,"address":"10.0.0.1"},"metrics":{"aggregate":[]}},"later":1}`

func serve(t *testing.T, h http.HandlerFunc) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { n.Add(1); h(w, r) }))
	t.Cleanup(s.Close)
	return s, &n
}

func answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestRequestIsTheCapturedOne(t *testing.T) {
	want, err := os.ReadFile("testdata/request.json")
	if err != nil {
		t.Fatal(err)
	}
	var req Request
	if err := json.Unmarshal(want, &req); err != nil {
		t.Fatal(err)
	}
	if !req.AppProbeProxyEnabled {
		t.Error("appProbeProxyDisabled: true means that the probe proxy is enabled")
	}
	got, err := encode(req)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSpace(string(want)), string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestFetch(t *testing.T) {
	var got *http.Request
	var body string
	s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got, body = r, string(text)
		answer(200, "application/json; charset=utf-8", good)(w, r)
	})
	resp, err := Fetch(t.Context(), quick(s.URL+"/some/path?q=1"), Request{Mesh: "default", Name: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	if string(resp.Bootstrap) != "admin: {}" || resp.Sidecar.Networking.Address != "10.0.0.1" || !resp.Sidecar.Networking.IsUsingTransparentProxy {
		t.Errorf("got %+v", resp)
	}
	if off := time.Since(resp.Date); off < 0 || off > time.Hour || resp.RoundTrip <= 0 {
		t.Errorf("the control plane's time is %s after %s", resp.Date, resp.RoundTrip)
	}
	if got.Method != http.MethodPost || got.URL.Path != "/bootstrap" || got.URL.RawQuery != "q=1" {
		t.Errorf("asked %s %s", got.Method, got.URL)
	}
	if got.Header.Get("Accept") != "application/json" || got.Header.Get("Content-Type") != "application/json" || got.Header.Get("Authorization") != "" {
		t.Errorf("headers %v", got.Header)
	}
	for _, part := range []string{"\n \"dynamicMetadata\": {}", "\n \"features\": []"} {
		if !strings.Contains(body, part) {
			t.Errorf("no %q in %s", part, body)
		}
	}
}

func TestFetchClassifies(t *testing.T) {
	const token = "eyJtoken"
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		retried bool
		is      error
		want    string
	}{
		{"not yet registered", answer(404, "", ""), true, ErrNotFound, "not yet found"},
		{"api server", answer(404, "text/plain", "404: Page Not Found"), true, ErrWrongPort, "5678"},
		{"other 404", answer(404, "text/plain", "404 page not found\n"), false, ErrInvalidRequest, "Invalid request: 404 page not found"},
		{"refused", answer(422, "text/plain", "mesh: mesh \"nope\" does not exist"), false, ErrInvalidRequest, `Invalid request: mesh: mesh "nope" does not exist`},
		{"bad request", answer(400, "", ""), false, ErrInvalidRequest, "Invalid request: "},
		{"server fault", answer(500, "", ""), true, nil, "status 500"},
		{"redirect", http.RedirectHandler("http://192.0.2.1/bootstrap", http.StatusTemporaryRedirect).ServeHTTP, true, nil, "redirect"},
		{"not json", answer(200, "application/json", "junk"), false, nil, "parse bootstrap"},
		{"yaml", answer(200, "text/x-yaml", "admin: {}"), false, nil, "content type"},
		{"empty", answer(200, "application/json", "{}"), false, nil, "no Envoy configuration"},
		{"too long", answer(200, "application/json", `{"bootstrap":"`+strings.Repeat("A", maxResponse)+`"}`), false, nil, "longer than"},
		{"deep", answer(200, "application/json", strings.Repeat("[", 100_000)), false, nil, "parse bootstrap"},
		{"cut short", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "{")
		}, true, nil, "read bootstrap"},
		{"echoes our token and a bell", answer(400, "", "bad \x1b[2J\a"+token), false, ErrInvalidRequest, "Invalid request: bad [2J***"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, n := serve(t, tt.handler)
			_, err := Fetch(t.Context(), quick(s.URL), Request{DataplaneToken: token})
			if err == nil || !strings.Contains(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if got := n.Load() > 1; got != tt.retried {
				t.Errorf("%d tries, retried want %v", n.Load(), tt.retried)
			}
			if strings.Contains(err.Error(), token) {
				t.Error("the error holds the token")
			}
		})
	}
}

func TestFetchGoesOnUntilItSucceeds(t *testing.T) {
	var n atomic.Int32
	s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) < 3 {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		answer(200, "application/json", good)(w, r)
	})
	cfg := quick(s.URL)
	cfg.MaxDuration = time.Minute
	if _, err := Fetch(t.Context(), cfg, Request{}); err != nil || n.Load() != 3 {
		t.Fatalf("%d tries: %v", n.Load(), err)
	}
}

func TestFetchStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { cancel(); w.WriteHeader(http.StatusInternalServerError) })
	cfg := quick(s.URL)
	cfg.Backoff, cfg.MaxDuration = time.Hour, 2*time.Hour
	if _, err := Fetch(ctx, cfg, Request{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

func TestFetchVerifiesTheControlPlane(t *testing.T) {
	s := httptest.NewTLSServer(answer(200, "application/json", good))
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"ca", func(c *Config) { c.CACert = ca }, ""},
		{"skip verify", func(c *Config) { c.SkipVerify = true }, ""},
		{"system roots", func(*Config) {}, "--ca-cert-file"},
		{"both", func(c *Config) { c.CACert, c.SkipVerify = ca, true }, "leave one out"},
		{"junk ca", func(c *Config) { c.CACert = []byte("junk") }, "could not add certificate"},
		{"wrong name", func(c *Config) { c.CACert = ca; c.URL = strings.Replace(c.URL, "127.0.0.1", "127.0.0.2", 1) }, "127.0.0.2"},
		{"no host", func(c *Config) { c.URL = "https:///x" }, "no host"},
		{"other scheme", func(c *Config) { c.URL = "ftp://h" }, "use https"},
		{"no url", func(c *Config) { c.URL = "http://[" }, "control plane URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := quick(s.URL)
			tt.change(&cfg)
			_, err := Fetch(t.Context(), cfg, Request{})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("application/json", []byte(good))
	f.Add("application/json", []byte(`{"bootstrap":null}`))
	f.Fuzz(func(t *testing.T, contentType string, text []byte) {
		if out, err := parse(contentType, text); err == nil && len(out.Bootstrap) == 0 {
			t.Fatal("an empty bootstrap came through")
		}
	})
}
