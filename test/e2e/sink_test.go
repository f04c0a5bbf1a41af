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
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

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

const (
	sinkTCP     = 6000
	sinkOTLP    = 4317
	sinkZipkin  = 9411
	sinkDatadog = 8126
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
	out := &sink{host: host, lines: map[string]map[string]bool{"tcp": {}, "otlp": {}, "zipkin": {}, "datadog": {}}}
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
	serve(t, host, sinkDatadog, http.HandlerFunc(out.datadog))
	return out
}

var tracedPath = regexp.MustCompile(`:8080(/[a-z]+)`)

// datadog takes spans as MessagePack, in which texts stand as they are.
func (s *sink) datadog(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.URL.Path != "/v0.4/traces" {
		http.Error(w, "no spans", http.StatusNotFound) // Envoy also asks for what an agent may have
		return
	}
	service := regexp.MustCompile(`backend_[A-Z]+`).Find(body)
	for _, m := range tracedPath.FindAllSubmatch(body, -1) {
		s.add("datadog", fmt.Sprintf("span of %s %s", service, m[1]))
	}
	_, _ = io.WriteString(w, "{}") // an error is the client's going away
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
