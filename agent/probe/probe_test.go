package probe_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/kuma-dp/kuma-dp/agent/probe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func portOf(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func TestProbes(t *testing.T) {
	var seen *http.Request
	handler := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		seen = q
		switch q.URL.Path {
		case "/sick":
			w.WriteHeader(http.StatusTeapot)
		case "/moved":
			http.Redirect(w, q, "http://127.0.0.1:1/", http.StatusFound)
		}
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	rpc := grpc.NewServer()
	checks := health.NewServer()
	healthpb.RegisterHealthServer(rpc, checks)
	checks.SetServingStatus("bad", healthpb.HealthCheckResponse_NOT_SERVING)
	rpcListener := listen(t)
	served := make(chan struct{})
	go func() { defer close(served); _ = rpc.Serve(rpcListener) }()
	defer func() { rpc.Stop(); <-served }()

	l := listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	p := probe.New(probe.Config{Listener: l, Address: "127.0.0.1", Source: net.IPv4(127, 0, 0, 6)})
	go func() { ended <- p.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	httpPort, tlsPort, rpcPort := portOf(plain.Listener), portOf(secure.Listener), portOf(rpcListener)
	for _, tc := range []struct {
		name, method, path string
		header             map[string]string
		code               int
		body               string
	}{
		{"http", "GET", "/" + httpPort + "/well?a=b", nil, 200, "HEALTHY\n"},
		{"http status is passed on", "GET", "/" + httpPort + "/sick", nil, 418, "UNHEALTHY\n"},
		{"redirects are healthy and not followed", "GET", "/" + httpPort + "/moved", nil, 200, "HEALTHY\n"},
		{"https", "GET", "/" + tlsPort + "/", map[string]string{"X-Kuma-Probes-Scheme": "HTTPS"}, 200, "HEALTHY\n"},
		{"tcp", "GET", "/tcp/" + httpPort, nil, 200, "HEALTHY\n"},
		{"tcp, closed", "GET", "/tcp/1", nil, 503, "UNHEALTHY\n"},
		{"grpc", "GET", "/grpc/" + rpcPort, nil, 200, "HEALTHY\n"},
		{"grpc, service", "GET", "/grpc/" + rpcPort, map[string]string{"X-Kuma-Probes-GRPC-Service": "bad"}, 503, "UNHEALTHY\n"},
		{"bad port", "GET", "/99999/", nil, 503, "UNKNOWN\n"},
		{"a host instead of a port", "GET", "/example.com:80/", nil, 503, "UNKNOWN\n"},
		{"only GET", "POST", "/" + httpPort + "/", nil, 405, "UNKNOWN\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q, err := http.NewRequestWithContext(t.Context(), tc.method, "http://"+l.Addr().String()+tc.path, strings.NewReader(""))
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range tc.header {
				q.Header.Set(k, v)
			}
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			a, err := client.Do(q)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Body.Close()
			body, err := io.ReadAll(a.Body)
			if err != nil {
				t.Fatal(err)
			}
			if a.StatusCode != tc.code || string(body) != tc.body {
				t.Errorf("%d %q, want %d %q", a.StatusCode, body, tc.code, tc.body)
			}
		})
	}
	t.Run("what the workload sees", func(t *testing.T) {
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+"/"+httpPort+"/well", nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("X-Kuma-Probes-Host", "app.example")
		q.Header.Set("X-Mine", "kept")
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		a, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if seen.Host != "app.example" || seen.Header.Get("X-Mine") != "kept" || seen.Header.Get("X-Kuma-Probes-Host") != "" || !strings.HasPrefix(seen.RemoteAddr, "127.0.0.6:") {
			t.Errorf("host %q headers %v from %s", seen.Host, seen.Header, seen.RemoteAddr)
		}
	})
}
