package xds

import (
	"context"
	"sync"
	"time"
)

// The debounce: a change after silence goes out at once; those that follow are gathered until nothing came for quiet, or
// for at most longest.
const (
	quiet   = 10 * time.Millisecond
	longest = 200 * time.Millisecond
)

func (s *Server) debounce(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		}
		s.flush()
		var first time.Time // of the changes gathered since the last flush
		timer.Reset(quiet)
		for open := true; open; {
			select {
			case <-ctx.Done():
				return
			case <-s.kick:
				now := time.Now()
				if first.IsZero() {
					first = now
				}
				timer.Reset(min(quiet, max(0, longest-now.Sub(first))))
			case <-timer.C:
				if open = !first.IsZero(); open {
					s.flush()
					first = time.Time{}
					timer.Reset(quiet)
				}
			}
		}
	}
}

// queue is an unbounded queue of proxies; each is in it at most once because proxy.queued says so.
type queue struct {
	mu     sync.Mutex
	filled *sync.Cond
	items  []*proxy
	closed bool
}

func newQueue() *queue {
	q := &queue{}
	q.filled = sync.NewCond(&q.mu)
	return q
}

func (q *queue) push(p *proxy) {
	q.mu.Lock()
	q.items = append(q.items, p)
	q.mu.Unlock()
	q.filled.Signal()
}

// pop waits for a proxy; it returns nil when the queue is closed, also if something is left.
func (q *queue) pop() *proxy {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.items) == 0 && !q.closed {
		q.filled.Wait()
	}
	if q.closed {
		return nil
	}
	p := q.items[0]
	q.items = q.items[1:]
	return p
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.filled.Broadcast()
}
