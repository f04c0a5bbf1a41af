package xds

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/bootstrap"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/policy/all/alltest"
	"github.com/kuma-dp/kuma-dp/resource"
)

// pinned is a topology that stands still between two changes.
type pinned struct{ world *topology.World }

func (p *pinned) Current() *topology.World { return p.world }

func (p *pinned) Subscribe(func(topology.Change)) (cancel func()) { return func() {} }

// fleet are connected proxies without streams: they get what a Server makes for them, when a change touches them.
type fleet struct {
	t         harness
	live      *livePicture
	picture   *pinned
	server    *Server
	snapshots map[topology.ProxyID]*Snapshot
}

func newFleet(t harness) *fleet {
	f := &fleet{t: t, live: follow(t, alltest.Zone), picture: &pinned{}, snapshots: map[topology.ProxyID]*Snapshot{}}
	f.server = serverOf(f.picture)
	return f
}

func serverOf(p *pinned) *Server {
	return New(Config{
		Topology: p, Zone: alltest.Zone, Kinds: all.Kinds(), Effects: all.Effects(),
		TrustBundle: func(string) ([]byte, error) { return []byte("CA"), nil },
		EgressIdentity: func(context.Context, string, string) (*KeyPair, time.Time, error) {
			return &KeyPair{Cert: []byte("CERT"), Key: []byte("KEY")}, time.Time{}, nil
		},
	})
}

// proxies are all that may be there, one more than in the beginning.
func (f *fleet) proxies() []topology.ProxyID {
	var out []topology.ProxyID
	for _, name := range append(alltest.Proxies(), "web-3") {
		out = append(out, topology.ProxyID{Mesh: alltest.Mesh, Name: name})
	}
	return append(out, topology.ProxyID{Name: alltest.Egress})
}

func (f *fleet) commit(ops ...store.Op) {
	f.t.Helper()
	f.live.commit(func(c topology.Change) {
		f.picture.world = c.World
		for _, id := range f.proxies() {
			scope := c.Proxies[id]
			if c.All[id.Mesh] {
				scope = topology.ScopeFull
			}
			if scope != 0 {
				f.snapshots[id] = f.make(f.server, id, scope, f.snapshots[id])
			}
		}
	}, ops...)
}

// make returns the snapshot before when a proxy has none now, as a Server that keeps the last one.
func (f *fleet) make(s *Server, id topology.ProxyID, scope topology.Scope, before *Snapshot) *Snapshot {
	f.t.Helper()
	meta := mixMeta()
	if id.Name == "web-2" {
		meta.Version = agentOf("3.0.0").Version // its agent asks for pages
	}
	if id.Mesh == "" {
		meta.ProxyType = bootstrap.TypeEgress
	}
	next, _, err := s.compute(f.t.Context(), id, scope, meta, before)
	if err != nil {
		f.t.Fatalf("%s: %v", id.Name, err)
	}
	if next == nil {
		return before
	}
	return next
}

func puts(list ...*resource.Resource) []store.Op {
	var ops []store.Op
	for _, r := range list {
		ops = append(ops, store.Op{Action: store.Upsert, Resource: r.Clone()})
	}
	return ops
}

// differences names the resources of two snapshots whose bytes differ, and what else does.
func differences(a, b *Snapshot) []string {
	var out []string
	if a == nil || b == nil {
		if a != b {
			out = append(out, "one is missing")
		}
		return out
	}
	if x, y := fmt.Sprintf("%q %q", a.warnings, a.patchWarnings), fmt.Sprintf("%q %q", b.warnings, b.patchWarnings); x != y {
		out = append(out, "warnings "+x+" and "+y)
	}
	for _, typeURL := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(a.Types(), b.Types())))) {
		x, y := a.get(typeURL), b.get(typeURL)
		for _, name := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(x.names, y.names)))) {
			switch r, s := x.byName[name], y.byName[name]; {
			case r == nil || s == nil:
				out = append(out, fmt.Sprintf("%s %s: only one has it (%t, %t)", typeURL, name, r != nil, s != nil))
			case !bytes.Equal(r.Any.Value, s.Any.Value):
				p, _ := r.JSON()
				q, _ := s.JSON()
				out = append(out, fmt.Sprintf("%s %s:\n%s\n%s", typeURL, name, p, q))
			}
		}
		if x.version != y.version {
			out = append(out, typeURL+": versions of the type")
		}
	}
	return out
}

// TestIncrementalIsCold changes a mesh at random, policies of every kind most of all: what proxies got by steps, those that
// no change touched too, is what a control plane that has just started would give them.
func TestIncrementalIsCold(t *testing.T) { rapid.Check(t, testIncremental) }

