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

	mu sync.Mutex
	// dirty are the services to look at.
	dirty map[resource.Key]bool
	// empty are the services without proxies.
	empty map[resource.Key]since
	// specs are the meshes as they were looked at: their mTLS decides over the status of every service.
	specs map[string]*resource.Mesh
	// labels of the MeshServices as they were looked at, which decide over the status of MeshMultiZoneServices.
	labels map[resource.Key]map[string]string
}

// since says when a service was first seen without proxies, and which one of its name.
type since struct {
	created, seen time.Time
	// ripe: that was emptyReady ago, and the service was looked at for that reason.
	ripe bool
}

func newUpdater(s store.Store, t *topology.Tracker, log *slog.Logger) *updater {
	return &updater{
		store: s, tracker: t, log: log, wake: make(chan struct{}, 1),
		dirty: map[resource.Key]bool{}, empty: map[resource.Key]since{}, specs: map[string]*resource.Mesh{},
		labels: map[resource.Key]map[string]string{},
	}
}

func (u *updater) run(ctx context.Context) error {
	defer u.tracker.Subscribe(u.note)()
	u.noteAll(u.tracker.Current())
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-u.wake:
		case <-timer.C:
		}
		keys, next := u.take(time.Now())
		err := u.write(ctx, keys)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, store.ErrClosed):
			return fmt.Errorf("update services: %w", err)
		case err != nil:
			u.log.Error("could not write the status of services", "services", len(keys), "retry", retryAfter, "error", err)
			u.again(keys)
			next = retryAfter
		}
		timer.Stop()
		if next > 0 {
			timer.Reset(next)
		}
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
		delete(u.empty, key)
		return
	}
	u.dirty[key] = true
	switch was, known := u.empty[key]; {
	case len(s.Dataplanes) > 0:
		delete(u.empty, key)
	case !known || !was.created.Equal(s.CreationTime):
		u.empty[key] = since{created: s.CreationTime, seen: time.Now()}
	}
}

func find(w *topology.World, key resource.Key) *topology.Service {
	if m := w.Meshes[key.Mesh]; m != nil {
		return m.Destination(key)
	}
	return nil
}

// take returns the services to look at now, and after how long there will be more (0: not by themselves).
func (u *updater) take(now time.Time) (keys []resource.Key, next time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for key, e := range u.empty {
		switch left := emptyReady - now.Sub(e.seen); {
		case e.ripe:
		case left <= 0:
			e.ripe = true
			u.empty[key], u.dirty[key] = e, true
		case next == 0 || left < next:
			next = left
		}
	}
	keys = slices.SortedFunc(maps.Keys(u.dirty), compareKeys)
	clear(u.dirty)
	return keys, next
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
	return u.empty[key].ripe
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
