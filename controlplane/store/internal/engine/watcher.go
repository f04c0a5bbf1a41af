package engine

import (
	"context"
	"sync"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
)

// watcher is an unbounded queue: a slow reader costs memory but never holds up a writer.
type watcher struct {
	engine *Engine
	ready  chan struct{} // capacity 1: set while the queue is not empty
	ended  chan struct{}
	once   sync.Once

	mu     sync.Mutex
	queue  []store.Event
	closed bool // by the reader: pending events are dropped
}

var _ store.Watcher = (*watcher)(nil)

func newWatcher(e *Engine) *watcher {
	return &watcher{engine: e, ready: make(chan struct{}, 1), ended: make(chan struct{})}
}

// push is called with the engine's writeMu held, which orders it.
func (w *watcher) push(events []store.Event) {
	w.mu.Lock()
	if !w.closed {
		w.queue = append(w.queue, events...)
	}
	w.mu.Unlock()
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

func (w *watcher) end() { w.once.Do(func() { close(w.ended) }) }

// Next implements store.Watcher. Events that were committed before the store was closed are still handed out.
func (w *watcher) Next(ctx context.Context) ([]store.Event, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		w.mu.Lock()
		events := w.queue
		w.queue = nil
		w.mu.Unlock()
		if len(events) > 0 {
			return events, nil
		}
		select {
		case <-w.ended:
			// Ended comes after the last push, so an empty queue now stays empty.
			w.mu.Lock()
			pending := len(w.queue)
			w.mu.Unlock()
			if pending == 0 {
				return nil, store.ErrClosed
			}
			continue
		default:
		}
		select {
		case <-w.ready:
		case <-w.ended:
		case <-ctx.Done():
		}
	}
}

// Close implements store.Watcher.
func (w *watcher) Close() {
	w.mu.Lock()
	w.closed, w.queue = true, nil
	w.mu.Unlock()
	w.engine.forget(w)
	w.end()
}
