package xds

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/resource"
)

var clientKey = resource.Key{Kind: resource.KindDataplane, Mesh: "default", Name: "client-1"}

// marks records what a Lifecycle says about joining.
type marks struct {
	mu   sync.Mutex
	said []bool
	more chan struct{}
}

func (m *marks) set(_ topology.ProxyID, joining bool) {
	m.mu.Lock()
	m.said = append(m.said, joining)
	m.mu.Unlock()
	m.more <- struct{}{}
}

func (m *marks) all() []bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.said)
}

func (m *marks) await(r *rig, n int) []bool {
	r.t.Helper()
	for len(m.all()) < n {
		select {
		case <-m.more:
		case <-r.ctx().Done():
			r.t.Fatalf("said %v, want %d", m.all(), n)
		}
	}
	return m.all()
}

func joiningRig(t *testing.T) (*rig, *marks) {
	t.Helper()
	m := &marks{more: make(chan struct{}, 64)}
	return newRig(t, func(_ *Config, lc *LifecycleConfig) {
		lc.Joining, lc.Deregistration = m.set, time.Hour
	}), m
}

func said(t *testing.T, what string, got []bool, want ...bool) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: said %v, want %v", what, got, want)
	}
}

// awaitType returns the next response of a type.
func awaitType(p peer, typeURL string) answer {
	for {
		if a := p.next(); a.typ == typeURL {
			return a
		}
	}
}

// eachProtocol runs a test with a first stream and one that comes back after a cut.
func eachProtocol(t *testing.T, test func(t *testing.T, open func(r *rig, ctx context.Context, n *corev3.Node) peer, again func(r *rig, p peer) peer)) {
	t.Helper()
	t.Run("delta", func(t *testing.T) {
		test(t, func(r *rig, ctx context.Context, n *corev3.Node) peer { return r.delta(ctx, n, nil) },
			func(r *rig, p peer) peer { return r.delta(r.ctx(), node("client-1"), p.(*deltaPeer).known) })
	})
	t.Run("state of the world", func(t *testing.T) {
		test(t, func(r *rig, ctx context.Context, n *corev3.Node) peer { return r.sotw(ctx, n, nil) },
			func(r *rig, p peer) peer { return r.sotw(r.ctx(), node("client-1"), p.(*sotwPeer).versions) })
	})
}

func TestJoinsWithItsFirstListeners(t *testing.T) {
	eachProtocol(t, func(t *testing.T, open func(*rig, context.Context, *corev3.Node) peer, again func(*rig, peer) peer) {
		for _, tt := range []struct {
			name   string
			answer func(p peer, a answer)
		}{{"accepted", peer.ack}, {"refused", peer.nack}} {
			t.Run(tt.name, func(t *testing.T) {
				r, m := joiningRig(t)
				ctx, cancel := context.WithCancel(r.ctx())
				p := open(r, ctx, node("client-1"))
				p.subscribe(TypeCluster)
				clusters := p.next()
				said(t, "with the first request", m.all(), true)
				p.ack(clusters)
				p.subscribe(TypeListener)
				listeners := p.next()
				said(t, "with clusters only", m.all(), true)
				if dp, err := r.store.Get(clientKey); err != nil ||
					resource.SpecOf[*resource.Dataplane](dp).Networking.Inbound[0].State != "" {
					t.Errorf("the stored Dataplane shows it: %v %v", dp, err)
				}
				tt.answer(p, listeners)
				said(t, "with the answer to listeners", m.await(r, 2), true, false)
				cancel()
				if tt.name == "refused" {
					return
				}
				r.await("the end of the subscription", func() bool { return !r.insight("client-1").Online() })
				// A cut: it comes back with what it has.
				p = again(r, p)
				p.subscribe(TypeCluster)
				p.subscribe(TypeListener)
				r.await("the new subscription", func() bool { return r.insight("client-1").Online() })
				said(t, "after a cut", m.all(), true, false)
			})
		}
	})
}

// TestJoinsAfterACut: a stream that ends too early says nothing, neither does one that has only clusters.
func TestJoinsAfterACut(t *testing.T) {
	eachProtocol(t, func(t *testing.T, open func(*rig, context.Context, *corev3.Node) peer, again func(*rig, peer) peer) {
		r, m := joiningRig(t)
		ctx, cancel := context.WithCancel(r.ctx())
		p := open(r, ctx, node("client-1"))
		p.subscribe(TypeCluster)
		p.ack(p.next())
		cancel()
		r.await("the end of the subscription", func() bool { return len(r.insight("client-1").Subscriptions) == 1 && !r.insight("client-1").Online() })
		p = again(r, p)
		p.subscribe(TypeCluster)
		p.subscribe(TypeListener)
		a := awaitType(p, TypeListener)
		said(t, "without an answer to listeners", m.all(), true)
		p.ack(a)
		said(t, "with it", m.await(r, 2), true, false)
	})
}

