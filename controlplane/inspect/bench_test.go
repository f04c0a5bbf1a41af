package inspect

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/internal/bigmesh"
)

// BenchmarkRulesAnswer is the answer of `_rules` for a proxy with 1,000 policies and 500 services whose rules are known.
func BenchmarkRulesAnswer(b *testing.B) {
	var docs bytes.Buffer
	docs.WriteString(`
type: Mesh
name: m
meshServices: {mode: Exclusive}
---
type: Dataplane
mesh: m
name: web-1
networking: {address: 10.0.0.2, inbound: [{port: 8080, tags: {kuma.io/service: web, kuma.io/protocol: http}}]}
`)
	const services = 500
	for n := range services {
		fmt.Fprintf(&docs, "\n---\n{type: MeshService, mesh: m, name: s-%d, spec: {ports: [{port: 80, targetPort: 80, appProtocol: http}]}}\n", n)
		for kind, conf := range map[string]string{"MeshTimeout": "{connectionTimeout: 2s}", "MeshRetry": "{http: {numRetries: 3}}"} {
			fmt.Fprintf(&docs, "\n---\n{type: %s, mesh: m, name: p-%d, spec: {to: [{targetRef: {kind: MeshService, name: s-%d}, default: %s}]}}\n", kind, n, n, conf)
		}
	}
	g := start(b, docs.Bytes())
	req := httptest.NewRequest(http.MethodGet, "/meshes/m/dataplanes/web-1/_rules", nil)
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		g.handler.ServeHTTP(w, req)
		if w.Code != http.StatusOK || bytes.Count(w.Body.Bytes(), []byte(`"resourceSectionName"`)) != 2*services {
			b.Fatalf("%d %.200s", w.Code, w.Body)
		}
	}
}

// large is the mesh of the budgets: one proxy reaches 500 services, and 100 policies of every kind apply to it.
func large(size bigmesh.Size) []byte {
	documents := bigmesh.Documents(size)
	for _, p := range bigmesh.Policies(100, size) {
		documents = append(documents, p.Document(0))
	}
	return []byte(strings.Join(documents, "---"))
}

// BenchmarkConfigAnswer is the answer of `_config`, over HTTP: of a proxy whose configuration nobody has asked for, and again.
func BenchmarkConfigAnswer(b *testing.B) {
	input := large(bigmesh.Size{Zone: "zone-a", Services: 500, Replicas: 1, Reach: 1})
	for _, tt := range []struct {
		name  string
		fresh bool
	}{{"first", true}, {"again", false}} {
		b.Run(tt.name, func(b *testing.B) {
			g := start(b, input)
			ask := func() int {
				status, _, body := g.get("/meshes/default/dataplanes/" + bigmesh.Client + "/_config")
				if status != http.StatusOK || strings.Count(body, `"outbound:241.0.`) < 500 {
					b.Fatalf("%d %.200s", status, body)
				}
				return len(body)
			}
			ask()
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if tt.fresh {
					b.StopTimer()
					g.fresh()
					b.StartTimer()
				}
				n = ask()
			}
			b.ReportMetric(float64(n)/(1<<20), "MB")
		})
	}
}

// BenchmarkPreview is a policy for all of 1,000 proxies, two behind each of 500 services, ten of which each reaches: in a mesh
// without other policies, and in one with 100 of every kind.
func BenchmarkPreview(b *testing.B) {
	const services, replicas = 500, 2
	size := bigmesh.Size{Zone: "zone-a", Services: services, Replicas: replicas, Reach: 10}
	for _, mesh := range []struct {
		name      string
		documents []byte
	}{{"first policy", []byte(strings.Join(bigmesh.Documents(size), "---"))}, {"100 policies", large(size)}} {
		g := start(b, mesh.documents)
		for _, tt := range []struct{ name, to string }{{"mesh", `{"kind": "Mesh"}`}, {"service", `{"kind": "MeshService", "labels": {"kuma.io/display-name": "s-7"}}`}} {
			b.Run(mesh.name+"/"+tt.name, func(b *testing.B) {
				n, size := 0, 0
				for b.Loop() {
					n++ // another one each time
					body := fmt.Sprintf(`{"type": "MeshTimeout", "mesh": "default", "name": "aaa", "spec": {"to": [{"targetRef": %s, "default": {"connectionTimeout": "%ds"}}]}}`, tt.to, n)
					status, text := g.post("/_preview", body)
					if status != http.StatusOK || !strings.Contains(text, `"matched": 1001`) {
						b.Fatalf("%d %.500s", status, text)
					}
					size = len(text)
				}
				b.ReportMetric(float64(size)/(1<<20), "MB")
			})
		}
	}
}
