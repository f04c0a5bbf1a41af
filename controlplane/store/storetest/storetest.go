// Package storetest is the suite that every store passes.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Registry returns the kinds that the suite uses.
func Registry() *resource.Registry { return resource.NewRegistry(resource.Core()...) }

// Run tests the stores that open returns. Each call of open returns an empty store of Registry, which the suite closes.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s store.Store)
	}{
		{"Create", testCreate},
		{"Update", testUpdate},
		{"Upsert", testUpsert},
		{"NoChange", testNoChange},
		{"Delete", testDelete},
		{"CompareAndSet", testCompareAndSet},
		{"Refused", testRefused},
		{"List", testList},
		{"AllOrNothing", testAllOrNothing},
		{"OwnerCascade", testOwnerCascade},
		{"MeshCascade", testMeshCascade},
		{"Watch", testWatch},
		{"WatchEnds", testWatchEnds},
		{"WatchConcurrent", testWatchConcurrent},
		{"Model", testModel},
		{"Closed", testClosed},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t)
			defer func() {
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			}()
			test.run(t, s)
		})
	}
}

// Mesh returns a Mesh.
func Mesh(name string) *resource.Resource {
	return &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMesh, Name: name}}, Spec: &resource.Mesh{}}
}

// Secret returns a Secret of a mesh.
func Secret(mesh, name, data string) *resource.Resource {
	return &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: resource.KindSecret, Mesh: mesh, Name: name}},
		Spec: &resource.Secret{Data: []byte(data)},
	}
}

// Insight returns a DataplaneInsight, which is a volatile kind.
func Insight(mesh, name, id string) *resource.Resource {
	return &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: resource.KindDataplaneInsight, Mesh: mesh, Name: name}},
		Spec: &resource.DataplaneInsight{Subscriptions: []*resource.Subscription{{ID: id}}},
	}
}

// Dataplane returns a Dataplane.
func Dataplane(mesh, name string) *resource.Resource {
	return &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: resource.KindDataplane, Mesh: mesh, Name: name}},
		Spec: &resource.Dataplane{Networking: &resource.Networking{Address: "192.0.2.1"}},
	}
}

// Create is the operation that creates r.
func Create(r *resource.Resource) store.Op { return store.Op{Action: store.Create, Resource: r} }

func del(k resource.Key) store.Op {
	return store.Op{Action: store.Delete, Resource: &resource.Resource{Meta: resource.Meta{Key: k}}}
}

func commit(t *testing.T, s store.Store, ops ...store.Op) []*resource.Resource {
	t.Helper()
	out, err := s.Commit(t.Context(), ops...)
	if err != nil {
		t.Fatalf("commit: %v", err)
	}
	return out
}

func refuse(t *testing.T, s store.Store, want error, ops ...store.Op) {
	t.Helper()
	if _, err := s.Commit(t.Context(), ops...); !errors.Is(err, want) {
		t.Fatalf("commit: got error %v, want %v", err, want)
	}
}

func data(t *testing.T, s store.Store, k resource.Key) string {
	t.Helper()
	r, err := s.Get(k)
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	return string(resource.SpecOf[*resource.Secret](r).Data)
}

func missing(t *testing.T, s store.Store, keys ...resource.Key) {
	t.Helper()
	for _, k := range keys {
		if r, err := s.Get(k); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("get %s: got %v, %v, want ErrNotFound", k, r, err)
		}
	}
}

// next returns the n events that follow.
func next(t *testing.T, w store.Watcher, n int) []store.Event {
	t.Helper()
	var out []store.Event
	for len(out) < n {
		events, err := w.Next(t.Context())
		if err != nil {
			t.Fatalf("next: %v", err)
		}
		out = append(out, events...)
	}
	if len(out) > n {
		t.Fatalf("got %d events, want %d: %s", len(out), n, show(out))
	}
	return out
}

// quiet checks that there is no event before marker is committed.
func quiet(t *testing.T, s store.Store, w store.Watcher, marker string) {
	t.Helper()
	commit(t, s, Create(Mesh(marker)))
	if ev := next(t, w, 1)[0]; ev.New == nil || ev.New.Name != marker {
		t.Fatalf("unexpected event: %s", show([]store.Event{ev}))
	}
}

func show(events []store.Event) []string {
	var out []string
	for _, ev := range events {
		r := ev.New
		if r == nil {
			r = ev.Old
		}
		out = append(out, fmt.Sprintf("%d %s %s", ev.Revision, ev.Action, r.Key))
	}
	return out
}

