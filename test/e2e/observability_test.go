//go:build linux

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	logsv1 "go.opentelemetry.io/proto/otlp/logs/v1"
	metricsv1 "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/scene"
)

// TestObservability applies the examples of the pages of MeshAccessLog, MeshMetric and MeshTrace, and sees what arrives at a
// host outside of the mesh.
func TestObservability(t *testing.T) {
	s := newScene(t, "kuma-obs")
	apply(t, s, scene.Mesh+"---\n"+allowAll)
	backend := add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend"})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	sink := newSink(t, s)
	awaitStatus(t, web, backendURL, http.StatusOK)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("agents said:\n%s\n%s", web.Agent.Log(), backend.Agent.Log())
		}
	})
	ask := func(path string) {
		t.Helper()
		if status, body, err := web.Curl(ctx(t), backendURL+path); err != nil || status != http.StatusOK {
			t.Fatalf("%s answers %d %s: %v", path, status, body, err)
		}
	}
	// A listener that changes ends the connections of before with their next answer.
	renew := func() {
		t.Helper()
		for range 3 {
			ask("renew")
		}
	}

	t.Run("access logs", func(t *testing.T) {
		file := filepath.Join(web.WorkDir, "access.log")
		example := changed(t, guideExamples(t, "meshaccesslog")[0], "/var/log/kuma/access.log", file)
		example = changed(t, example, "logs.example:6000", sink.at(sinkTCP))
		example = changed(t, example, "collector.example:4317", sink.at(sinkOTLP))
		ask("before")
		apply(t, s, example)
		awaitConfig(t, web, "MeshAccessLog", true)
		ask("after")
		want := map[string]string{
			"tcp":  "web asks backend for /after",
			"otlp": "mesh=default path=/after,from=web",
		}
		for kind, line := range want {
			sink.await(t, kind, line)
			if sink.has(kind, strings.Replace(line, "/after", "/before", 1)) {
				t.Errorf("%s: a request of before the policy is logged", kind)
			}
		}
		await(t, "the line in the file", func(context.Context) error {
			text, err := os.ReadFile(file)
			if err == nil && !slices.Contains(strings.Split(string(text), "\n"), `{"path":"/after","to":"backend"}`) {
				err = fmt.Errorf("the file has %q", text)
			}
			return err
		})
		apply(t, s, changed(t, example, "asks", "wants of"))
		awaitConfig(t, web, "wants of", true)
		ask("changed")
		sink.await(t, "tcp", "web wants of backend for /changed")
		remove(t, s, "meshaccesslog", "outgoing")
		awaitConfig(t, web, "MeshAccessLog", false)
		ask("deleted")
		apply(t, s, example)
		awaitConfig(t, web, "MeshAccessLog", true)
		ask("again")
		sink.await(t, "tcp", "web asks backend for /again")
		if sink.has("tcp", "web asks backend for /deleted") {
			t.Error("a request is logged although the policy was gone")
		}
		acceptsAll(t, web, backend)
	})

	t.Run("metrics", func(t *testing.T) {
		serve(t, web.Host, 9090, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "# TYPE shop_orders counter\nshop_orders{kind=\"book\"} 7\n") // the client's going away
		}))
		example := changed(t, guideExamples(t, "meshmetric")[0], "collector.example:4317", sink.at(sinkOTLP))
		example = changed(t, example, "30s", "200ms")
		page := func(path string) (int, string) {
			return fetch(t, sink.host, fmt.Sprintf("http://%s:5670%s", web.Host.Addr, path), nil)
		}
		if status, body := page("/metrics"); status == http.StatusOK {
			t.Fatalf("metrics without a policy: %s", body)
		}
		apply(t, s, example)
		const labels = `dataplane="web",kind="book",kuma_io_protocol="http",kuma_io_protocols=",http,",kuma_io_service="web"`
		await(t, "the page of metrics", func(context.Context) error {
			status, body := page("/metrics")
			if status != http.StatusOK || !strings.Contains(body, "shop_orders{"+labels) || !strings.Contains(body, "envoy_server_live{") {
				return fmt.Errorf("got %d %s", status, body)
			}
			return nil
		})
		sink.await(t, "otlp", "metric shop_orders{dataplane=web,kind=book,kuma_io_protocol=http} 7")
		sink.await(t, "otlp", "metric envoy_server_live{dataplane=web,kuma_io_protocol=http} 1")
		apply(t, s, changed(t, example, "path: /metrics\n    -", "path: /other\n    -"))
		await(t, "the page to move", func(context.Context) error {
			old, _ := page("/metrics")
			status, body := page("/other")
			if old != http.StatusNotFound || status != http.StatusOK || !strings.Contains(body, "shop_orders") {
				return fmt.Errorf("got %d there and %d %s here", old, status, body)
			}
			return nil
		})
		remove(t, s, "meshmetric", "all")
		await(t, "the page to be gone", func(context.Context) error {
			if status, body := page("/other"); status == http.StatusOK {
				return fmt.Errorf("got %s", body)
			}
			return nil
		})
		sink.forget("otlp")
		apply(t, s, changed(t, example, "9090", "9091")) // nobody is there: the rest is pushed
		sink.await(t, "otlp", "metric envoy_server_live{dataplane=web,kuma_io_protocol=http} 1")
		if sink.has("otlp", "metric shop_orders{dataplane=web,kind=book,kuma_io_protocol=http} 7") {
			t.Error("metrics of an application that is not named are pushed")
		}
		acceptsAll(t, web, backend)
	})

	t.Run("traces", func(t *testing.T) {
		examples := guideExamples(t, "meshtrace")
		zipkin := changed(t, changed(t, examples[0], "zipkin.example:9411", sink.at(sinkZipkin)), "random: 10", "random: 100")
		ask("untraced")
		apply(t, s, zipkin)
		awaitConfig(t, backend, "ZipkinConfig", true)
		renew()
		ask("zipkin")
		sink.await(t, "zipkin", "/zipkin team=core user=nobody")
		if sink.has("zipkin", "/untraced team=core user=nobody") {
			t.Error("a request of before the policy has a span")
		}
		apply(t, s, changed(t, examples[1], "collector.example:4317", sink.at(sinkOTLP)))
		awaitConfig(t, backend, "ZipkinConfig", false)
		renew()
		ask("otlp")
		sink.await(t, "otlp", "span of backend /otlp")
		remove(t, s, "meshtrace", "backend")
		awaitConfig(t, backend, "OpenTelemetryConfig", false)
		renew()
		ask("deleted")
		apply(t, s, zipkin)
		awaitConfig(t, backend, "ZipkinConfig", true)
		renew()
		ask("again")
		sink.await(t, "zipkin", "/again team=core user=nobody")
		if sink.has("otlp", "span of backend /deleted") || sink.has("zipkin", "/deleted team=core user=nobody") {
			t.Error("a request has a span although the policy was gone")
		}
		acceptsAll(t, web, backend)
	})
}

