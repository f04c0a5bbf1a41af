package engine

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// draft is the next snapshot while a batch is applied to it. Every change leaves its undo behind.
type draft struct {
	engine   *Engine
	base     *snapshot
	kinds    map[resource.Kind][]*resource.Resource // copies, of the kinds that were touched
	revision uint64
	events   []store.Event
	undo     []func()
	bodies   map[*resource.Resource][]byte
	durable  bool // somebody asked for it
}

func newDraft(e *Engine) *draft {
	base := e.current.Load()
	return &draft{
		engine: e, base: base, revision: base.revision,
		kinds: map[resource.Kind][]*resource.Resource{}, bodies: map[*resource.Resource][]byte{},
	}
}

// apply does all ops of one request or none. The request gets a revision of its own when it changes anything.
func (d *draft) apply(ops []store.Op) (out []*resource.Resource, err error) {
	undoMark, eventMark, revision := len(d.undo), len(d.events), d.revision
	defer func() {
		if err != nil {
			out = nil
			d.rollback(undoMark)
			d.events, d.revision = d.events[:eventMark], revision
		}
	}()
	d.revision++
	now := d.engine.now().UTC().Round(0) // without the monotonic reading, which would not survive a restart
	out = make([]*resource.Resource, len(ops))
	for i, op := range ops {
		if out[i], err = d.one(op, now); err != nil {
			return nil, err
		}
	}
	created := d.events[eventMark:]
	if len(created) == 0 {
		d.revision = revision
	}
	for _, ev := range created {
		if ev.Action == store.Create && ev.New.Mesh != "" && d.get(ev.New.Key) != nil &&
			d.get(resource.Key{Kind: resource.KindMesh, Name: ev.New.Mesh}) == nil {
			return nil, fmt.Errorf("create %s: %w", ev.New.Key, store.ErrNoMesh)
		}
	}
	return out, nil
}

func (d *draft) one(op store.Op, now time.Time) (*resource.Resource, error) {
	if op.Resource == nil {
		return nil, errors.New("commit: operation without a resource")
	}
	key := op.Resource.Key
	if err := d.engine.checkKey(key); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	d.durable = d.durable || op.Durable
	old := d.get(key)
	switch {
	case op.Action == store.Create && old != nil:
		return nil, fmt.Errorf("create %s: %w", key, store.ErrExists)
	case (op.Action == store.Update || op.Action == store.Delete) && old == nil:
		return nil, fmt.Errorf("%s %s: %w", op.Action, key, store.ErrNotFound)
	case op.ExpectVersion != 0 && (old == nil || old.Version != op.ExpectVersion):
		return nil, fmt.Errorf("%s %s: version %d %w", op.Action, key, op.ExpectVersion, store.ErrConflict)
	}
	switch op.Action {
	case store.Delete:
		d.remove(old)
		return nil, nil //nolint:nilnil // a delete has no resource, as Store.Commit says
	case store.Create, store.Update, store.Upsert:
		return d.put(op, old, now)
	default:
		return nil, fmt.Errorf("commit %s: action %q is not known", key, op.Action)
	}
}

func (d *draft) put(op store.Op, old *resource.Resource, now time.Time) (*resource.Resource, error) {
	r := *op.Resource
	if r.Spec == nil {
		return nil, fmt.Errorf("%s %s: it has no spec", op.Action, r.Key)
	}
	body, err := d.encode(&r)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", op.Action, r.Key, err)
	}
	r.CreationTime, r.ModificationTime, r.Version = now, now, d.revision
	if old != nil {
		before, err := d.encode(old)
		if err != nil {
			return nil, fmt.Errorf("compare %s: %w", r.Key, err)
		}
		if bytes.Equal(before, body) {
			return old, nil
		}
		r.CreationTime = old.CreationTime
	}
	d.bodies[&r] = body
	if old == nil && op.Owner.Kind != "" {
		if d.get(op.Owner) == nil {
			return nil, fmt.Errorf("create %s: its owner %s: %w", r.Key, op.Owner, store.ErrNotFound)
		}
		d.engine.own(r.Key, op.Owner)
		d.undo = append(d.undo, func() { d.engine.disown(r.Key) })
	}
	d.set(r.Key, old, &r)
	return &r, nil
}

