package storetest

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// model is what a store should do, written as plainly as possible.
type model struct {
	data  map[resource.Key]string
	owner map[resource.Key]resource.Key
}

func (m model) clone() model { return model{maps.Clone(m.data), maps.Clone(m.owner)} }

func (m model) remove(k resource.Key) {
	delete(m.data, k)
	delete(m.owner, k)
	for child := range maps.Clone(m.data) {
		_, there := m.data[child]
		if there && (m.owner[child] == k || k.Kind == resource.KindMesh && child.Mesh == k.Name) {
			m.remove(child)
		}
	}
}

func (m model) apply(op store.Op) error {
	k := op.Resource.Key
	_, there := m.data[k]
	switch {
	case op.Action == store.Delete && !there, op.Action == store.Update && !there:
		return store.ErrNotFound
	case op.Action == store.Create && there:
		return store.ErrExists
	case op.Action == store.Delete:
		m.remove(k)
		return nil
	}
	if _, ok := m.data[op.Owner]; !there && op.Owner.Kind != "" {
		if !ok {
			return store.ErrNotFound
		}
		m.owner[k] = op.Owner
	}
	m.data[k] = ""
	if s, ok := op.Resource.Spec.(*resource.Secret); ok {
		m.data[k] = string(s.Data)
	}
	return nil
}

func (m model) commit(ops []store.Op) (model, error) {
	next := m.clone()
	for _, op := range ops {
		if err := next.apply(op); err != nil {
			return m, err
		}
	}
	for k := range next.data {
		if _, ok := next.data[Mesh(k.Mesh).Key]; k.Mesh != "" && !ok {
			return m, store.ErrNoMesh
		}
	}
	return next, nil
}

var modelErrors = []error{store.ErrNotFound, store.ErrExists, store.ErrNoMesh}

// testModel compares random commits with the model, and the events with the difference that they made.
func testModel(t *testing.T, s store.Store) {
	rapid.Check(t, func(rt *rapid.T) {
		for _, mesh := range s.List(resource.KindMesh, "") {
			commit(t, s, del(mesh.Key))
		}
		_, w := s.Watch()
		defer w.Close()
		m := model{map[resource.Key]string{}, map[resource.Key]resource.Key{}}
		seen := map[resource.Key]string{}
		for range rapid.IntRange(1, 12).Draw(rt, "commits") {
			ops := rapid.SliceOfN(rapid.Custom(drawOp), 1, 4).Draw(rt, "ops")
			next, want := m.commit(ops)
			_, got := s.Commit(t.Context(), ops...)
			if (want == nil) != (got == nil) || !errors.Is(got, want) && slices.Contains(modelErrors, want) {
				rt.Fatalf("commit: got error %v, want %v", got, want)
			}
			changed := !maps.Equal(m.data, next.data)
			m = next
			if changed {
				drain(t, rt, w, seen)
			}
			if have := contents(s); !maps.Equal(have, m.data) {
				rt.Fatalf("store has %v, want %v", have, m.data)
			}
			if changed && !maps.Equal(seen, m.data) {
				rt.Fatalf("watcher has %v, want %v", seen, m.data)
			}
		}
	})
}

func drawOp(rt *rapid.T) store.Op {
	mesh := rapid.SampledFrom([]string{"m", "n"}).Draw(rt, "mesh")
	r := Mesh(mesh)
	if rapid.IntRange(0, 3).Draw(rt, "kind") > 0 {
		r = Secret(mesh, strconv.Itoa(rapid.IntRange(0, 3).Draw(rt, "name")), rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "data"))
	}
	op := store.Op{Resource: r, Action: rapid.SampledFrom([]store.Action{store.Create, store.Update, store.Upsert, store.Delete}).Draw(rt, "action")}
	if r.Kind == resource.KindSecret && rapid.IntRange(0, 3).Draw(rt, "owned") == 0 {
		op.Owner = Secret(mesh, strconv.Itoa(rapid.IntRange(0, 3).Draw(rt, "owner")), "").Key
		if op.Owner == r.Key {
			op.Owner = resource.Key{}
		}
	}
	return op
}

func contents(s store.Store) map[resource.Key]string {
	out := map[resource.Key]string{}
	for _, r := range s.List(resource.KindMesh, "") {
		out[r.Key] = ""
	}
	for _, r := range s.List(resource.KindSecret, "") {
		out[r.Key] = string(resource.SpecOf[*resource.Secret](r).Data)
	}
	return out
}

func drain(t *testing.T, rt *rapid.T, w store.Watcher, seen map[resource.Key]string) {
	t.Helper()
	events, err := w.Next(t.Context())
	if err != nil {
		rt.Fatalf("next: %v", err)
	}
	for _, ev := range events {
		if ev.New == nil {
			delete(seen, ev.Old.Key)
			continue
		}
		seen[ev.New.Key] = ""
		if s, ok := ev.New.Spec.(*resource.Secret); ok {
			seen[ev.New.Key] = string(s.Data)
		}
	}
}
