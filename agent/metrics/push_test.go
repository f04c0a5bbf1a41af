package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	metricsv1 "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/kuma-dp/kuma-dp/agent/metrics"
)

const patience = 20 * time.Second

// collector is an OpenTelemetry collector on a socket, where Envoy would be.
type collector struct {
	t    *testing.T
	got  chan *metricsv1.MetricsData
	mu   sync.Mutex
	says func() (*emptypb.Empty, error)
}

func newCollector(t *testing.T, path string) *collector {
	t.Helper()
	c := &collector{t: t, got: make(chan *metricsv1.MetricsData, 100)}
	export := func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		data := &metricsv1.MetricsData{}
		if err := decode(data); err != nil {
			return nil, err
		}
		c.got <- data
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.says != nil {
			return c.says()
		}
		return &emptypb.Empty{}, nil
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "opentelemetry.proto.collector.metrics.v1.MetricsService", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Export", Handler: export}},
	}, nil)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }() // ends with Stop
	t.Cleanup(func() { server.Stop(); <-done })
	return c
}

func (c *collector) answer(says func() (*emptypb.Empty, error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.says = says
}

// next is one push as text: a line for every point.
func (c *collector) next() []string {
	c.t.Helper()
	select {
	case data := <-c.got:
		return points(data)
	case <-time.After(patience):
		c.t.Fatal("nothing was pushed")
		return nil
	}
}

func points(data *metricsv1.MetricsData) []string {
	var out []string
	for _, r := range data.ResourceMetrics {
		for _, s := range r.ScopeMetrics {
			for _, m := range s.Metrics {
				numbers := append(slices.Clone(m.GetGauge().GetDataPoints()), m.GetSum().GetDataPoints()...)
				for _, p := range numbers {
					out = append(out, fmt.Sprintf("%s %s/%s %s{%s} %v", text(r.Resource.Attributes), s.Scope.Name, s.Scope.Version, m.Name, text(p.Attributes), p.GetAsDouble()))
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

func text(attributes []*commonv1.KeyValue) string {
	var out []string
	for _, a := range attributes {
		out = append(out, a.Key+"="+a.Value.GetStringValue())
	}
	return strings.Join(out, ",")
}

func policy(dir string, collectors ...string) []byte {
	backends := make([]string, len(collectors))
	for i, c := range collectors {
		backends[i] = fmt.Sprintf(`{"type":"OpenTelemetry","name":%q,"openTelemetry":{"endpoint":%q,"refreshInterval":"100ms"}}`, c, filepath.Join(dir, "kuma-otel-"+c+".sock"))
	}
	return []byte(`{"observability":{"metrics":{"backends":[` + strings.Join(backends, ",") + `],"sidecar":{"profiles":{"include":[{"type":"Exact","match":"envoy_cluster_odd"}]}},"extraLabels":{"zone":"east"}}}}`)
}

func TestPush(t *testing.T) {
	dir := t.TempDir()
	log := &logged{lines: make(chan string, 100)}
	h := start(t, metrics.Config{
		Path: filepath.Join(dir, "mh.sock"), Envoy: envoy, Log: slog.New(slog.NewTextHandler(log, nil)),
		Labels: map[string]string{"mesh": "default", "service": "web", "otel_scope_name": "kuma", "otel_scope_version": "1.2"},
	})
	h.Configure(policy(dir, "a")) // its socket comes later
	a := newCollector(t, filepath.Join(dir, "kuma-otel-a.sock"))
	want := []string{
		"service.name=web kuma/1.2 envoy_cluster_odd{envoy_cluster_name=backend,mesh=default,service=web,zone=east} 1",
		"service.name=web kuma/1.2 envoy_cluster_upstream_rq{envoy_cluster_name=backend,mesh=default,service=web,zone=east} 5",
		"service.name=web kuma/1.2 envoy_server_live{mesh=default,service=web,zone=east} 1",
	}
	for range 2 { // at once, and after the interval
		if got := a.next(); !slices.Equal(got, want) {
			t.Fatalf("pushed\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}

	a.answer(func() (*emptypb.Empty, error) { return nil, errors.New("collector is full") })
	log.await(t, "metrics cannot be pushed", "collector is full")
	a.answer(nil)
	log.await(t, "metrics are pushed again")
	partial := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7)
	partial = protowire.AppendString(protowire.AppendTag(partial, 2, protowire.BytesType), "too old")
	refusal := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), partial)
	a.answer(func() (*emptypb.Empty, error) {
		e := &emptypb.Empty{}
		e.ProtoReflect().SetUnknown(refusal)
		return e, nil
	})
	log.await(t, "rejected 7 points", "too old")
	a.answer(nil)
	log.await(t, "metrics are pushed again")

	b := newCollector(t, filepath.Join(dir, "kuma-otel-b.sock"))
	h.Configure(policy(dir, "b"))
	b.next()
	for len(a.got) > 0 { // a push that was under way
		<-a.got
	}
	b.next()
	b.next()
	if n := len(a.got); n > 0 {
		t.Errorf("%d pushes went to a collector that the policy names no more", n)
	}
	h.Configure([]byte(`{"observability":{"metrics":{"backends":[{"type":"OpenTelemetry","name":"x","openTelemetry":{"endpoint":"/var/run/docker.sock"}}]}}}`))
	log.await(t, "none of this agent's", "docker.sock")
}

// logged gives the lines of a log away.
type logged struct{ lines chan string }

func (l *logged) Write(b []byte) (int, error) {
	select {
	case l.lines <- string(b):
	default: // nobody reads
	}
	return len(b), nil
}

func (l *logged) await(t *testing.T, words ...string) {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case line := <-l.lines:
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				return
			}
		case <-late:
			t.Fatalf("the log says nothing of %q", words)
		}
	}
}
