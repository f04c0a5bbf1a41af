package xds

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// A proxy that reaches many services, a part of which have routes.
const (
	routedServices = 500
	routedPolicies = 100
)

func routeDocument(i, weight int) string {
	return fmt.Sprintf(`
---
type: MeshHTTPRoute
mesh: default
name: r-%d
spec:
  to:
  - targetRef: {kind: MeshService, name: s-%d}
    rules:
    - {matches: [{path: {type: PathPrefix, value: /a}}], default: {backendRefs: [{kind: MeshService, name: s-%d, port: 80, weight: %d}, {kind: MeshService, name: s-%d, port: 80}]}}
    - {matches: [{headers: [{name: v, value: "2"}]}], default: {filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /b}}}]}}
`, i, i, i, weight, i+routedPolicies)
}

func routedWorld(b *testing.B) (*scene, *topology.World) {
	b.Helper()
	s := &scene{zone: "zone-1"}
	var docs strings.Builder
	docs.WriteString(meshYAML + `
---
type: Dataplane
mesh: default
name: client
networking:
  address: 10.0.0.1
  inbound: [{port: 80, tags: {kuma.io/service: client, kuma.io/protocol: http}}]
  transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}
`)
	for i := range routedServices {
		fmt.Fprintf(&docs, `
---
type: Dataplane
mesh: default
name: s-%[1]d
networking:
  address: 10.1.%[2]d.%[3]d
  inbound: [{port: 80, tags: {kuma.io/service: s-%[1]d, kuma.io/protocol: http}}]
---
type: MeshService
mesh: default
name: s-%[1]d
spec:
  selector: {dataplaneTags: {kuma.io/service: s-%[1]d}}
  ports: [{port: 80, targetPort: 80, appProtocol: http}]
`, i, i/250, i%250)
	}
	for i := range routedPolicies {
		docs.WriteString(routeDocument(i, 2))
	}
	if skipped := s.add(b, []byte(docs.String())); skipped != nil {
		b.Fatal(skipped)
	}
	s.resources = append(s.resources, all.DefaultPolicies("default", nil)...)
	for i, r := range s.resources {
		r.Version = uint64(i + 1)
	}
	return s, s.world(b, func(i int, _ string) string { return fmt.Sprintf("241.0.%d.%d", i/250, i%250) }, nil)
}

func generateRouted(b *testing.B, g *Generator, book *rulebook, w *topology.World) *Snapshot {
	b.Helper()
	m := w.Meshes["default"]
	dp := m.Dataplane("client")
	rules, err := book.rules(w, m, dp, false)
	if err != nil {
		b.Fatal(err)
	}
	snap, err := g.Generate(Input{
		Mesh: m, Dataplane: dp, Zone: "zone-1", Rules: rules, TrustBundle: []byte("CA"), Identity: &KeyPair{Cert: []byte("C"), Key: []byte("K")},
		Meta: Meta{AdminPort: 9901, ReadinessPort: 9902, DNSPort: 15053},
	})
	if err != nil {
		b.Fatal(err)
	}
	return snap
}

// BenchmarkRoutesCold is the configuration of a proxy with 500 services and 100 routes that nobody asked for before.
func BenchmarkRoutesCold(b *testing.B) {
	_, w := routedWorld(b)
	b.ReportAllocs()
	for b.Loop() {
		snap := generateRouted(b, NewGenerator(all.Effects()), newRulebook(all.Kinds(), "zone-1"), w)
		if len(snap.Resources(TypeListener)) < routedServices {
			b.Fatal("outbounds are missing")
		}
	}
}

// BenchmarkRoutesChange is the same after one of the routes has changed.
func BenchmarkRoutesChange(b *testing.B) {
	s, _ := routedWorld(b)
	worlds := make([]*topology.World, 2)
	// Two pictures of one mesh that differ in one policy, as the topology makes them: all else is shared.
	changed := &scene{zone: "zone-1"}
	if skipped := changed.add(b, []byte(strings.TrimPrefix(routeDocument(7, 3), "\n---"))); skipped != nil {
		b.Fatal(skipped)
	}
	next := changed.resources[0]
	i := indexOfKey(s.resources, next.Key)
	next.Version = uint64(len(s.resources) + 1)
	before, after := topology.Preview("zone-1", s.resources, []store.Event{{Revision: next.Version, Action: store.Update, Old: s.resources[i], New: next}})
	worlds[0], worlds[1] = before, after.World
	g, book := NewGenerator(all.Effects()), newRulebook(all.Kinds(), "zone-1")
	snaps := [2]*Snapshot{generateRouted(b, g, book, worlds[0]), generateRouted(b, g, book, worlds[1])}
	if snaps[0].get(TypeListener).version == snaps[1].get(TypeListener).version {
		b.Fatal("the change changes nothing")
	}
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		generateRouted(b, g, book, worlds[n%2])
		n++
	}
}

func indexOfKey(list []*resource.Resource, key resource.Key) int {
	for i, r := range list {
		if r.Key == key {
			return i
		}
	}
	return -1
}
