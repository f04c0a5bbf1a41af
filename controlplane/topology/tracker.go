package topology

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Config is what a Tracker needs.
type Config struct {
	Store store.Store
	// Zone is the name of the local zone, added as kuma.io/zone to the tags of endpoints that have none.
	Zone string
	// Log is silent when nil.
	Log *slog.Logger
}

// Tracker follows a store and keeps the World. All methods are safe for concurrent use.
type Tracker struct {
	store store.Store
	log   *slog.Logger
	state *state // of Run only
	world atomic.Pointer[World]
	ready chan struct{}

	mu   sync.Mutex
	next int
	subs []subscriber
	// marks are those of SetJoining that Run has not taken in yet; interrupt makes it look at them.
	marks     map[ProxyID]bool
	interrupt context.CancelFunc
	// released are the lost identities whose time is over.
	released []retired
}

type subscriber struct {
	id int
	fn func(Change)
}

// New makes a Tracker that knows an empty World until Run has loaded the store.
func New(cfg Config) *Tracker {
	t := &Tracker{store: cfg.Store, log: cfg.Log, state: newState(cfg.Zone), ready: make(chan struct{})}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.world.Store(t.state.world)
	t.state.retire = t.retireLater
	return t
}

// Run loads the store and follows it until ctx ends (nil) or the store is closed (store.ErrClosed). It may be called
// once.
func (t *Tracker) Run(ctx context.Context) error {
	stored, w := t.store.Watch()
	defer w.Close()
	t.publish(t.state.load(stored))
	close(t.ready)
	t.log.Debug("topology loaded", "meshes", len(t.state.world.Meshes), "revision", t.state.world.Revision)
	for {
		events, err := t.await(ctx, w)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("follow the store: %w", err)
		}
		t.publish(t.state.apply(events))
	}
}

// publish makes the new World current, then tells subscribers.
func (t *Tracker) publish(c Change) {
	t.world.Store(c.World)
	t.mu.Lock()
	subs := slices.Clone(t.subs)
	t.mu.Unlock()
	for _, s := range subs {
		s.fn(c)
	}
}

// Ready is closed when the store has been loaded.
func (t *Tracker) Ready() <-chan struct{} { return t.ready }

// Current returns the newest World; never nil, but empty until Ready.
func (t *Tracker) Current() *World { return t.world.Load() }

// Subscribe calls fn with every later Change, in order, from the goroutine of Run: once for the loading of the store
// (all meshes), then once per batch of events and marks, also when it touches nobody. Current is already the Change's World. fn
// must not block, and must not change the maps, which subscribers share. After cancel has returned no new call begins;
// one that is under way may still end. Whoever subscribes first and then reads Current misses nothing.
func (t *Tracker) Subscribe(fn func(Change)) (cancel func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	id := t.next
	t.subs = append(t.subs, subscriber{id, fn})
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.subs = slices.DeleteFunc(slices.Clone(t.subs), func(s subscriber) bool { return s.id == id })
	}
}

// Build makes the World of a set of resources at once, as a Tracker in zone would know it.
func Build(zone string, stored ...*resource.Resource) *World {
	return newState(zone).load(stored).World
}

// state is the World with what is needed to make the next one.
type state struct {
	zone  string
	world *World
	// meshes also has those whose Mesh is not stored, as long as anything else of them is.
	meshes map[string]*meshState
	// marks and released are to be taken in with the next batch.
	marks    map[ProxyID]bool
	released []retired
	// lingering are the identities that services have lost a moment ago; retire, which may be nil, ends that later.
	lingering map[retired]bool
	retire    func(retired)
}

type meshState struct {
	mesh *Mesh
	ix   *index
}

func newState(zone string) *state {
	return &state{zone: zone, lingering: map[retired]bool{}, world: &World{Meshes: map[string]*Mesh{}, Zones: &Zones{Local: zone}}, meshes: map[string]*meshState{}}
}

