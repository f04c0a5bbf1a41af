// Package insight sums up meshes and services for people: MeshInsights and ServiceInsights (contract controlplane.md §1.7).
// They follow the store, are gathered and never polled, and are made again after a restart.
package insight

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/service/writeback"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

const (
	// gather is how long a first change waits for others.
	gather = 50 * time.Millisecond
	// DefaultInterval is the least time between two sums (KUMA_METRICS_MESH_MIN_RESYNC_INTERVAL).
	DefaultInterval = time.Second
)

// Config is what New needs; Store and Registry are required.
type Config struct {
	Store    store.Store
	Registry *resource.Registry
	// Domain and Port make the older address of a service; "mesh" and 80 when empty.
	Domain string
	Port   uint32
	// Interval is the least time between two sums; DefaultInterval when 0.
	Interval time.Duration
	// Log is silent when nil.
	Log *slog.Logger
}

// Writer keeps the insights.
type Writer struct {
	cfg   Config
	log   *slog.Logger
	dirty map[string]bool // meshes
	due   time.Time       // when they are summed up; zero when none is dirty
	last  time.Time
}

// New makes a Writer.
func New(cfg Config) *Writer {
	cfg.Domain, cfg.Port = cmp.Or(cfg.Domain, "mesh"), cmp.Or(cfg.Port, 80)
	cfg.Interval = cmp.Or(cfg.Interval, DefaultInterval)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Writer{cfg: cfg, log: cfg.Log.With("component", "insights"), dirty: map[string]bool{}}
}

// ServicesName is the name of the one stored ServiceInsight of a mesh.
func ServicesName(mesh string) string { return "all-services-" + mesh }

// Run writes insights until ctx ends (nil) or the store is closed (store.ErrClosed). It may be called once, and only one
// may run on a store.
func (w *Writer) Run(ctx context.Context) error {
	all, events := w.cfg.Store.Watch()
	defer events.Close()
	for _, r := range all {
		if r.Kind == resource.KindMesh {
			w.mark(r.Name)
		}
	}
	for {
		list, err := w.next(ctx, events)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, context.DeadlineExceeded): // it is due
		case err != nil:
			return fmt.Errorf("follow the store for insights: %w", err)
		}
		for _, e := range list {
			w.note(e)
		}
		if w.due.IsZero() || time.Now().Before(w.due) {
			continue
		}
		if err := w.write(ctx); errors.Is(err, store.ErrClosed) {
			return err
		} else if err != nil && ctx.Err() == nil {
			// The meshes stay dirty, and are due again after the interval.
			w.log.Error("could not write insights", "meshes", len(w.dirty), "retry", w.cfg.Interval, "error", err)
		}
	}
}

// next waits for events, but not longer than until something is due.
func (w *Writer) next(ctx context.Context, events store.Watcher) ([]store.Event, error) {
	if !w.due.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, w.due)
		defer cancel()
	}
	return events.Next(ctx)
}

func (w *Writer) mark(mesh string) {
	w.dirty[mesh] = true
	if w.due.IsZero() {
		w.due = time.Now().Add(gather)
		if soonest := w.last.Add(w.cfg.Interval); soonest.After(w.due) {
			w.due = soonest
		}
	}
}

// note marks the mesh of an event when it changes a sum.
func (w *Writer) note(e store.Event) {
	r := e.New
	if r == nil {
		r = e.Old
	}
	switch {
	case r.Kind == resource.KindMesh && e.Action == store.Create:
		w.mark(r.Name)
	case r.Mesh == "" || r.Kind == resource.KindServiceInsight:
	case e.Action != store.Update, r.Kind == resource.KindDataplane, r.Kind == resource.KindExternalService:
		w.mark(r.Mesh)
	case r.Kind == resource.KindDataplaneInsight && facts(e.Old) != facts(e.New):
		w.mark(r.Mesh)
	}
}

// facts is the part of a DataplaneInsight that sums depend on: most updates change counters only.
func facts(r *resource.Resource) string {
	seen, ok := r.Spec.(*resource.DataplaneInsight)
	if !ok {
		return ""
	}
	agent, envoy := versions(seen)
	issued, supported := "", []string(nil)
	if seen.MTLS != nil {
		issued, supported = seen.MTLS.IssuedBackend, seen.MTLS.SupportedBackends
	}
	return fmt.Sprintf("%t %q %q %q %q", seen.Online(), agent, envoy, issued, supported)
}

// write sums up the dirty meshes.
func (w *Writer) write(ctx context.Context) error {
	var keys []resource.Key
	for _, mesh := range slices.Sorted(maps.Keys(w.dirty)) {
		keys = append(keys,
			resource.Key{Kind: resource.KindMeshInsight, Name: mesh},
			resource.Key{Kind: resource.KindServiceInsight, Mesh: mesh, Name: ServicesName(mesh)})
	}
	w.last = time.Now()
	w.due = w.last.Add(w.cfg.Interval)
	if err := writeback.Commit(ctx, w.cfg.Store, keys, w.decide); err != nil {
		return err
	}
	clear(w.dirty)
	w.due = time.Time{}
	return nil
}

func (w *Writer) decide(key resource.Key, stored *resource.Resource) store.Op {
	mesh := resource.Key{Kind: resource.KindMesh, Name: key.Mesh}
	if key.Kind == resource.KindMeshInsight {
		mesh.Name = key.Name
	}
	if _, err := w.cfg.Store.Get(mesh); err != nil {
		return store.Op{} // it is gone, and its insights with it
	}
	next := &resource.Resource{Meta: resource.Meta{Key: key}}
	if key.Kind == resource.KindMeshInsight {
		next.Spec = OfMesh(w.cfg.Store, w.cfg.Registry, mesh.Name)
	} else {
		next.Spec = &resource.ServiceInsight{Services: w.services(mesh.Name)}
	}
	if stored != nil {
		return store.Op{Action: store.Update, Resource: next}
	}
	return store.Op{Action: store.Create, Resource: next, Owner: mesh}
}

// services are the sums with the addresses of services.
func (w *Writer) services(mesh string) map[string]resource.ServiceSummary {
	out := Services(w.cfg.Store, mesh)
	for name, s := range out {
		s.AddressPort = fmt.Sprintf("%s.%s:%d", name, w.cfg.Domain, w.cfg.Port)
		out[name] = s
	}
	return out
}
