package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/service/writeback"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/resource"
)

// updater keeps the status of services.
type updater struct {
	store   store.Store
	tracker *topology.Tracker
	log     *slog.Logger
	wake    chan struct{} // holds one; a signal that something is dirty
	// emptyReady: see Config.EmptyReady.
	emptyReady time.Duration

	mu sync.Mutex
	// dirty are the services to look at.
	dirty map[resource.Key]bool
	// empty are the services without proxies.
	empty map[resource.Key]*emptiness
	// specs are the meshes as they were looked at: their mTLS decides over the status of every service.
	specs map[string]*resource.Mesh
	// labels of the MeshServices as they were looked at, which decide over the status of MeshMultiZoneServices.
	labels map[resource.Key]map[string]string
}

// emptiness is the time of a service without proxies.
type emptiness struct {
	// created tells the service from a later one of its name.
	created time.Time
	timer   *time.Timer
	// ripe: it has lasted for emptyReady.
	ripe bool
}

func newUpdater(s store.Store, t *topology.Tracker, emptyReady time.Duration, log *slog.Logger) *updater {
	return &updater{
		store: s, tracker: t, log: log, wake: make(chan struct{}, 1), emptyReady: emptyReady,
		dirty: map[resource.Key]bool{}, empty: map[resource.Key]*emptiness{}, specs: map[string]*resource.Mesh{},
		labels: map[resource.Key]map[string]string{},
	}
}

func (u *updater) run(ctx context.Context) error {
	defer u.close()
	defer u.tracker.Subscribe(u.note)()
	u.noteAll(u.tracker.Current())
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-u.wake:
		case <-retry.C:
		}
		keys := u.take()
		err := u.write(ctx, keys)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, store.ErrClosed):
			return fmt.Errorf("update services: %w", err)
		case err != nil:
			u.log.Error("could not write the status of services", "services", len(keys), "retry", retryAfter, "error", err)
			u.again(keys)
			retry.Reset(retryAfter)
		}
	}
}

// close ends what would act after run.
func (u *updater) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for key := range u.empty {
		u.settled(key)
	}
}

// note hears of a change from the tracker's goroutine, so that no service that had a proxy for a moment goes unnoticed.
func (u *updater) note(c topology.Change) {
	u.mu.Lock()
	for key := range c.Services {
		u.look(c.World, key)
	}
	for mesh := range c.All {
		u.lookMesh(c.World, mesh)
	}
	u.mu.Unlock()
	u.signal()
}

// noteAll looks at everything once, in case the tracker was there first.
func (u *updater) noteAll(w *topology.World) {
	u.mu.Lock()
	for mesh := range w.Meshes {
		u.lookMesh(w, mesh)
	}
	u.mu.Unlock()
}

func (u *updater) signal() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

func (u *updater) lookMesh(w *topology.World, mesh string) {
	m := w.Meshes[mesh]
	if m == nil {
		delete(u.specs, mesh)
		return
	}
	if u.specs[mesh] == m.Spec {
		return
	}
	u.specs[mesh] = m.Spec
	for _, s := range slices.Concat(m.Services, m.MultiZone) {
		u.look(w, s.Key)
	}
}

func (u *updater) look(w *topology.World, key resource.Key) {
	s := find(w, key)
	if key.Kind == resource.KindMeshMultiZoneService {
		if s != nil {
			u.dirty[key] = true
		} else {
			delete(u.dirty, key)
		}
		return
	}
	u.lookMultiZone(w, key)
	if s == nil || !local(s.Resource) {
		delete(u.dirty, key)
		u.settled(key)
		return
	}
	u.dirty[key] = true
	switch e := u.empty[key]; {
	case len(s.Dataplanes) > 0:
		u.settled(key)
	case e == nil || !e.created.Equal(s.CreationTime):
		u.settled(key)
		u.empty[key] = u.wait(key, s.CreationTime)
	}
}

// wait has a service that is without proxies looked at when that has lasted.
func (u *updater) wait(key resource.Key, created time.Time) *emptiness {
	e := &emptiness{created: created}
	e.timer = time.AfterFunc(u.emptyReady, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.empty[key] == e { // else it was stopped too late
			e.ripe, u.dirty[key] = true, true
			u.signal()
		}
	})
	return e
}

// settled ends the time of a service without proxies, if there is one.
func (u *updater) settled(key resource.Key) {
	if e := u.empty[key]; e != nil {
		e.timer.Stop()
		delete(u.empty, key)
	}
}

func find(w *topology.World, key resource.Key) *topology.Service {
	if m := w.Meshes[key.Mesh]; m != nil {
		return m.Destination(key)
	}
	return nil
}

// take returns the services to look at now.
func (u *updater) take() []resource.Key {
	u.mu.Lock()
	defer u.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(u.dirty), compareKeys)
	clear(u.dirty)
	return keys
}

func (u *updater) again(keys []resource.Key) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, k := range keys {
		u.dirty[k] = true
	}
}

func (u *updater) isEmpty(key resource.Key) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	e := u.empty[key]
	return e != nil && e.ripe
}

func (u *updater) write(ctx context.Context, keys []resource.Key) error {
	world := u.tracker.Current()
	return writeback.Commit(ctx, u.store, keys, func(key resource.Key, r *resource.Resource) store.Op {
		s := find(world, key)
		// A newer version is on its way to the tracker, and then here again.
		if r == nil || s == nil || s.Version != r.Version {
			return store.Op{}
		}
		if key.Kind == resource.KindMeshMultiZoneService {
			if next := applyMatched(r, matched(world, s)); next != nil {
				return store.Op{Action: store.Update, Resource: next}
			}
			return store.Op{}
		}
		next := derive(world.Meshes[key.Mesh], s, u.isEmpty(key)).apply(r)
		if next == nil {
			return store.Op{}
		}
		return store.Op{Action: store.Update, Resource: next}
	})
}