// load is the first batch: everything that is stored.
func (s *state) load(stored []*resource.Resource) Change {
	events := make([]store.Event, len(stored))
	for i, r := range stored {
		events[i] = store.Event{Revision: r.Version, Action: store.Create, New: r}
	}
	return s.apply(events)
}

// apply makes the next World and says who is touched.
func (s *state) apply(events []store.Event) Change {
	next := &World{Revision: s.world.Revision, Meshes: s.world.Meshes, Zones: s.world.Zones.with(events)}
	c := Change{World: next, All: map[string]bool{}, Proxies: map[ProxyID]Scope{}, Services: map[resource.Key]bool{}}
	edits := map[string]*edit{}
	if next.Zones != s.world.Zones {
		for mesh := range s.meshes {
			s.edit(edits, mesh, next.Zones)
		}
	}
	for id, joining := range s.marks {
		s.edit(edits, id.Mesh, next.Zones).setJoining(id.Name, joining)
	}
	for _, r := range s.released {
		s.edit(edits, r.service.Mesh, next.Zones).release(r)
	}
	s.marks, s.released = nil, nil
	for _, ev := range events {
		next.Revision = max(next.Revision, ev.Revision)
		if mesh := meshOf(ev); mesh != "" {
			s.edit(edits, mesh, next.Zones).apply(ev.Old, ev.New)
		}
	}
	if len(edits) > 0 {
		next.Meshes = maps.Clone(next.Meshes)
	}
	ingress, egress := false, false
	for name, e := range edits {
		e.finish()
		s.take(name, e, next)
		ingress, egress = ingress || e.ingress, egress || e.egress
		if e.all {
			c.All[name] = true
		}
		for dp, scope := range e.touched {
			c.Proxies[ProxyID{name, dp}] = scope
		}
		for svc := range e.changed {
			c.Services[svc] = true
		}
	}
	s.world.Zones.touch(next.Zones, ingress, egress, func(name string) { c.Proxies[ProxyID{Name: name}] |= ScopeFull })
	s.world = next
	return c
}

// take puts a finished edit into the next World. A Mesh that is not stored is not shown, and forgotten when nothing is
// left of it.
func (s *state) take(name string, e *edit, next *World) {
	s.meshes[name].mesh = e.mesh
	if e.mesh.Resource != nil {
		next.Meshes[name] = e.mesh
		return
	}
	delete(next.Meshes, name)
	if len(e.mesh.Dataplanes)+len(e.mesh.Services)+len(e.mesh.MultiZone)+len(e.mesh.External)+len(e.mesh.ExternalServices)+len(e.mesh.Policies)+len(e.mesh.Gateways)+len(e.mesh.Secrets)+len(e.ix.insights)+len(e.ix.joining)+len(e.ix.legacy.vips) == 0 {
		delete(s.meshes, name)
	}
}

func (s *state) edit(edits map[string]*edit, mesh string, zones *Zones) *edit {
	if e := edits[mesh]; e != nil {
		return e
	}
	m := s.meshes[mesh]
	if m == nil {
		m = &meshState{&Mesh{Policies: map[resource.Kind][]*resource.Resource{}, Secrets: map[string]*resource.Resource{}}, newIndex()}
		m.mesh.lazy = newLazy(mesh, m.mesh)
		s.meshes[mesh] = m
	}
	e := newEdit(mesh, s.zone, m.mesh, m.ix)
	e.oldZones, e.zones, e.state = s.world.Zones, zones, s
	edits[mesh] = e
	return e
}

// meshOf returns the mesh that an event belongs to, "" for kinds that belong to none.
func meshOf(ev store.Event) string {
	r := ev.New
	if r == nil {
		r = ev.Old
	}
	switch r.Kind {
	case resource.KindMesh:
		return r.Name
	case resource.KindConfig:
		mesh, _ := resource.MeshOfServiceVIPs(r.Name)
		return mesh
	}
	return r.Mesh
}