// TestJoiningOverARestart: a control plane that has just started holds nobody who has listeners, and one who has none only
// when it asks for them.
func TestJoiningOverARestart(t *testing.T) {
	for _, tt := range []struct {
		name  string
		known map[string]map[string]string
		want  []bool
	}{
		{"with listeners", map[string]map[string]string{TypeCluster: {"c": "1"}, TypeListener: {"l": "1"}}, nil},
		{"with clusters only", map[string]map[string]string{TypeCluster: {"c": "1"}}, []bool{true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, m := joiningRig(t)
			p := r.delta(r.ctx(), node("client-1"), tt.known)
			p.subscribe(TypeCluster)
			p.next()
			said(t, "with clusters", m.all())
			p.subscribe(TypeListener)
			awaitType(p, TypeListener)
			said(t, "with listeners", m.all(), tt.want...)
		})
	}
}

func TestNobodyElseIsJoining(t *testing.T) {
	t.Run("a Dataplane made by hand", func(t *testing.T) {
		r, m := joiningRig(t)
		r.backend("backend-1", "10.0.0.1")
		n := node("backend-1")
		delete(n.Metadata.Fields, "dataplane.resource")
		p := r.delta(r.ctx(), n, nil)
		p.subscribe(TypeListener)
		p.next()
		said(t, "connected", m.all())
	})
	t.Run("another stream of one that listens", func(t *testing.T) {
		r, m := joiningRig(t)
		p := r.delta(r.ctx(), node("client-1"), nil)
		p.subscribe(TypeListener)
		p.ack(p.next())
		m.await(r, 2)
		p = r.delta(r.ctx(), node("client-1"), nil)
		p.subscribe(TypeListener)
		p.next()
		said(t, "two streams", m.all(), true, false)
	})
}

// TestJoiningIsForgotten: a proxy that never listened leaves no mark behind.
func TestJoiningIsForgotten(t *testing.T) {
	m := &marks{more: make(chan struct{}, 64)}
	r := newRig(t, func(_ *Config, lc *LifecycleConfig) { lc.Joining, lc.Deregistration = m.set, time.Millisecond })
	ctx, cancel := context.WithCancel(r.ctx())
	p := r.delta(ctx, node("client-1"), nil)
	p.subscribe(TypeListener)
	p.next()
	cancel()
	said(t, "gone", m.await(r, 2), true, false)
	if r.has(resource.KindDataplane, "client-1") {
		t.Error("the mark went before the Dataplane")
	}
}

// TestJoiningEndpoint is the whole way: a client's endpoints while another proxy joins.
func TestJoiningEndpoint(t *testing.T) {
	var tracker *topology.Tracker
	r := newRig(t, func(c *Config, lc *LifecycleConfig) {
		tracker = c.Topology.(*topology.Tracker)
		lc.Joining = tracker.SetJoining
	})
	r.backend("backend-1", "10.0.0.1")
	r.put(`
type: MeshService
mesh: default
name: joined
labels: {kuma.io/origin: zone, kuma.io/display-name: joined}
spec: {selector: {dataplaneTags: {kuma.io/service: client}}, ports: [{port: 80, targetPort: 9080, appProtocol: http}]}
status: {vips: [{ip: 241.0.0.2}]}
`)
	count := func() int { return len(tracker.Current().Meshes["default"].Service("joined").Endpoints[80]) }
	p := r.delta(r.ctx(), node("client-1"), nil)
	p.subscribe(TypeListener)
	a := p.next()
	r.awaitDataplane("client-1")
	if n := count(); n != 0 {
		t.Fatalf("%d endpoints before the first listeners were accepted", n)
	}
	seen := make(chan struct{}, 1)
	defer tracker.Subscribe(func(topology.Change) {
		if count() == 1 {
			select {
			case seen <- struct{}{}:
			default:
			}
		}
	})()
	p.ack(a)
	select {
	case <-seen:
	case <-r.ctx().Done():
		t.Fatal("no endpoint after the first listeners were accepted")
	}
}

// TestProbedInboundKeepsItsState: what a probe has found out outlives a registration.
func TestProbedInboundKeepsItsState(t *testing.T) {
	r := newRig(t)
	register := func() {
		n := node("client-1")
		n.Metadata.Fields["dataplane.resource"] = structpb.NewStringValue(
			strings.Replace(clientJSON, `"port":9080,`, `"port":9080,"serviceProbe":{"tcp":{}},`, 1))
		ctx, cancel := context.WithCancel(r.ctx())
		defer cancel()
		p := r.delta(ctx, n, nil)
		p.subscribe(TypeListener)
		p.next()
	}
	state := func() string {
		dp, err := r.store.Get(clientKey)
		if err != nil {
			t.Fatal(err)
		}
		return resource.SpecOf[*resource.Dataplane](dp).Networking.Inbound[0].State
	}
	register()
	if got := state(); got != resource.InboundNotReady {
		t.Fatalf("first registered as %q, want NotReady until the probe has answered", got)
	}
	for _, want := range []string{resource.InboundReady, resource.InboundNotReady} {
		dp, err := r.store.Get(clientKey)
		if err != nil {
			t.Fatal(err)
		}
		c := dp.Clone()
		resource.SpecOf[*resource.Dataplane](c).Networking.Inbound[0].State = want
		if _, err := r.store.Commit(t.Context(), store.Op{Action: store.Update, Resource: c, ExpectVersion: dp.Version}); err != nil {
			t.Fatal(err)
		}
		register()
		if got := state(); got != want {
			t.Errorf("registered again: %q, want %q", got, want)
		}
	}
}
