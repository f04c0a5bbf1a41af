package topology

import (
	"sync"
	"testing"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/resource"
)

const joiningWorld = `
{type: Mesh, name: m, meshServices: {mode: Exclusive}}
---
{type: MeshService, mesh: m, name: back, labels: {all: "yes"}, spec: {selector: {dataplaneTags: {app: back}}, ports: [{port: 80, targetPort: 8080}]}, status: {vips: [{ip: 241.0.0.1}]}}
---
{type: MeshMultiZoneService, mesh: m, name: all, spec: {selector: {meshService: {matchLabels: {all: "yes"}}}, ports: [{port: 80}]}, status: {vips: [{ip: 243.0.0.1}]}}
---
{type: Dataplane, mesh: m, name: back-1, networking: {address: 10.0.0.1, inbound: [{port: 8080, tags: {kuma.io/service: back, app: back}}]}}
---
{type: Dataplane, mesh: m, name: client, networking: {address: 10.0.0.9, inbound: [{port: 8080, tags: {kuma.io/service: client}}], transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}}}
`

const joiner = `{type: Dataplane, mesh: m, name: back-2, networking: {address: 10.0.0.2, inbound: [{port: 8080, tags: {kuma.io/service: back, app: back}}]}}`

func addresses(s *Service) (out []string) {
	if s == nil {
		return nil
	}
	for _, e := range s.Endpoints[80] {
		out = append(out, e.Address)
	}
	return out
}

// TestJoining registers a proxy that does not listen yet, and follows every World that clients are told of.
func TestJoining(t *testing.T) {
	s := memory.Open(registry())
	defer s.Close()
	for _, r := range yaml(t, joiningWorld) {
		put1(t, s, r)
	}
	tr, stop := start(t, s)
	defer stop()
	id := ProxyID{"m", "back-2"}
	var mu sync.Mutex
	joined, early, touched := false, 0, Scope(0)
	defer tr.Subscribe(func(c Change) {
		mu.Lock()
		defer mu.Unlock()
		if !joined && len(addresses(c.World.Meshes["m"].Service("back"))) > 1 {
			early++
		}
		if joined {
			touched |= c.Proxies[ProxyID{"m", "client"}]
		}
	})()
	count := func(n int) func(*World) bool {
		return func(w *World) bool {
			m := w.Meshes["m"]
			return len(addresses(m.Service("back"))) == n && len(addresses(m.MultiZoneService("all"))) == n
		}
	}
	known := func(w *World) bool {
		d := w.Meshes["m"].Dataplane("back-2")
		return d != nil && d.Insight.Online()
	}

	tr.SetJoining(id, true)
	put1(t, s, yaml(t, joiner)[0])
	put1(t, s, yaml(t, `{type: DataplaneInsight, mesh: m, name: back-2, subscriptions: [{connectTime: "2026-01-01T00:00:00Z"}]}`)[0])
	await(t, tr, known)
	if svc := tr.Current().Meshes["m"].Service("back"); len(svc.Dataplanes) != 2 {
		t.Errorf("the service has %d proxies, want both: only endpoints wait", len(svc.Dataplanes))
	}
	mu.Lock()
	joined = true
	mu.Unlock()
	tr.SetJoining(id, false)
	await(t, tr, count(2))
	mu.Lock()
	if early > 0 {
		t.Errorf("%d worlds had the endpoint while the proxy was joining", early)
	}
	if touched == 0 {
		t.Error("the client of the service is not touched by the new endpoint")
	}
	mu.Unlock()

	// The same proxy again, with its Dataplane still there; and the others stay.
	tr.SetJoining(id, true)
	await(t, tr, count(1))
	if got := addresses(tr.Current().Meshes["m"].Service("back")); got[0] != "10.0.0.1" {
		t.Errorf("left are %v", got)
	}
	// A Dataplane that is deleted and comes back is joining until it is said that it is not.
	if _, err := s.Commit(t.Context(), store.Op{Action: store.Delete, Resource: &resource.Resource{Meta: resource.Meta{Key: key(resource.KindDataplane, "back-2")}}}); err != nil {
		t.Fatal(err)
	}
	put1(t, s, yaml(t, joiner)[0])
	await(t, tr, func(w *World) bool { return w.Meshes["m"].Dataplane("back-2") != nil && count(1)(w) })
	tr.SetJoining(id, true) // said twice
	tr.SetJoining(id, false)
	await(t, tr, count(2))
}

// TestJoiningUnknown marks proxies of a mesh that is not there (yet).
func TestJoiningUnknown(t *testing.T) {
	s := memory.Open(registry())
	defer s.Close()
	tr, stop := start(t, s)
	defer stop()
	tr.SetJoining(ProxyID{"m", "back-1"}, true)
	tr.SetJoining(ProxyID{"none", "x"}, true)
	tr.SetJoining(ProxyID{"none", "x"}, false)
	for _, r := range yaml(t, joiningWorld) {
		put1(t, s, r)
	}
	await(t, tr, func(w *World) bool { return w.Meshes["m"] != nil && w.Meshes["m"].Dataplane("client") != nil })
	if got := addresses(tr.Current().Meshes["m"].Service("back")); len(got) > 0 {
		t.Errorf("endpoints are %v, want none", got)
	}
	tr.SetJoining(ProxyID{"m", "back-1"}, false)
	await(t, tr, func(w *World) bool { return len(addresses(w.Meshes["m"].Service("back"))) == 1 })
	stop()
	if n := len(tr.state.meshes); n != 1 {
		t.Errorf("%d meshes are remembered, want 1", n)
	}
}
