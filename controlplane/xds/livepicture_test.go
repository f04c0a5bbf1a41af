package xds

import (
	"context"
	"strconv"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// harness is what a *testing.T, a *testing.B and a *rapid.T have in common.
type harness interface {
	Helper()
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Context() context.Context
	Cleanup(f func())
}

// livePicture is a topology that follows a store, so that pictures share what did not change.
type livePicture struct {
	t        harness
	registry *resource.Registry
	store    store.Store
	tracker  *topology.Tracker
	changes  chan topology.Change
	stored   map[*resource.Resource]bool
	marks    int
}

func follow(t harness, zone string) *livePicture {
	t.Helper()
	l := &livePicture{
		t: t, registry: resource.NewRegistry(all.Descriptors()...), changes: make(chan topology.Change, 100), stored: map[*resource.Resource]bool{},
	}
	l.store = memory.Open(l.registry)
	l.tracker = topology.New(topology.Config{Store: l.store, Zone: zone})
	l.tracker.Subscribe(func(c topology.Change) { l.changes <- c })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.tracker.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		l.store.Close()
	})
	return l
}

// take stores what is not stored yet and waits for the picture of it.
func (l *livePicture) take(resources []*resource.Resource) (w *topology.World) {
	l.t.Helper()
	var ops []store.Op
	for _, r := range resources {
		if !l.stored[r] {
			ops = append(ops, store.Op{Action: store.Upsert, Resource: r})
			l.stored[r] = true
		}
	}
	l.commit(func(c topology.Change) { w = c.World }, ops...)
	return w
}

// commit stores changes and hands on what they mean until all of it is seen.
func (l *livePicture) commit(each func(topology.Change), ops ...store.Op) {
	l.t.Helper()
	l.marks++ // a deletion leaves nothing whose version could be waited for
	mark := &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: resource.KindConfig, Name: "mark"}}, Spec: &resource.Config{Config: strconv.Itoa(l.marks)},
	}
	out, err := l.store.Commit(l.t.Context(), append(ops, store.Op{Action: store.Upsert, Resource: mark})...)
	if err != nil {
		l.t.Fatal(err)
	}
	for c := range l.changes {
		each(c)
		if c.World.Revision >= out[len(out)-1].Version {
			return
		}
	}
}

// decode reads a document as a request would bring it.
func (l *livePicture) decode(document string) *resource.Resource {
	l.t.Helper()
	r, err := l.registry.DecodeYAML([]byte(document))
	if err != nil {
		l.t.Fatal(err)
	}
	resource.ComputeLabels(r, resource.ZoneInfo{Zone: "zone-1"})
	return r
}