// remove deletes what r owns, then r.
func (d *draft) remove(r *resource.Resource) {
	owned := make([]resource.Key, 0, len(d.engine.owned[r.Key]))
	for k := range d.engine.owned[r.Key] {
		owned = append(owned, k)
	}
	slices.SortFunc(owned, func(a, b resource.Key) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Mesh, b.Mesh), cmp.Compare(a.Name, b.Name))
	})
	for _, k := range owned {
		if child := d.get(k); child != nil {
			d.remove(child)
		}
	}
	if r.Kind == resource.KindMesh {
		for _, desc := range d.engine.registry.All() {
			for _, child := range slices.Clone(inMesh(d.list(desc.Kind), r.Name)) {
				if d.get(child.Key) != nil { // not gone already with an owner of the same mesh
					d.remove(child)
				}
			}
		}
	}
	if owner, ok := d.engine.owners[r.Key]; ok {
		d.engine.disown(r.Key)
		d.undo = append(d.undo, func() { d.engine.own(r.Key, owner) })
	}
	d.set(r.Key, r, nil)
}

// set replaces old by r, either of which may be nil, and records the event.
func (d *draft) set(key resource.Key, old, r *resource.Resource) {
	ev := store.Event{Revision: d.revision, Action: store.Update, Old: old, New: r}
	switch {
	case old == nil:
		ev.Action = store.Create
	case r == nil:
		ev.Action = store.Delete
	}
	d.events = append(d.events, ev)
	d.place(key, r)
	d.undo = append(d.undo, func() { d.place(key, old) })
}

// place makes r (nil: nothing) what the draft holds for key.
func (d *draft) place(key resource.Key, r *resource.Resource) {
	list, touched := d.kinds[key.Kind]
	if !touched {
		base := d.base.kinds[key.Kind]
		list = append(make([]*resource.Resource, 0, len(base)+1), base...)
	}
	i, found := search(list, key.Mesh, key.Name)
	switch {
	case found && r != nil:
		list[i] = r
	case found:
		list = slices.Delete(list, i, i+1)
	case r != nil:
		list = slices.Insert(list, i, r)
	}
	d.kinds[key.Kind] = list
}

func (d *draft) list(kind resource.Kind) []*resource.Resource {
	if list, touched := d.kinds[kind]; touched {
		return list
	}
	return d.base.kinds[kind]
}

func (d *draft) get(key resource.Key) *resource.Resource {
	list := d.list(key.Kind)
	if i, found := search(list, key.Mesh, key.Name); found {
		return list[i]
	}
	return nil
}

func (d *draft) rollback(mark int) {
	for i := len(d.undo) - 1; i >= mark; i-- {
		d.undo[i]()
	}
	d.undo = d.undo[:mark]
}

// records returns the last state of every key that the batch changed, and whether it must be durable at once.
func (d *draft) records() (out []Record, durable bool) {
	durable = d.durable
	at := map[resource.Key]int{}
	for _, ev := range d.events {
		r := cmp.Or(ev.New, ev.Old)
		rec := Record{Key: r.Key}
		if ev.New != nil {
			rec.Resource, rec.Body, rec.Owner = ev.New, d.bodies[ev.New], d.engine.owners[r.Key]
		}
		if i, seen := at[r.Key]; seen {
			out[i] = rec
		} else {
			at[r.Key] = len(out)
			out = append(out, rec)
		}
		durable = durable || !d.engine.registry.ByKind(r.Kind).Volatile
	}
	return out, durable
}

// encode returns the form by which a store compares and keeps resources: all but times, version and owner.
func (d *draft) encode(r *resource.Resource) ([]byte, error) {
	c := *r
	c.Version, c.CreationTime, c.ModificationTime = 0, time.Time{}, time.Time{}
	return d.engine.registry.EncodeStored(&c, resource.Key{})
}
