package inspect

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestTooManyRules: what can be listed is, and the warnings tell what cannot.
func TestTooManyRules(t *testing.T) {
	var items strings.Builder
	items.WriteString("{targetRef: {kind: Mesh}, default: {action: Allow}}, {targetRef: {kind: MeshService, name: x}, default: {action: Deny}}")
	for i := range 11 {
		fmt.Fprintf(&items, ", {targetRef: {kind: MeshServiceSubset, name: s-%d, tags: {k-%d: v}}, default: {action: Allow}}", i, i)
	}
	g := start(t, fmt.Appendf(nil, `
type: Mesh
name: m
---
type: Dataplane
mesh: m
name: web-1
networking: {address: 10.0.0.2, inbound: [{port: 8080, tags: {kuma.io/service: web}}]}
---
type: MeshTrafficPermission
mesh: m
name: p
spec: {from: [%s]}
`, items.String()))
	for _, path := range []string{"_rules", "rules", "policies", "_rules"} {
		status, _, body := g.get("/meshes/m/dataplanes/web-1/" + path)
		if status != http.StatusOK {
			t.Errorf("%s: got %d %s", path, status, body)
		}
		if path != "_rules" {
			continue
		}
		if got := strings.Count(body, `"matchers"`); got != 2+11*4 {
			t.Errorf("%d rules, want those of 12 cliques", got)
		}
		if !strings.Contains(body, "combine in too many ways") {
			t.Errorf("no warning in %s", body)
		}
	}
}
