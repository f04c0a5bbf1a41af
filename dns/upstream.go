package dns

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// How an upstream is judged. A lost packet is no reason to give a server up, two in a row without an answer between are; one
// that refuses packets is not there.
const (
	maxFailures  = 2
	probeFirst   = 500 * time.Millisecond
	probeLast    = 30 * time.Second
	probeTimeout = time.Second
)

// errRefused is an answer that says nothing about the name: another upstream may know.
var errRefused = errors.New("upstream cannot answer")

// errLoop means that the upstream sent our query back to us, or that there is no use in waiting any more.
var errLoop = errors.New("query came back to the resolver")

// upstream is one server and what is known about it.
type upstream struct {
	addr    netip.AddrPort
	looped  atomic.Bool // for good: until resolv.conf names other servers
	canary  []byte      // end of the names of probes that may come back, see newCanary; nil: none can
	metrics upstreamMetrics
	queries atomic.Uint64
	failed  atomic.Uint64
	latency atomic.Int64 // smoothed, in nanoseconds

	mu        sync.Mutex
	failures  int
	lastGood  time.Time
	lastErr   error
	down      bool
	probing   bool // somebody asks whether it is back
	lastProbe time.Time
	kick      chan struct{} // asks for a probe now
}

func newUpstream(addr netip.AddrPort, m upstreamMetrics) *upstream {
	return &upstream{addr: addr, metrics: m, kick: make(chan struct{}, 1)}
}

// usable says whether the upstream should be asked.
func (u *upstream) usable() bool {
	if u.looped.Load() {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.down
}

// good notes an answer, whatever it said. It returns whether the upstream had been down.
func (u *upstream) good() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	was := u.down
	u.failures, u.down, u.lastGood = 0, false, time.Now()
	return was
}

// silent notes that a query sent at start got no answer. It returns whether the upstream went down, and whether nobody is
// probing it yet. Silence does not count when another query was answered meanwhile: then the name is slow, not the server.
func (u *upstream) silent(start time.Time, err error) (wentDown, probe bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.down || u.lastGood.After(start) {
		return false, false
	}
	u.failures++
	if u.failures < maxFailures && !unreachable(err) {
		return false, false
	}
	probe = !u.probing
	u.down, u.probing, u.lastProbe = true, true, time.Now()
	return true, probe
}

// took notes how long an answer took. The last eight or so count.
func (u *upstream) took(d time.Duration) {
	old := u.latency.Load()
	if old == 0 {
		u.latency.Store(int64(d))
		return
	}
	u.latency.Store(old + (int64(d)-old)/8) // a concurrent one may get lost, which smoothing bears
}

// fault notes a query without a usable answer.
func (u *upstream) fault(err error) {
	u.failed.Add(1)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lastErr = err
}

// needsProbe says whether the one who probes has to go on.
func (u *upstream) needsProbe() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lastProbe = time.Now()
	u.probing = u.down && !u.looped.Load()
	return u.probing
}

// wake asks for a probe of a server that is down, unless there has just been one. So a client that waits for names to
// resolve again does not wait for the longest pause between probes.
func (u *upstream) wake() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.down && time.Since(u.lastProbe) >= probeFirst {
		select {
		case u.kick <- struct{}{}:
		default:
		}
	}
}

func (u *upstream) status() UpstreamStatus {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := UpstreamStatus{
		Address: u.addr, State: "up", Queries: u.queries.Load(), Failures: u.failed.Load(), InARow: u.failures,
		LatencyMS: milliseconds(time.Duration(u.latency.Load())),
	}
	switch {
	case u.looped.Load():
		out.State = "looped"
	case u.down:
		out.State = "down"
	}
	if t := u.lastGood; !t.IsZero() {
		out.LastGood = &t
	}
	if u.lastErr != nil {
		out.LastError = u.lastErr.Error()
	}
	return out
}

func unreachable(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) ||
		errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL)
}