func testCreate(t *testing.T, s store.Store) {
	m := Mesh("m")
	out := commit(t, s, Create(m), Create(Secret("m", "a", "1")))
	for i, r := range out {
		if r.Version == 0 || r.CreationTime.IsZero() || !r.CreationTime.Equal(r.ModificationTime) {
			t.Errorf("resource %d: version %d, created %v, modified %v", i, r.Version, r.CreationTime, r.ModificationTime)
		}
	}
	if m.Version != 0 {
		t.Error("the caller's resource was changed")
	}
	got, err := s.Get(out[1].Key)
	if err != nil || got != out[1] {
		t.Errorf("get: got %v, %v, want what commit returned", got, err)
	}
	refuse(t, s, store.ErrExists, Create(Secret("m", "a", "2")))
	refuse(t, s, store.ErrNoMesh, Create(Secret("nope", "a", "1")))
	if got := data(t, s, out[1].Key); got != "1" {
		t.Errorf("after a refused create: got %q", got)
	}
	// The order within a commit is free.
	commit(t, s, Create(Secret("n", "a", "1")), Create(Mesh("n")))
}

func testUpdate(t *testing.T, s store.Store) {
	first := commit(t, s, Create(Mesh("m")), Create(Secret("m", "a", "1")))[1]
	second := commit(t, s, store.Op{Action: store.Update, Resource: Secret("m", "a", "2")})[0]
	if second.Version <= first.Version || !second.CreationTime.Equal(first.CreationTime) || second.ModificationTime.Before(first.ModificationTime) {
		t.Errorf("got version %d after %d, created %v and %v", second.Version, first.Version, second.CreationTime, first.CreationTime)
	}
	if got := data(t, s, first.Key); got != "2" {
		t.Errorf("got %q", got)
	}
	if got := resource.SpecOf[*resource.Secret](first).Data; string(got) != "1" {
		t.Errorf("a resource that was read before changed to %q", got)
	}
	refuse(t, s, store.ErrNotFound, store.Op{Action: store.Update, Resource: Secret("m", "b", "")})
}

func testUpsert(t *testing.T, s store.Store) {
	commit(t, s, Create(Mesh("m")))
	_, w := s.Watch()
	defer w.Close()
	for _, v := range []string{"1", "2"} {
		commit(t, s, store.Op{Action: store.Upsert, Resource: Secret("m", "a", v)})
	}
	events := next(t, w, 2)
	if events[0].Action != store.Create || events[0].Old != nil || events[1].Action != store.Update || events[1].Old != events[0].New {
		t.Errorf("got %s", show(events))
	}
}

func testNoChange(t *testing.T, s store.Store) {
	commit(t, s, Create(Mesh("m")))
	r := Secret("m", "a", "1")
	r.Labels = map[string]string{"x": "1"}
	first := commit(t, s, Create(r))[0]
	_, w := s.Watch()
	defer w.Close()
	same := Secret("m", "a", "1")
	same.Labels = map[string]string{"x": "1"}
	for _, action := range []store.Action{store.Update, store.Upsert} {
		if got := commit(t, s, store.Op{Action: action, Resource: same})[0]; got != first {
			t.Errorf("%s without a change: got version %d, want %d", action, got.Version, first.Version)
		}
	}
	quiet(t, s, w, "quiet-1")
	labels := Secret("m", "a", "1")
	labels.Labels = map[string]string{"x": "2"}
	commit(t, s, store.Op{Action: store.Update, Resource: labels})
	if got := next(t, w, 1); got[0].New.Labels["x"] != "2" {
		t.Errorf("got %s", show(got))
	}
}

func testDelete(t *testing.T, s store.Store) {
	key := commit(t, s, Create(Mesh("m")), Create(Secret("m", "a", "1")))[1].Key
	if out := commit(t, s, del(key)); out[0] != nil {
		t.Errorf("delete: got %v, want nil", out[0])
	}
	missing(t, s, key)
	refuse(t, s, store.ErrNotFound, del(key))
	commit(t, s, Create(Secret("m", "a", "again")))
}

