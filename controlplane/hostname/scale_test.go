package hostname

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/bolt"
	"github.com/kuma-dp/kuma-dp/resource"
)

// TestManyServices: ten thousand services, written while addresses are given away, have an address each that is nobody
// else's, and have it after a restart from the file.
func TestManyServices(t *testing.T) {
	const count, batch = 10_000, 500
	file := filepath.Join(t.TempDir(), "db")
	open := func() *bolt.Store {
		s, err := bolt.Open(file, resource.NewRegistry(resource.Core()...))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	mesh := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMesh, Name: "m"}}, Spec: &resource.Mesh{}}
	ops := []store.Op{{Action: store.Create, Resource: mesh}}
	for _, r := range universal() {
		ops = append(ops, store.Op{Action: store.Create, Resource: r})
	}
	stop := start(t, s, DefaultCIDR, "fd00:241::/64")
	for i := range count {
		ops = append(ops, store.Op{Action: store.Create, Resource: service(fmt.Sprint("s", i), 0)})
		if len(ops) >= batch || i == count-1 {
			if _, err := s.Commit(t.Context(), ops...); err != nil {
				t.Fatal(err)
			}
			ops = nil
		}
	}
	had := map[string]*resource.Resource{}
	owner := map[string]string{}
	for i := count - 1; i >= 0; i-- { // the last one is the one to wait for
		name := fmt.Sprint("s", i)
		r, err := s.Get(service(name, 0).Key)
		if err != nil {
			t.Fatal(err)
		}
		st, _ := r.Status.(*resource.MeshServiceStatus)
		if st == nil || !hasAll(st) {
			st = await(t, s, r.Key, hasAll)
		}
		if len(st.VIPs) != 2 || len(st.Addresses) != 1 || st.Addresses[0].Hostname != name+".svc.mesh.local" {
			t.Fatalf("%s has %v and %v", name, st.VIPs, st.Addresses)
		}
		for _, v := range st.VIPs {
			if other := owner[v.IP]; other != "" {
				t.Fatalf("%s and %s share %s", other, name, v.IP)
			}
			owner[v.IP] = name
		}
		if had[name], err = s.Get(r.Key); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open()
	defer s.Close()
	stop = start(t, s, DefaultCIDR, "fd00:241::/64")
	defer stop()
	commit(t, s, store.Create, service("new", 0))
	for _, v := range await(t, s, service("new", 0).Key, hasAll).VIPs {
		if other := owner[v.IP]; other != "" {
			t.Errorf("after the restart a new service has %s of %s", v.IP, other)
		}
	}
	for name, before := range had {
		if now, err := s.Get(before.Key); err != nil || now.Version != before.Version {
			t.Fatalf("%s was written again: %v", name, err)
		}
	}
}
