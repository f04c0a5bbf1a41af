package identity

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// TestIssueForEgress: an egress has an identity in each mesh, kept until it must be renewed or the egress is gone.
func TestIssueForEgress(t *testing.T) {
	egress := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindZoneEgress, Name: "out"}}, Spec: &resource.ZoneEgress{}}
	f := start(t, mesh("default", nil), mesh("other", nil), egress)
	f.awaitAuthority("default", "ca-1")
	f.awaitAuthority("other", "ca-1")
	issue := func(mesh string) *Identity {
		t.Helper()
		id, err := f.IssueForEgress(mesh, "out")
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first := issue("default")
	if got := names(f.verify(first)); !slices.Equal(got, []string{"spiffe://default/zone-egress", "kuma://kuma.io/service/zone-egress"}) {
		t.Errorf("names %v", got)
	}
	if got := names(f.verify(issue("other"))); got[0] != "spiffe://other/zone-egress" {
		t.Errorf("names %v", got)
	}
	if issue("default") != first {
		t.Error("a second one was made")
	}
	f.clock.Advance(20 * time.Hour)
	second := issue("default")
	if second == first {
		t.Error("it was not renewed")
	}
	if _, err := f.store.Commit(t.Context(), store.Op{Action: store.Delete, Resource: egress}); err != nil {
		t.Fatal(err)
	}
	f.put(mesh("last", nil))
	f.awaitAuthority("last", "ca-1") // so the deletion has been seen
	if issue("default") == second {
		t.Error("the key of an egress that is gone was kept")
	}
	f.put(&resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMesh, Name: "plain"}}, Spec: &resource.Mesh{}})
	if _, err := f.IssueForEgress("plain", "out"); !errors.Is(err, ErrDisabled) {
		t.Errorf("without mTLS: %v", err)
	}
}
