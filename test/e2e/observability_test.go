//go:build linux

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
		awaitLine(t, file, `{"path":"/after","to":"backend"}`)
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
	})

	t.Run("access logs of what comes in", func(t *testing.T) {
		file := filepath.Join(backend.WorkDir, "incoming.log")
		example := changed(t, guideExamples(t, "meshaccesslog")[1], "/var/log/kuma/incoming.log", file)
		apply(t, s, example)
		awaitConfig(t, backend, "MeshAccessLog", false)
		awaitConfig(t, backend, file, true)
		renew()
		ask("in")
		awaitLine(t, file, "INBOUND backend /in 200")
		apply(t, s, changed(t, example, "%KUMA_TRAFFIC_DIRECTION%", "%KUMA_MESH%"))
		awaitConfig(t, backend, "default backend", true)
		renew()
		ask("in-other-words")
		awaitLine(t, file, "default backend /in-other-words 200")
		remove(t, s, "meshaccesslog", "incoming")
		awaitConfig(t, backend, file, false)
		renew()
		ask("unlogged")
		apply(t, s, example)
		awaitConfig(t, backend, file, true)
		renew()
		ask("in-again")
		awaitLine(t, file, "INBOUND backend /in-again 200")
		if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), "/unlogged") {
			t.Errorf("a request is logged although the policy was gone: %q, %v", text, err)
		}
		remove(t, s, "meshaccesslog", "incoming")
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
		sink.forget("otlp") // a push of before the change may have been under way
		sink.await(t, "otlp", "metric envoy_server_live{dataplane=web,kuma_io_protocol=http} 1")
		if sink.has("otlp", "metric shop_orders{dataplane=web,kind=book,kuma_io_protocol=http} 7") {
			t.Error("metrics of an application that is not named are pushed")
		}
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
		apply(t, s, changed(t, examples[2], "datadog.example:8126", sink.at(sinkDatadog)))
		awaitConfig(t, backend, "OpenTelemetryConfig", false)
		renew()
		ask("datadog")
		sink.await(t, "datadog", "span of backend_INBOUND /datadog")
		remove(t, s, "meshtrace", "backend")
		awaitConfig(t, backend, "DatadogConfig", false)
		renew()
		ask("deleted")
		apply(t, s, zipkin)
		awaitConfig(t, backend, "ZipkinConfig", true)
		renew()
		ask("again")
		sink.await(t, "zipkin", "/again team=core user=nobody")
		if sink.has("otlp", "span of backend /deleted") || sink.has("datadog", "span of backend_INBOUND /deleted") ||
			sink.has("zipkin", "/deleted team=core user=nobody") {
			t.Error("a request has a span although the policy was gone")
		}
	})
}

// awaitLine waits until a file has a line.
func awaitLine(t *testing.T, file, line string) {
	t.Helper()
	await(t, "the line "+line, func(context.Context) error {
		text, err := os.ReadFile(file)
		if err == nil && !slices.Contains(strings.Split(string(text), "\n"), line) {
			err = fmt.Errorf("the file has %q", text)
		}
		return err
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
