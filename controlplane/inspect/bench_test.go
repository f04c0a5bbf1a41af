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

// bigRig has the mesh of the budgets: a proxy with 500 services and 100 policies of every kind.
func bigRig(b *testing.B, size bigmesh.Size) *rig {
	b.Helper()
	documents := bigmesh.Documents(size)
	for _, p := range bigmesh.Policies(100, size) {
		documents = append(documents, p.Document(0))
	}
	return start(b, []byte(strings.Join(documents, "\n---\n")))
}

// BenchmarkConfigAnswer is the answer of `_config` for the proxy, which is made for each question.
func BenchmarkConfigAnswer(b *testing.B) {
	g := bigRig(b, bigmesh.Size{Zone: "zone-a", Services: 500, Replicas: 1, Reach: 1})
	req := httptest.NewRequest(http.MethodGet, "/meshes/default/dataplanes/"+bigmesh.Client+"/_config", nil)
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		g.handler.ServeHTTP(w, req)
		if n := bytes.Count(w.Body.Bytes(), []byte(`"name": "outbound:241.`)); w.Code != http.StatusOK || n < 500 {
			b.Fatalf("%d, %d outbounds: %.200s", w.Code, n, w.Body)
		}
	}
}