func testCompareAndSet(t *testing.T, s store.Store) {
	old := commit(t, s, Create(Mesh("m")), Create(Secret("m", "a", "1")))[1]
	set := func(v string, version uint64) store.Op {
		return store.Op{Action: store.Update, Resource: Secret("m", "a", v), ExpectVersion: version}
	}
	commit(t, s, set("2", old.Version))
	refuse(t, s, store.ErrConflict, set("3", old.Version))
	gone := del(old.Key)
	gone.ExpectVersion = old.Version
	refuse(t, s, store.ErrConflict, gone)
	refuse(t, s, store.ErrConflict, store.Op{Action: store.Upsert, Resource: Secret("m", "new", ""), ExpectVersion: 1})
	if got := data(t, s, old.Key); got != "2" {
		t.Errorf("got %q", got)
	}
}

func testRefused(t *testing.T, s store.Store) {
	commit(t, s, Create(Mesh("m")))
	global := Mesh("x")
	global.Mesh = "m"
	unknown := Mesh("x")
	unknown.Kind = "Nothing"
	bare := Mesh("x")
	bare.Spec = nil
	for name, op := range map[string]store.Op{
		"no resource":     {Action: store.Create},
		"no action":       {Resource: Mesh("x")},
		"no name":         Create(Mesh("")),
		"no mesh":         Create(Secret("", "a", "")),
		"mesh of global":  Create(global),
		"unknown kind":    Create(unknown),
		"no spec":         Create(bare),
		"NUL in name":     Create(Mesh("a\x00b")),
		"owner not there": {Action: store.Create, Resource: Secret("m", "a", ""), Owner: Mesh("nope").Key},
	} {
		if _, err := s.Commit(t.Context(), op); err == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Commit(ctx, Create(Mesh("x"))); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: got %v", err)
	}
	missing(t, s, Mesh("x").Key)
}

func testList(t *testing.T, s store.Store) {
	commit(t, s, Create(Mesh("b")), Create(Mesh("a")), Create(Mesh("a-b")))
	for _, k := range []string{"b/1", "a/2", "a-b/1", "a/1", "a/10"} {
		mesh, name, _ := cut(k)
		commit(t, s, Create(Secret(mesh, name, "")))
	}
	for mesh, want := range map[string][]string{
		"":     {"a/1", "a/10", "a/2", "a-b/1", "b/1"},
		"a":    {"a/1", "a/10", "a/2"},
		"a-b":  {"a-b/1"},
		"nope": nil,
	} {
		var got []string
		for _, r := range s.List(resource.KindSecret, mesh) {
			got = append(got, r.Mesh+"/"+r.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("list %q: got %v, want %v", mesh, got, want)
		}
	}
	// A list is a picture: later writes do not show, and appending to it hurts nobody.
	before := s.List(resource.KindSecret, "a")
	_ = append(before, Secret("x", "x", ""))
	commit(t, s, del(before[0].Key))
	if len(before) != 3 || before[0].Name != "1" || len(s.List(resource.KindSecret, "a-b")) != 1 {
		t.Error("a list changed after it was returned")
	}
}

func cut(s string) (mesh, name string, ok bool) {
	i := slices.Index([]byte(s), '/')
	return s[:i], s[i+1:], i > 0
}

func testAllOrNothing(t *testing.T, s store.Store) {
	commit(t, s, Create(Mesh("m")), Create(Secret("m", "a", "1")), Create(Secret("m", "b", "1")))
	_, w := s.Watch()
	defer w.Close()
	refuse(t, s, store.ErrExists,
		Create(Secret("m", "new", "")),
		store.Op{Action: store.Update, Resource: Secret("m", "a", "2")},
		store.Op{Action: store.Create, Resource: Secret("m", "owned", ""), Owner: Secret("m", "a", "").Key},
		del(Secret("m", "b", "").Key),
		del(Mesh("m").Key),
		Create(Mesh("m")), Create(Mesh("m")))
	if got := data(t, s, Secret("m", "a", "").Key); got != "1" {
		t.Errorf("got %q", got)
	}
	if got := data(t, s, Secret("m", "b", "").Key); got != "1" {
		t.Errorf("got %q", got)
	}
	missing(t, s, Secret("m", "new", "").Key, Secret("m", "owned", "").Key)
	quiet(t, s, w, "quiet")
	// The owner that was noted for "owned" is forgotten too.
	commit(t, s, Create(Secret("m", "owned", "")))
	commit(t, s, del(Secret("m", "a", "").Key))
	if got := data(t, s, Secret("m", "owned", "").Key); got != "" {
		t.Errorf("got %q", got)
	}
}
