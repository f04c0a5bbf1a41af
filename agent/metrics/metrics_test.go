package metrics_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/agent/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const envoyPage = `# TYPE envoy_server_live gauge
envoy_server_live 1
# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{envoy_cluster_name="ads_cluster"} 3
envoy_cluster_upstream_rq{envoy_cluster_name="backend"} 5
# TYPE envoy_cluster_odd gauge
envoy_cluster_odd{envoy_cluster_name="backend"} 1
`

func TestPage(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.RawQuery != "" {
			t.Errorf("application got query %q", q.URL.RawQuery)
		}
		_, _ = io.WriteString(w, "# TYPE app_things counter\napp_things{mesh=\"own\"} 7\n")
	}))
	defer app.Close()
	host, portText, err := net.SplitHostPort(app.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		t.Fatal(err)
	}

	body := `{"observability":{"metrics":{"applications":[{"name":"app","path":"/m","port":` + portText + `,"address":""},{"name":"dead","path":"/m","port":1,"address":""}],
		"backends":[{"type":"Prometheus"}],"sidecar":{"profiles":{"appendProfiles":[{"name":"Basic"}]}},"extraLabels":{"kuma_io_zone":"east"}}}}`
	path := filepath.Join(t.TempDir(), "mh.sock")
	h := start(t, metrics.Config{
		Path: path, Address: host, Labels: map[string]string{"mesh": "default", "dataplane": "demo"},
		Applications: []metrics.Application{{Name: "app", Port: uint32(port), Path: "/metrics"}},
		Envoy:        envoy,
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}

	get := func(path string) (int, string) {
		a, err := client.Get("http://x" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		b, err := io.ReadAll(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		return a.StatusCode, string(b)
	}
	if status, body := get("/meshmetric"); status != http.StatusServiceUnavailable || !strings.Contains(body, "no MeshMetric") {
		t.Errorf("without a policy: %d %s", status, body)
	}
	h.Configure([]byte(body))
	h.Configure([]byte("{")) // refused: the former stays
	for _, tc := range []struct {
		name, path string
		has, lacks []string
	}{
		{"mesh metrics", "/", []string{"envoy_server_live 1", `app_things{mesh="own"} 7`, "envoy_cluster_odd", "ads_cluster"}, []string{"demo"}},
		{
			"policy", "/meshmetric",
			[]string{`envoy_server_live{dataplane="demo",kuma_io_zone="east",mesh="default"} 1`, `app_things{dataplane="demo",kuma_io_zone="east",mesh="own"} 7`, `envoy_cluster_name="backend"`},
			[]string{"envoy_cluster_odd", "ads_cluster"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, page := get(tc.path)
			for _, want := range tc.has {
				if !strings.Contains(page, want) {
					t.Errorf("page lacks %s:\n%s", want, page)
				}
			}
			for _, not := range tc.lacks {
				if strings.Contains(page, not) {
					t.Errorf("page has %s", not)
				}
			}
		})
	}
}

func envoy(context.Context, string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(envoyPage)), nil
}

// start runs a Hijacker until the test ends.
func start(t *testing.T, cfg metrics.Config) *metrics.Hijacker {
	t.Helper()
	h, err := metrics.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return h
}
