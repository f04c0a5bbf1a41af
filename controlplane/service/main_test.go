package service

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/controlplane/hostname"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/internal/group"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func registry() *resource.Registry { return resource.NewRegistry(resource.Core()...) }

// world is a store with all that derives from it, as a control plane runs it.
type world struct {
	testing.TB
	store.Store
	emptyReady time.Duration // 0 for the default
	stop       func()
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, Store: memory.Open(registry()), stop: func() {}}
	for _, r := range hostname.Defaults(hostname.ModeZone, resource.EnvUniversal) {
		w.put(r)
	}
	return w
}

// start runs the derivations until stop.
func (w *world) start() {
	w.Helper()
	tracker := topology.New(topology.Config{Store: w, Zone: "zone-a"})
	names, err := hostname.New(hostname.Config{Store: w, Zone: "zone-a"})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() {
		done <- group.Run(ctx,
			group.Member{Name: "topology", Run: tracker.Run},
			group.Member{Name: "service", Run: New(Config{Store: w, Tracker: tracker, EmptyReady: w.emptyReady}).Run},
			group.Member{Name: "hostname", Run: names.Run},
		)
	}()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("run: %v", err)
		}
	})
}

func (w *world) put(r *resource.Resource) {
	w.Helper()
	if _, err := w.Commit(w.Context(), store.Op{Action: store.Upsert, Resource: r}); err != nil {
		w.Fatal(err)
	}
}

// yaml puts documents as a user of a control plane in zone-a does.
func (w *world) yaml(text string) {
	w.Helper()
	for _, doc := range resource.SplitYAML([]byte(text)) {
		r, err := registry().DecodeYAML(doc)
		if err != nil {
			w.Fatalf("decode %s: %v", doc, err)
		}
		if r.Kind != resource.KindDataplaneInsight {
			resource.ComputeLabels(r, resource.ZoneInfo{Zone: "zone-a"})
		}
		w.put(r)
	}
}

func (w *world) remove(kind resource.Kind, mesh, name string) {
	w.Helper()
	r := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: kind, Mesh: mesh, Name: name}}}
	if _, err := w.Commit(w.Context(), store.Op{Action: store.Delete, Resource: r}); err != nil {
		w.Fatal(err)
	}
}

// service returns nil when there is none of the name in mesh m.
func (w *world) service(name string) *resource.Resource {
	w.Helper()
	r, err := w.Get(serviceKey("m", name))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		w.Fatal(err)
	}
	return r
}

func status(r *resource.Resource) *resource.MeshServiceStatus {
	if st, _ := r.Status.(*resource.MeshServiceStatus); st != nil {
		return st
	}
	return &resource.MeshServiceStatus{}
}
