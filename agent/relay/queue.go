package relay

import "sync"

// queue hands messages to the one goroutine that may write to a stream. It is not bounded, for it must never block the
// holder of the relay's lock; what is put in is bounded by the protocol: one message in flight for each type and side.
type queue[T any] struct {
	mu    sync.Mutex
	items []T
	ready chan struct{}
}

func newQueue[T any]() *queue[T] { return &queue[T]{ready: make(chan struct{}, 1)} }

func (q *queue[T]) put(item T) {
	q.mu.Lock()
	q.items = append(q.items, item)
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// drain sends what is queued, and what comes later, until stop is closed or send fails.
func (q *queue[T]) drain(stop <-chan struct{}, send func(T) error) error {
	for {
		q.mu.Lock()
		items := q.items
		q.items = nil
		q.mu.Unlock()
		for _, item := range items {
			if err := send(item); err != nil {
				return err
			}
		}
		select {
		case <-q.ready:
		case <-stop:
			return nil
		}
	}
}