// awaitConfig waits until the listeners of a workload's Envoy mention something, or do not any more.
func awaitConfig(t *testing.T, w *scene.Workload, text string, want bool) {
	t.Helper()
	await(t, fmt.Sprintf("%q in the listeners of %s to be %t", text, w.Name, want), func(context.Context) error {
		status, body := fetch(t, w.Host, "http://127.0.0.1:9901/config_dump?resource=dynamic_listeners", nil)
		if status != http.StatusOK || strings.Contains(body, text) != want {
			return fmt.Errorf("got %d, %d bytes", status, len(body))
		}
		return nil
	})
}

// serve answers HTTP on a host until the test ends.
func serve(t *testing.T, host *netlab.Host, port int, handler http.Handler) {
	t.Helper()
	l, err := host.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }() // ends with Close
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
}

const (
	sinkTCP    = 6000
	sinkOTLP   = 4317
	sinkZipkin = 9411
)

// sink is a host that takes logs, metrics and spans, and keeps a line for each.
type sink struct {
	host *netlab.Host

	mu    sync.Mutex
	lines map[string]map[string]bool
}

func newSink(t *testing.T, s *scene.Scene) *sink {
	t.Helper()
	host, err := s.Lab().AddHost("sink")
	if err != nil {
		t.Fatal(err)
	}
	out := &sink{host: host, lines: map[string]map[string]bool{"tcp": {}, "otlp": {}, "zipkin": {}}}
	out.serveTCP(t)
	out.serveOTLP(t)
	serve(t, host, sinkZipkin, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var spans []struct{ Tags map[string]string }
		if err := json.NewDecoder(r.Body).Decode(&spans); err != nil || r.URL.Path != "/api/v2/spans" {
			http.Error(w, "no spans", http.StatusBadRequest)
			return
		}
		for _, span := range spans {
			_, path, _ := strings.Cut(span.Tags["http.url"], ":8080")
			out.add("zipkin", path+" team="+span.Tags["team"]+" user="+span.Tags["user"])
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	return out
}

func (s *sink) at(port int) string { return fmt.Sprintf("%s:%d", s.host.Addr, port) }

func (s *sink) add(kind, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines[kind][line] = true
}

func (s *sink) has(kind, line string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines[kind][line]
}

func (s *sink) forget(kind string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.lines[kind])
}

func (s *sink) await(t *testing.T, kind, line string) {
	t.Helper()
	await(t, kind+" to get "+line, func(context.Context) error {
		if s.has(kind, line) {
			return nil
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return fmt.Errorf("there are %d lines, such as %.2000v", len(s.lines[kind]), s.lines[kind])
	})
}

func (s *sink) serveTCP(t *testing.T) {
	t.Helper()
	l, err := s.host.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", sinkTCP))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	c, cancel := context.WithCancel(t.Context())
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(c, func() { _ = conn.Close() })()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					s.add("tcp", lines.Text())
				}
			})
		}
	})
	t.Cleanup(func() { cancel(); _ = l.Close(); all.Wait() })
}

