package inspect

import (
	"net/http"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// TestOlderPolicies: the proxies of a policy from before target references are those at the end that it changes, and are shown
// as those of other policies.
func TestOlderPolicies(t *testing.T) {
	g := start(t, []byte(`{type: Mesh, name: m}
---
{type: Dataplane, mesh: m, name: web-1, networking: {address: 10.0.0.1, inbound: [{port: 80, tags: {kuma.io/service: web, kuma.io/protocol: http}}]}}
---
{type: Dataplane, mesh: m, name: backend-1, networking: {address: 10.0.0.2, inbound: [{port: 80, tags: {kuma.io/service: backend, kuma.io/protocol: http}}]}}
---
{type: Dataplane, mesh: m, name: edge-1, networking: {address: 10.0.0.3, gateway: {tags: {kuma.io/service: edge}}}}
---
{type: TrafficPermission, mesh: m, name: p, sources: [{match: {kuma.io/service: web}}], destinations: [{match: {kuma.io/service: backend, kuma.io/zone: zone-a}}]}
---
{type: TrafficLog, mesh: m, name: l, sources: [{match: {kuma.io/service: edge}}], destinations: [{match: {kuma.io/service: backend}}]}
---
{type: TrafficTrace, mesh: m, name: t, selectors: [{match: {kuma.io/service: '*'}}]}
---
{type: RateLimit, mesh: m, name: r, sources: [{match: {kuma.io/service: web}}], destinations: [{match: {kuma.io/service: nobody}}], conf: {http: {requests: 1, interval: 1s}}}
`))
	const own = `"labels":{"kuma.io/env":"universal","kuma.io/mesh":"m","kuma.io/origin":"zone","kuma.io/zone":"zone-a"}`
	dataplane := func(name string) string {
		return `{` + own + `,"mesh":"m","name":"` + name + `","type":"Dataplane"}`
	}
	policy := func(kind, name string) string {
		return `"` + kind + `":[{"type":"` + kind + `","mesh":"m","name":"` + name + `","labels":{"kuma.io/mesh":"m"}}]`
	}
	for path, want := range map[string]string{
		"traffic-permissions/p/_resources/dataplanes": `{"items":[` + dataplane("backend-1") + `],"total":1}`,
		"traffic-permissions/p/-resources/dataplanes": `{"items":[` + dataplane("backend-1") + `],"total":1}`,
		"traffic-logs/l/_resources/dataplanes":        `{"items":[` + dataplane("edge-1") + `],"total":1}`,
		"traffic-traces/t/_resources/dataplanes":      `{"items":[` + dataplane("backend-1") + `,` + dataplane("edge-1") + `,` + dataplane("web-1") + `],"total":3}`,
		"rate-limits/r/_resources/dataplanes":         `{"items":[],"total":0}`,
		"traffic-logs/l/dataplanes": `{"items":[` + strings.TrimSuffix(dataplane("edge-1"), "}") +
			`,"kind":"SidecarDataplane","dataplane":{"mesh":"m","name":"edge-1"},"attachments":[{"type":"dataplane"}]}],"total":1}`,
		"dataplanes/backend-1/policies": `{"kind":"SidecarDataplane","total":1,"items":[{"type":"dataplane","matchedPolicies":{` +
			policy("TrafficPermission", "p") + `,` + policy("TrafficTrace", "t") + `}}]}`,
	} {
		status, _, body := g.get("/meshes/m/" + path)
		if diff := gocmp.Diff(want, compact(t, body)); status != http.StatusOK || diff != "" {
			t.Errorf("%s: %d (-want +got):\n%s", path, status, diff)
		}
	}
	if status, _, body := g.get("/meshes/m/fault-injections/none/_resources/dataplanes"); status != http.StatusNotFound {
		t.Errorf("a policy that is not there: %d %s", status, body)
	}
	// Rules are those of policies with target references.
	if _, _, body := g.get("/meshes/m/dataplanes/backend-1/_rules"); !strings.Contains(compact(t, body), `"rules":[]`) {
		t.Errorf("rules are %s", body)
	}
}
