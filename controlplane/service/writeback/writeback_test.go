package writeback

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/resource"
)

func service(name string) *resource.Resource {
	return &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMeshService, Mesh: "m", Name: name}}, Spec: &resource.MeshService{}}
}

func open(t *testing.T, names ...string) (store.Store, []resource.Key) {
	t.Helper()
	s := memory.Open(resource.NewRegistry(resource.Core()...))
	t.Cleanup(func() { _ = s.Close() })
	ops := []store.Op{{Action: store.Create, Resource: &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMesh, Name: "m"}}, Spec: &resource.Mesh{}}}}
	var keys []resource.Key
	for _, n := range names {
		ops = append(ops, store.Op{Action: store.Create, Resource: service(n)})
		keys = append(keys, service(n).Key)
	}
	if _, err := s.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	return s, keys
}

// add returns r with one more in its label.
func add(r *resource.Resource, label string) *resource.Resource {
	c := r.Clone()
	n, _ := strconv.Atoi(c.Labels[label])
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	c.Labels[label] = strconv.Itoa(n + 1)
	return c
}

func TestNothingIsLost(t *testing.T) {
	s, keys := open(t, "a", "b", "c")
	var wg sync.WaitGroup
	for _, label := range []string{"x", "y", "z"} {
		wg.Go(func() {
			for range 100 {
				err := Commit(t.Context(), s, keys, func(_ resource.Key, r *resource.Resource) store.Op {
					return store.Op{Action: store.Update, Resource: add(r, label)}
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		r, err := s.Get(k)
		if err != nil {
			t.Fatal(err)
		}
		for _, label := range []string{"x", "y", "z"} {
			if r.Labels[label] != "100" {
				t.Errorf("%s: label %s is %s, want 100", k, label, r.Labels[label])
			}
		}
	}
}

func TestOvertaken(t *testing.T) {
	s, keys := open(t, "a", "b")
	calls := 0
	err := Commit(t.Context(), s, append(keys, service("gone").Key), func(_ resource.Key, r *resource.Resource) store.Op {
		if r == nil {
			return store.Op{}
		}
		if calls++; calls == 1 { // somebody deletes the first one after it was read
			if _, err := s.Commit(t.Context(), store.Op{Action: store.Delete, Resource: r}); err != nil {
				t.Fatal(err)
			}
		}
		return store.Op{Action: store.Update, Resource: add(r, "x")}
	})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := s.Get(keys[1]); err != nil || r.Labels["x"] != "1" {
		t.Errorf("got %v, %v, want the other one written", r, err)
	}
}

func TestNoMesh(t *testing.T) {
	s, _ := open(t)
	other := resource.Key{Kind: resource.KindMeshService, Mesh: "none", Name: "a"}
	create := func(k resource.Key, stored *resource.Resource) store.Op {
		if stored != nil {
			return store.Op{}
		}
		r := service(k.Name)
		r.Mesh = k.Mesh
		return store.Op{Action: store.Create, Resource: r}
	}
	if err := Commit(t.Context(), s, []resource.Key{other, service("b").Key}, create); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(service("b").Key); err != nil {
		t.Errorf("the one that could be created: %v", err)
	}
}

func TestErrors(t *testing.T) {
	s, keys := open(t, "a")
	update := func(_ resource.Key, r *resource.Resource) store.Op {
		return store.Op{Action: store.Update, Resource: add(r, "x")}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Commit(ctx, s, keys, update); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	_ = s.Close()
	if err := Commit(t.Context(), s, keys, update); !errors.Is(err, store.ErrClosed) {
		t.Errorf("got %v, want closed", err)
	}
}