func testIncremental(rt *rapid.T) {
	f := newFleet(rt)
	stored := map[resource.Key]bool{}
	put := func(list ...*resource.Resource) []store.Op {
		for _, r := range list {
			stored[r.Key] = true
		}
		return puts(list...)
	}
	f.commit(put(alltest.MeshIn(rt, ""))...)
	f.commit(put(alltest.World(rt)...)...)
	for range rapid.IntRange(1, 12).Draw(rt, "steps") {
		var ops []store.Op
		for range rapid.IntRange(1, 3).Draw(rt, "changes") {
			r := alltest.Policy(rt)
			if rapid.IntRange(0, 5).Draw(rt, "other") == 0 {
				r = alltest.More(rt)
			}
			switch {
			case stored[r.Key] && r.Kind != resource.KindMesh && rapid.IntRange(0, 2).Draw(rt, "delete") == 0:
				delete(stored, r.Key)
				ops = append(ops, store.Op{Action: store.Delete, Resource: r})
			default:
				ops = append(ops, put(r)...)
			}
		}
		f.commit(ops...)
		cold := serverOf(f.picture)
		for _, id := range f.proxies() {
			if m := f.picture.world.Meshes[id.Mesh]; m != nil && m.Dataplane(id.Name) == nil {
				continue
			}
			for _, d := range differences(f.make(cold, id, topology.ScopeFull, nil), f.snapshots[id]) {
				rt.Errorf("%s, from the beginning and by steps: %.4000s", id.Name, d)
			}
		}
	}
}

// TestOrderOfPolicies: in whichever order policies come, by whichever way, the end is the same. Others come and go meanwhile,
// and of those that stay there have been other versions, of which some were deleted.
func TestOrderOfPolicies(t *testing.T) { rapid.Check(t, testOrder) }

func testOrder(rt *rapid.T) {
	mesh, world := alltest.MeshIn(rt, ""), alltest.World(rt)
	stay, leave := map[resource.Key]*resource.Resource{}, map[resource.Key]*resource.Resource{}
	for _, p := range rapid.SliceOfN(rapid.Custom(alltest.Policy), 2, 10).Draw(rt, "policies") {
		stay[p.Key] = p
	}
	for _, p := range rapid.SliceOfN(rapid.Custom(alltest.Policy), 0, 3).Draw(rt, "others") {
		if stay[p.Key] == nil {
			leave[p.Key] = p
		}
	}
	var fleets [2]*fleet
	for i := range fleets {
		fleets[i] = newFleet(rt)
		fleets[i].commit(puts(mesh)...)
		fleets[i].commit(puts(world...)...)
		for _, ops := range ways(rt, stay, leave) {
			fleets[i].commit(ops...)
		}
	}
	for _, id := range fleets[0].proxies() {
		for _, d := range differences(fleets[0].snapshots[id], fleets[1].snapshots[id]) {
			rt.Errorf("%s, in one order and the other: %.4000s", id.Name, d)
		}
	}
}

// ways draws in which commits it comes to policies that stay.
func ways(rt *rapid.T, stay, leave map[resource.Key]*resource.Resource) [][]store.Op {
	var queues [][]store.Op
	byKey := func(a, b *resource.Resource) int { return strings.Compare(a.Key.String(), b.Key.String()) }
	for _, p := range slices.SortedFunc(maps.Values(stay), byKey) {
		var ops []store.Op
		for range rapid.IntRange(0, 2).Draw(rt, "versions before") {
			if ops = append(ops, puts(alltest.PolicyOf(rt, p.Kind, p.Name))...); rapid.Bool().Draw(rt, "deleted") {
				ops = append(ops, store.Op{Action: store.Delete, Resource: p})
			}
		}
		queues = append(queues, append(ops, puts(p)...))
	}
	for _, p := range slices.SortedFunc(maps.Values(leave), byKey) {
		queues = append(queues, append(puts(p), store.Op{Action: store.Delete, Resource: p}))
	}
	var out [][]store.Op
	for len(queues) > 0 {
		i := rapid.IntRange(0, len(queues)-1).Draw(rt, "next")
		if op := queues[i][0]; len(out) == 0 || rapid.Bool().Draw(rt, "another commit") {
			out = append(out, []store.Op{op})
		} else {
			out[len(out)-1] = append(out[len(out)-1], op)
		}
		if queues[i] = queues[i][1:]; len(queues[i]) == 0 {
			queues = slices.Delete(queues, i, i+1)
		}
	}
	return out
}
