package storetest

import (
	"slices"
	"testing"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

func owned(r *resource.Resource, owner resource.Key) store.Op {
	return store.Op{Action: store.Create, Resource: r, Owner: owner}
}

func testOwnerCascade(t *testing.T, s store.Store) {
	dp := Dataplane("m", "a")
	commit(t, s, Create(Mesh("m")), Create(dp), owned(Insight("m", "a", "1"), dp.Key),
		owned(Secret("m", "deep", ""), Insight("m", "a", "").Key), Create(Secret("m", "free", "")))
	// An update keeps the owner.
	commit(t, s, store.Op{Action: store.Upsert, Resource: Insight("m", "a", "2")})
	_, w := s.Watch()
	defer w.Close()
	commit(t, s, del(dp.Key))
	events := next(t, w, 3)
	var kinds []resource.Kind
	for _, ev := range events {
		if ev.Action != store.Delete || ev.Revision != events[0].Revision {
			t.Errorf("got %s", show(events))
		}
		kinds = append(kinds, ev.Old.Kind)
	}
	if want := []resource.Kind{resource.KindSecret, resource.KindDataplaneInsight, resource.KindDataplane}; !slices.Equal(kinds, want) {
		t.Errorf("got %v, want %v", kinds, want)
	}
	missing(t, s, dp.Key, Insight("m", "a", "").Key, Secret("m", "deep", "").Key)
	if got := data(t, s, Secret("m", "free", "").Key); got != "" {
		t.Errorf("got %q", got)
	}
	// A resource of the same name made anew has no owner.
	commit(t, s, Create(dp), Create(Insight("m", "a", "3")))
	commit(t, s, del(dp.Key))
	if _, err := s.Get(Insight("m", "a", "").Key); err != nil {
		t.Errorf("got %v", err)
	}
}

func testMeshCascade(t *testing.T, s store.Store) {
	commit(t, s, Create(Mesh("m")), Create(Mesh("mm")), Create(Dataplane("m", "a")),
		owned(Insight("m", "a", ""), Dataplane("m", "a").Key), Create(Secret("m", "s", "")), Create(Secret("mm", "s", "")),
		owned(Secret("mm", "foreign", ""), Mesh("m").Key))
	_, w := s.Watch()
	defer w.Close()
	commit(t, s, del(Mesh("m").Key))
	events := next(t, w, 5)
	if last := events[4]; last.Old == nil || last.Old.Key != Mesh("m").Key {
		t.Errorf("the mesh is not last: %s", show(events))
	}
	missing(t, s, Mesh("m").Key, Dataplane("m", "a").Key, Insight("m", "a", "").Key, Secret("m", "s", "").Key, Secret("mm", "foreign", "").Key)
	if got := data(t, s, Secret("mm", "s", "").Key); got != "" {
		t.Errorf("got %q", got)
	}
	// Delete and create again in one commit.
	commit(t, s, del(Mesh("mm").Key), Create(Mesh("mm")), Create(Secret("mm", "new", "1")))
	missing(t, s, Secret("mm", "s", "").Key)
	if got := data(t, s, Secret("mm", "new", "").Key); got != "1" {
		t.Errorf("got %q", got)
	}
}