// serveOTLP takes the three signals. A request of each is on the wire what the message that holds the same list is.
func (s *sink) serveOTLP(t *testing.T) {
	t.Helper()
	l, err := s.host.Listen("tcp", net.JoinHostPort("0.0.0.0", fmt.Sprint(sinkOTLP)))
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	for name, take := range map[string]func(decode func(any) error) error{
		"logs.v1.LogsService":       s.logs,
		"metrics.v1.MetricsService": s.metrics,
		"trace.v1.TraceService":     s.spans,
	} {
		server.RegisterService(&grpc.ServiceDesc{
			ServiceName: "opentelemetry.proto.collector." + name, HandlerType: (*any)(nil),
			Methods: []grpc.MethodDesc{{MethodName: "Export", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				return proto.Message(&emptypb.Empty{}), take(decode)
			}}},
		}, nil)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }() // ends with Stop
	t.Cleanup(func() { server.Stop(); <-done })
}

func (s *sink) logs(decode func(any) error) error {
	data := &logsv1.LogsData{}
	if err := decode(data); err != nil {
		return err
	}
	for _, r := range data.ResourceLogs {
		for _, scope := range r.ScopeLogs {
			for _, record := range scope.LogRecords {
				s.add("otlp", pairs(record.Attributes)+" "+pairs(record.Body.GetKvlistValue().GetValues()))
			}
		}
	}
	return nil
}

func (s *sink) metrics(decode func(any) error) error {
	data := &metricsv1.MetricsData{}
	if err := decode(data); err != nil {
		return err
	}
	for _, r := range data.ResourceMetrics {
		for _, scope := range r.ScopeMetrics {
			for _, m := range scope.Metrics {
				for _, p := range append(m.GetGauge().GetDataPoints(), m.GetSum().GetDataPoints()...) {
					shown := slices.DeleteFunc(slices.Clone(p.Attributes), func(a *commonv1.KeyValue) bool {
						return !slices.Contains([]string{"dataplane", "kind", "kuma_io_protocol"}, a.Key)
					})
					s.add("otlp", fmt.Sprintf("metric %s{%s} %v", m.Name, pairs(shown), p.GetAsDouble()))
				}
			}
		}
	}
	return nil
}

func (s *sink) spans(decode func(any) error) error {
	data := &tracev1.TracesData{}
	if err := decode(data); err != nil {
		return err
	}
	for _, r := range data.ResourceSpans {
		service := ""
		for _, a := range r.Resource.Attributes {
			if a.Key == "service.name" {
				service = a.Value.GetStringValue()
			}
		}
		for _, scope := range r.ScopeSpans {
			for _, span := range scope.Spans {
				for _, a := range span.Attributes {
					if _, path, ok := strings.Cut(a.Value.GetStringValue(), ":8080"); ok && a.Key == "http.url" {
						s.add("otlp", "span of "+service+" "+path)
					}
				}
			}
		}
	}
	return nil
}

func pairs(list []*commonv1.KeyValue) string {
	var out []string
	for _, p := range list {
		out = append(out, p.Key+"="+p.Value.GetStringValue())
	}
	return strings.Join(out, ",")
}
