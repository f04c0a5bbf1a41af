package topology

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/resource"
)

// start runs a Tracker until stop, which waits for it and may be called again.
func start(t testing.TB, s store.Store) (tr *Tracker, stop func()) {
	t.Helper()
	tr = New(Config{Store: s, Zone: "zone-a"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	<-tr.Ready()
	return tr, stop
}

// await returns when a World satisfies ok.
func await(t testing.TB, tr *Tracker, ok func(*World) bool) {
	t.Helper()
	found := make(chan struct{})
	once := sync.OnceFunc(func() { close(found) })
	cancel := tr.Subscribe(func(c Change) {
		if ok(c.World) {
			once()
		}
	})
	defer cancel()
	if ok(tr.Current()) {
		return
	}
	select {
	case <-found:
	case <-t.Context().Done():
		t.Fatal("the test ended before the world was as awaited")
	}
}

func TestTracker(t *testing.T) {
	s := memory.Open(registry())
	for _, r := range testdata(t, "exclusive.yaml") {
		put1(t, s, r)
	}
	tr := New(Config{Store: s, Zone: "zone-a"})
	if w := tr.Current(); w == nil || len(w.Meshes) != 0 {
		t.Errorf("before Run: got %v, want an empty world", w)
	}
	select {
	case <-tr.Ready():
		t.Error("ready before Run")
	default:
	}
	changes := make(chan Change, 10)
	cancel := tr.Subscribe(func(c Change) { changes <- c })
	done := make(chan error, 1)
	go func() { done <- tr.Run(t.Context()) }()
	first := <-changes
	if !first.All["m"] || first.World.Meshes["m"].Service("orders") == nil {
		t.Errorf("first change: got %v, want all of mesh m", first.All)
	}
	<-tr.Ready()

	again := put1(t, s, testdata(t, "exclusive.yaml")[1]) // nothing changes, and nothing is told
	other := yaml(t, "{type: Mesh, name: other}")[0]
	if v := put1(t, s, other).Version; v <= again.Version {
		t.Fatalf("version %d is not above %d", v, again.Version)
	}
	c := <-changes
	if diff := cmp.Diff(map[string]bool{"other": true}, c.All); diff != "" || len(c.Proxies) > 0 {
		t.Errorf("second change: %s, proxies %v", diff, c.Proxies)
	}
	if c.World.Meshes["m"] != first.World.Meshes["m"] {
		t.Error("the picture of a mesh that no event touched was made again")
	}
	cancel()
	if _, err := s.Commit(t.Context(), store.Op{Action: store.Delete, Resource: other}); err != nil {
		t.Fatal(err)
	}
	await(t, tr, func(w *World) bool { return w.Meshes["other"] == nil })
	if len(changes) != 0 {
		t.Error("a change after cancel")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, store.ErrClosed) {
		t.Errorf("after the store was closed: got %v, want ErrClosed", err)
	}
}

// TestTouched names, for one edit of a world each, exactly who is touched.
func TestTouched(t *testing.T) {
	const world = `
{type: Mesh, name: m, meshServices: {mode: Exclusive}}
---
{type: Mesh, name: other}
---
{type: Dataplane, mesh: m, name: a1, networking: {address: 10.0.0.1, inbound: [{port: 80, tags: {kuma.io/service: a, app: x}}], transparentProxying: {reachableBackends: {refs: [{kind: MeshService, name: b}]}}}}
---
{type: Dataplane, mesh: m, name: a2, networking: {address: 10.0.0.2, inbound: [{port: 80, tags: {kuma.io/service: a}}], transparentProxying: {reachableBackends: {refs: [{kind: MeshService, labels: {tier: gold}}]}}}}
---
{type: Dataplane, mesh: m, name: b1, networking: {address: 10.0.0.3, inbound: [{port: 80, tags: {kuma.io/service: b, kuma.io/protocol: http}}], transparentProxying: {reachableBackends: {refs: []}}}}
---
{type: Dataplane, mesh: m, name: b2, networking: {address: 10.0.0.4, inbound: [{port: 80, tags: {kuma.io/service: b, kuma.io/protocol: http}}], transparentProxying: {reachableBackends: {refs: []}}}}
---
{type: Dataplane, mesh: m, name: gate, networking: {address: 10.0.0.5, gateway: {tags: {kuma.io/service: gate}}, transparentProxying: {reachableBackends: {refs: [{kind: MeshService, name: a}]}}}}
---
{type: MeshService, mesh: m, name: a, labels: {tier: gold}, spec: {selector: {dataplaneTags: {kuma.io/service: a}}, ports: [{port: 80, targetPort: 80}]}}
---
{type: MeshService, mesh: m, name: b, spec: {selector: {dataplaneTags: {kuma.io/service: b}}, ports: [{port: 80, targetPort: 80}]}}
---
{type: Secret, mesh: m, name: ca, data: YQ==}`
	const b1 = `{type: Dataplane, mesh: m, name: b1, networking: {address: 10.0.0.3, transparentProxying: {reachableBackends: {refs: []}}, `
	full := func(names ...string) map[string]Scope {
		out := map[string]Scope{}
		for _, n := range names {
			out[n] = ScopeFull
		}
		return out
	}
	tests := []struct {
		name, input string
		delete      *resource.Key
		all         bool
		want        map[string]Scope
		services    []string
	}{
		{
			name: "endpoint goes: its clients, endpoints only", input: b1 + `inbound: [{port: 80, state: NotReady, tags: {kuma.io/service: b, kuma.io/protocol: http}}]}}`,
			want: map[string]Scope{"b1": ScopeFull, "a1": ScopeEndpoints}, services: []string{"b"},
		},
		{
			name: "protocol of a service changes: its clients in full", input: b1 + `inbound: [{port: 80, tags: {kuma.io/service: b, kuma.io/protocol: tcp}}]}}`,
			want: full("b1", "a1"), services: []string{"b"},
		},
		{
			name: "dataplane moves to another service", input: b1 + `inbound: [{port: 80, tags: {kuma.io/service: a}}]}}`,
			want: map[string]Scope{"b1": ScopeFull, "a1": ScopeEndpoints, "a2": ScopeEndpoints, "gate": ScopeEndpoints}, services: []string{"a", "b"},
		},
		{
			name: "dataplane without meaning to others", input: b1 + `inbound: [{port: 80, servicePort: 81, tags: {kuma.io/service: b, kuma.io/protocol: http}}]}}`,
			want: full("b1"), services: []string{"b"},
		},
		{name: "dataplane goes", delete: new(key(resource.KindDataplane, "b2")), want: map[string]Scope{"b2": ScopeFull, "a1": ScopeEndpoints}, services: []string{"b"}},
		{
			name: "service changes", input: `{type: MeshService, mesh: m, name: b, spec: {selector: {dataplaneTags: {kuma.io/service: b}}, ports: [{port: 81, targetPort: 80}]}}`,
			want: full("a1"), services: []string{"b"},
		},
		{
			name: "service gets a label by which it is reached", input: `{type: MeshService, mesh: m, name: b, labels: {tier: gold}, spec: {selector: {dataplaneTags: {kuma.io/service: b}}, ports: [{port: 80, targetPort: 80}]}}`,
			want: full("a1", "a2"), services: []string{"b"},
		},
		{name: "service goes", delete: new(key(resource.KindMeshService, "a")), want: full("a2", "gate"), services: []string{"a"}},
		{
			name: "service counts proxies: nobody", input: `{type: MeshService, mesh: m, name: b, spec: {selector: {dataplaneTags: {kuma.io/service: b}}, ports: [{port: 80, targetPort: 80}]}, status: {dataplaneProxies: {total: 2}}}`,
			services: []string{"b"},
		},
		{name: "insight: nobody", input: `{type: DataplaneInsight, mesh: m, name: b1, subscriptions: [{connectTime: "2026-01-01T00:00:00Z"}]}`, services: []string{"b"}},
		{name: "insight of a proxy that is not there", input: `{type: DataplaneInsight, mesh: m, name: ghost, subscriptions: [{connectTime: "2026-01-01T00:00:00Z"}]}`},
		{name: "policy for everybody", input: `{type: MeshRetry, mesh: m, name: p, spec: {to: [{targetRef: {kind: Mesh}}]}}`, all: true},
		{name: "policy for a subset", input: `{type: MeshRetry, mesh: m, name: p, spec: {targetRef: {kind: MeshSubset, tags: {app: "*"}}}}`, want: full("a1")},
		{name: "policy for a service's proxies", input: `{type: MeshRetry, mesh: m, name: p, spec: {targetRef: {kind: MeshService, name: b}}}`, want: full("b1", "b2")},
		{name: "policy for gateways", input: `{type: MeshRetry, mesh: m, name: p, spec: {targetRef: {kind: Mesh, proxyTypes: [Gateway]}}}`, want: full("gate")},
		{name: "policy for a zone", input: `{type: MeshRetry, mesh: m, name: p, spec: {targetRef: {kind: MeshSubset, tags: {kuma.io/zone: zone-a}, proxyTypes: [Sidecar]}}}`, want: full("a1", "a2", "b1", "b2")},
		{name: "shadow policy: nobody", input: `{type: MeshRetry, mesh: m, name: p, labels: {kuma.io/effect: shadow}, spec: {}}`},
		{name: "producer policy: clients", input: `{type: MeshRetry, mesh: m, name: p, labels: {kuma.io/policy-role: producer}, spec: {to: [{targetRef: {kind: MeshService, name: a}}]}}`, want: full("a2", "gate")},
		{name: "producer timeout: everybody", input: `{type: MeshTimeout, mesh: m, name: p, labels: {kuma.io/policy-role: producer}, spec: {to: [{targetRef: {kind: MeshService, name: a}}]}}`, all: true},
		{name: "older permission: where it lets in", input: `{type: TrafficPermission, mesh: m, name: p, sources: [{match: {kuma.io/service: a}}], destinations: [{match: {kuma.io/service: b, kuma.io/zone: zone-a}}]}`, want: full("b1", "b2")},
		{name: "older fault", input: `{type: FaultInjection, mesh: m, name: p, sources: [{match: {kuma.io/service: '*'}}], destinations: [{match: {kuma.io/service: a, app: '*'}}]}`, want: full("a1")},
		{name: "older limit", input: `{type: RateLimit, mesh: m, name: p, sources: [{match: {kuma.io/service: '*'}}], destinations: [{match: {kuma.io/service: a}}]}`, want: full("a1", "a2")},
		{name: "older log: who sends", input: `{type: TrafficLog, mesh: m, name: p, sources: [{match: {kuma.io/service: gate}}, {match: {kuma.io/service: a, app: x}}], destinations: [{match: {kuma.io/service: b}}]}`, want: full("gate", "a1")},
		{name: "older trace", input: `{type: TrafficTrace, mesh: m, name: p, selectors: [{match: {kuma.io/service: '*'}}]}`, want: full("a1", "a2", "b1", "b2", "gate")},
		{name: "mesh", input: `{type: Mesh, name: m, meshServices: {mode: Everywhere}}`, all: true},
		{name: "authority", input: `{type: Secret, mesh: m, name: ca, data: Yg==}`, all: true},
		{name: "token key: nobody", input: `{type: Secret, mesh: m, name: dataplane-token-signing-key-m-1, data: Yg==}`},
		{name: "mesh goes", delete: new(key(resource.KindMesh, "m")), all: true, want: full("a1", "a2", "b1", "b2", "gate"), services: []string{"a", "b"}},
		{
			name: "route to b from clients of a: endpoints of b", input: `{type: MeshHTTPRoute, mesh: m, name: r, spec: {to: [{targetRef: {kind: MeshService, name: a}, rules: [{backendRefs: [{kind: MeshService, name: b, port: 80}]}]}]}}
---
` + b1 + `inbound: [{port: 80, state: NotReady, tags: {kuma.io/service: b, kuma.io/protocol: http}}]}}`,
			want: map[string]Scope{"b1": ScopeFull, "a1": ScopeEndpoints, "a2": ScopeEndpoints, "gate": ScopeEndpoints}, services: []string{"b"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := memory.Open(registry())
			defer s.Close()
			for _, r := range yaml(t, world) {
				put1(t, s, r)
			}
			if tt.delete != nil {
				got := edited(t, s, store.Op{Action: store.Delete, Resource: &resource.Resource{Meta: resource.Meta{Key: *tt.delete}}})
				check(t, got, tt.all, tt.want, tt.services)
				return
			}
			var got Change
			for _, r := range yaml(t, tt.input) { // only the last one counts
				got = edited(t, s, store.Op{Action: store.Upsert, Resource: r})
			}
			check(t, got, tt.all, tt.want, tt.services)
		})
	}
}

// edited returns what one commit means.
func edited(t *testing.T, s store.Store, op store.Op) Change {
	t.Helper()
	stored, w := s.Watch()
	defer w.Close()
	st := newState("zone-a")
	st.load(stored)
	if _, err := s.Commit(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	events, err := w.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st.apply(events)
}

func check(t *testing.T, got Change, all bool, want map[string]Scope, services []string) {
	t.Helper()
	proxies := map[ProxyID]Scope{}
	for name, scope := range want {
		proxies[ProxyID{"m", name}] = scope
	}
	if diff := cmp.Diff(proxies, got.Proxies); diff != "" {
		t.Errorf("proxies (-want +got):\n%s", diff)
	}
	if got.All["m"] != all || got.All["other"] {
		t.Errorf("all: got %v, want %v", got.All, all)
	}
	wantServices := map[resource.Key]bool{}
	for _, name := range services {
		wantServices[key(resource.KindMeshService, name)] = true
	}
	if diff := cmp.Diff(wantServices, got.Services); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
}
