package topology

import (
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// routesWorld: web1 has an outbound to a, web2 to none, and both have app web. b is an outbound of nobody.
const routesWorld = `
{type: Mesh, name: m, meshServices: {mode: Exclusive}}
---
{type: Dataplane, mesh: m, name: a1, networking: {address: 10.0.0.1, inbound: [{port: 80, tags: {kuma.io/service: a}}], transparentProxying: {reachableBackends: {refs: []}}}}
---
{type: Dataplane, mesh: m, name: b1, networking: {address: 10.0.0.2, inbound: [{port: 80, tags: {kuma.io/service: b, kuma.io/protocol: http, version: v1}}], transparentProxying: {reachableBackends: {refs: []}}}}
---
{type: Dataplane, mesh: m, name: web1, networking: {address: 10.0.0.3, inbound: [{port: 80, tags: {kuma.io/service: web, app: web}}], transparentProxying: {reachableBackends: {refs: [{kind: MeshService, name: a}]}}}}
---
{type: Dataplane, mesh: m, name: web2, networking: {address: 10.0.0.4, inbound: [{port: 80, tags: {kuma.io/service: web, app: web}}], transparentProxying: {reachableBackends: {refs: []}}}}
---
{type: Dataplane, mesh: m, name: other, networking: {address: 10.0.0.5, inbound: [{port: 80, tags: {kuma.io/service: other}}], transparentProxying: {reachableBackends: {refs: [{kind: MeshService, name: a}]}}}}
---
{type: MeshService, mesh: m, name: a, spec: {selector: {dataplaneTags: {kuma.io/service: a}}, ports: [{port: 80, targetPort: 80}]}}
---
{type: MeshService, mesh: m, name: b, labels: {tier: gold}, spec: {selector: {dataplaneTags: {kuma.io/service: b}}, ports: [{port: 80, targetPort: 80}]}}
---
`

// A service that only a backendRef names touches the proxies that the route acts on, and nobody else.
func TestRoutedTouched(t *testing.T) {
	const (
		unready = "{type: Dataplane, mesh: m, name: b1, networking: {address: 10.0.0.2, inbound: [{port: 80, state: NotReady, tags: {kuma.io/service: b, kuma.io/protocol: http, version: v1}}], transparentProxying: {reachableBackends: {refs: []}}}}"
		more    = "{type: Dataplane, mesh: m, name: b2, networking: {address: 10.0.0.9, inbound: [{port: 80, tags: {kuma.io/service: b, kuma.io/protocol: http, version: v1}}], transparentProxying: {reachableBackends: {refs: []}}}}"
		port    = "{type: MeshService, mesh: m, name: b, labels: {tier: gold}, spec: {selector: {dataplaneTags: {kuma.io/service: b}}, ports: [{port: 81, targetPort: 80}]}}"
		second  = "{type: MeshService, mesh: m, name: c, labels: {tier: gold}, spec: {ports: [{port: 80, targetPort: 80}]}}"
		newName = "{type: MeshService, mesh: m, name: fresh, spec: {ports: [{port: 80, targetPort: 80}]}}"
		outside = `{type: ExternalService, mesh: m, name: x, tags: {kuma.io/service: b}, networking: {address: "192.0.2.1:80"}}`
	)
	for _, tt := range []struct{ name, top, ref, edit, want string }{
		{"by name: endpoints", "", "{kind: MeshService, name: b, port: 80}", more, "b2 full, other endpoints, web1 endpoints"},
		{"by name: the last endpoint", "", "{kind: MeshService, name: b, port: 80}", unready, "b1 full, other full, web1 full"},
		{"by name: its ports", "", "{kind: MeshService, name: b, port: 80}", port, "other full, web1 full"},
		{"by name: it comes", "", "{kind: MeshService, name: fresh, port: 80}", newName, "other full, web1 full"},
		{"by name: another one comes", "", "{kind: MeshService, name: b, port: 80}", newName, ""},
		{"by labels: endpoints", "", "{kind: MeshService, labels: {tier: gold}, port: 80}", more, "b2 full, other endpoints, web1 endpoints"},
		{"by labels: another one comes", "", "{kind: MeshService, labels: {tier: gold}, port: 80}", second, "other full, web1 full"},
		{"by other labels", "", "{kind: MeshService, labels: {tier: tin}, port: 80}", port, ""},
		{"by tags: endpoints", "", "{kind: MeshServiceSubset, name: b, tags: {version: v1}}", more, "b2 full, other endpoints, web1 endpoints"},
		{"by tags: no matter what the object says", "", "{kind: MeshServiceSubset, name: b, tags: {version: v1}}", port, ""},
		{"without a port: endpoints", "", "{kind: MeshService, name: b}", more, "b2 full, other endpoints, web1 endpoints"},
		{"without a port: it moves outside", "", "{kind: MeshService, name: b}", outside, "other full, web1 full"},
		{"with a port: tags do not matter", "", "{kind: MeshService, name: b, port: 80}", outside, ""},
		{"by the name of the cluster", "", "{kind: MeshService, name: m_b__zone-a_msvc_80}", port, "other full, web1 full"},
		{"by the name of another cluster", "", "{kind: MeshService, name: m_c__zone-a_msvc_80}", port, ""},
		{"of a subset of proxies", "targetRef: {kind: MeshSubset, tags: {app: web}}, ", "{kind: MeshService, name: b, port: 80}", more, "b2 full, web1 endpoints"},
		{"of a subset, by tags", "targetRef: {kind: MeshSubset, tags: {app: web}}, ", "{kind: MeshServiceSubset, name: b}", more, "b2 full, web1 endpoints"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			route := "{type: MeshHTTPRoute, mesh: m, name: r, spec: {" + tt.top + "to: [{targetRef: {kind: MeshService, name: a}, rules: [{backendRefs: [" + tt.ref + "]}]}]}}"
			checkRouted(t, route, tt.edit, tt.want)
		})
	}
	t.Run("a mirror may mean both", func(t *testing.T) {
		route := "{type: MeshHTTPRoute, mesh: m, name: r, spec: {to: [{targetRef: {kind: MeshService, name: a}, rules: [{mirror: {backendRef: {kind: MeshService, name: b, port: 80}}}]}]}}"
		checkRouted(t, route, port, "other full, web1 full")
		checkRouted(t, route, outside, "other full, web1 full")
	})
	t.Run("a shadow leads nowhere", func(t *testing.T) {
		route := "{type: MeshHTTPRoute, mesh: m, name: r, labels: {kuma.io/effect: shadow}, spec: {to: [{targetRef: {kind: MeshService, name: a}, rules: [{backendRefs: [{kind: MeshService, name: b, port: 80}]}]}]}}"
		checkRouted(t, route, port, "")
	})
}

func checkRouted(t *testing.T, route, edit, want string) {
	t.Helper()
	st := newState("zone-a")
	stored := yaml(t, routesWorld+strings.TrimSpace(route))
	st.load(stored)
	next := yaml(t, edit)[0]
	var old *resource.Resource
	for _, r := range stored {
		if r.Key == next.Key {
			old = r
		}
	}
	if got := scopes(st.apply([]store.Event{{Revision: 9, Action: store.Update, Old: old, New: next}})); got != want {
		t.Errorf("touched %q, want %q", got, want)
	}
	// A route that is gone touches nobody any more.
	last := stored[len(stored)-1]
	st.apply([]store.Event{{Revision: 10, Action: store.Delete, Old: last}})
	if got := scopes(st.apply([]store.Event{{Revision: 11, Action: store.Update, Old: next, New: stored[len(stored)-2]}})); strings.Contains(got, "web1") {
		t.Errorf("without the route, touched %q", got)
	}
}
