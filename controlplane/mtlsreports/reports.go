// Package mtlsreports takes what agents tell of connections with and without mTLS and keeps the newest of each. Nothing of it is
// stored: an agent tells all that it knows to a control plane that it finds anew.
package mtlsreports

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Received is the newest report of a proxy.
type Received struct {
	*mtlsreport.Report
	// At is when it came, by our clock; the report's times are of the agent's.
	At time.Time
}

// Now is the agent's clock at a moment of ours.
func (r *Received) Now(ours time.Time) time.Time { return r.Report.At.Add(ours.Sub(r.At)) }

// Ours is the moment of our clock at one of the agent's.
func (r *Received) Ours(theirs time.Time) time.Time { return r.At.Add(theirs.Sub(r.Report.At)) }

// Reports keeps reports. Its methods may be called concurrently.
type Reports struct {
	store store.Store

	mu sync.Mutex
	of map[resource.Key]*Received // by Dataplane
}

// New makes an empty Reports; Run forgets those of Dataplanes that are gone.
func New(st store.Store) *Reports { return &Reports{store: st, of: map[resource.Key]*Received{}} }

// Of returns the newest report of a Dataplane, nil when there is none. It must not be changed.
func (r *Reports) Of(dataplane resource.Key) *Received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of[dataplane]
}

// take keeps a report in the place of an older one, unless that came a moment ago.
func (r *Reports) take(dataplane resource.Key, report *mtlsreport.Report, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.of[dataplane]; old != nil && now.Sub(old.At) < tooSoon && now.After(old.At) {
		return false
	}
	r.of[dataplane] = &Received{Report: report, At: now}
	return true
}

// tooSoon is less than the least time between reports of an agent.
const tooSoon = 500 * time.Millisecond

// Run follows the store until ctx ends (nil) or it is closed.
func (r *Reports) Run(ctx context.Context) error {
	_, w := r.store.Watch()
	defer w.Close()
	for {
		events, err := w.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("follow the store: %w", err)
		}
		for _, ev := range events {
			if ev.New == nil && ev.Old != nil && ev.Old.Kind == resource.KindDataplane {
				r.mu.Lock()
				delete(r.of, ev.Old.Key)
				r.mu.Unlock()
			}
		}
	}
}
