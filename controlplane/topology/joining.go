package topology

import (
	"context"
	"errors"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
)

// SetJoining says whether a proxy is about to join: it has registered, and its Envoy does not listen yet. Meanwhile none
// of its inbounds is an endpoint; its Dataplane, and what follows from that besides endpoints, stays as it is. The mark
// may come before the Dataplane, and then holds for the first World that has it: a mark is taken in before all events that
// were committed after the call. It does not block.
func (t *Tracker) SetJoining(id ProxyID, joining bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.marks == nil {
		t.marks = map[ProxyID]bool{}
	}
	t.marks[id] = joining
	if t.interrupt != nil {
		t.interrupt()
	}
}

// await waits for events, marks or what is due and returns the events; the rest is in state.
func (t *Tracker) await(ctx context.Context, w store.Watcher) ([]store.Event, error) {
	short, cancel := context.WithCancel(ctx)
	defer cancel()
	t.mu.Lock()
	t.interrupt = cancel
	if len(t.marks)+len(t.released) > 0 {
		cancel()
	}
	t.mu.Unlock()
	events, err := w.Next(short)
	if ctx.Err() == nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	// After the events: those of a Dataplane must not be seen without the mark that came before them.
	t.mu.Lock()
	t.state.marks, t.marks = t.marks, nil
	t.state.released, t.released = t.released, nil
	t.mu.Unlock()
	return events, err
}

// setJoining takes one mark.
func (e *edit) setJoining(name string, joining bool) {
	if e.ix.joining[name] == joining {
		return
	}
	if joining {
		e.ix.joining[name] = true
	} else {
		delete(e.ix.joining, name)
	}
	prev := e.mesh.Dataplane(name)
	if prev == nil {
		return
	}
	d := *prev
	d.joining = joining
	e.putDataplane(name, &d)
	e.staleLegacy(&d)
	for service := range e.ix.selecting(&d) {
		if e.setMember(service, name, &d) {
			e.drafts[service].stale = true
		}
	}
}
