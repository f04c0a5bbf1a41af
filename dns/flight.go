package dns

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// stalePatience is how long a client waits for upstreams when an answer past its time is there (RFC 8767 §5).
const stalePatience = 1800 * time.Millisecond

// maxShared is the longest query that may be shared: an ordinary one, with some options.
const maxShared = minUDP

// flights are the questions that are on their way to upstreams. Equal ones share an answer, so that a thousand clients who
// ask at once, or one who asks a thousand times, make one question.
type flights struct {
	patience time.Duration
	shared   atomic.Uint64
	mu       sync.Mutex
	under    map[string]*flight
}

// flight is one question on its way. What it brings is read after landed is closed, and not changed.
type flight struct {
	key    string
	landed chan struct{} // made by the first who waits
	resp   []byte
	err    error
}

// flightKey tells queries apart that upstreams must answer differently: all of them is in it, except for id and letter case.
func flightKey(msg []byte, q *query, tcp bool) string {
	key := make([]byte, 0, len(msg)+1)
	key = append(key, q.name()...)
	key = append(key, msg[q.end-4:]...)
	key = append(key, msg[2], msg[3])
	if tcp {
		key = append(key, 1)
	}
	return string(key)
}

// board returns the flight with a key. Whoever leads has to let it land.
func (f *flights) board(key string) (fl *flight, lead bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl := f.under[key]; fl != nil {
		if fl.landed == nil {
			fl.landed = make(chan struct{})
		}
		return fl, false
	}
	if f.under == nil {
		f.under = map[string]*flight{}
	}
	fl = &flight{key: key}
	f.under[key] = fl
	return fl, true
}

func (f *flights) land(fl *flight, resp []byte, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.under, fl.key)
	fl.resp, fl.err = resp, err
	if fl.landed != nil {
		close(fl.landed)
	}
}

// full says whether no question may go on after its client has been answered.
func (f *flights) full(limit int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.under) >= limit
}

// answer appends what upstreams say to a query, cut to what this client takes.
func (f *forwarder) answer(ctx context.Context, out, msg []byte, q *query, tcp bool) ([]byte, error) {
	var buf [keyMax]byte
	key, keep := cacheKey(&buf, msg, q)
	var stale *kept
	if keep {
		now := time.Now()
		if stale = f.cache.get(key, now, false); stale != nil && now.Before(stale.expires) {
			return stale.answerFor(out, msg, q, tcp, now), nil // just come
		}
	}
	resp, err := f.share(ctx, msg, q, tcp, key, stale != nil)
	if stale != nil && (err != nil || failed(resp)) {
		f.cache.gaveStale.Add(1)
		f.m.staleServed.Inc()
		return stale.answerFor(out, msg, q, tcp, time.Now()), nil //nolint:nilerr // it stands for the answer that did not come
	}
	if err != nil {
		return nil, err
	}
	start := len(out)
	if len(resp) > q.limit(tcp) {
		out = appendCut(out, msg, q, resp)
	} else {
		out = append(out, resp...)
	}
	spell(out[start:], msg, q)
	return out, nil
}

// share asks upstreams unless an equal question is on its way. With haste it waits only for so long, and the question goes
// on, to be kept when it is answered. key is empty when the answer may not be kept.
func (f *forwarder) share(ctx context.Context, msg []byte, q *query, tcp bool, key []byte, haste bool) ([]byte, error) {
	epoch := f.cache.epoch.Load()
	ask := func() ([]byte, error) {
		resp, err := f.resolve(f.ctx, newJob(msg, q, tcp))
		if err == nil && len(key) > 0 {
			f.cache.put(epoch, key, q, resp)
		}
		return resp, err
	}
	if len(msg) > maxShared {
		return ask()
	}
	if haste && f.flights.full(f.cfg.MaxInflight) {
		return nil, errNoUpstream
	}
	fl, lead := f.flights.board(flightKey(msg, q, tcp))
	switch {
	case lead && !haste:
		resp, err := ask()
		f.flights.land(fl, resp, err)
		return resp, err
	case lead:
		fl, _ = f.flights.board(fl.key) // to wait like everybody else
		f.wg.Go(func() {
			resp, err := ask()
			f.flights.land(fl, resp, err)
		})
	default:
		f.flights.shared.Add(1)
		f.m.coalesced.Inc()
	}
	var late <-chan time.Time
	if haste {
		t := time.NewTimer(f.flights.patience)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-fl.landed:
		return fl.resp, fl.err
	case <-late:
	case <-ctx.Done():
	}
	return nil, errNoUpstream
}
