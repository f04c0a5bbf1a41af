package inspect

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
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
