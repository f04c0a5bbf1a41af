package dns

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// defaultAttempts is how often a server is asked within one query, time permitting.
const defaultAttempts = 3

// errNoUpstream means that there is nobody to ask, at least at the moment.
var errNoUpstream = errors.New("no upstream answers")

// forwarder asks upstreams. Its methods are safe for concurrent use. The upstreams in use are an immutable list that is
// swapped when resolv.conf changes; queries under way keep theirs.
type forwarder struct {
	cfg     Config
	m       *metrics
	own     []netip.AddrPort // where the server listens
	sockets sockets
	list    atomic.Pointer[upstreams]
	next    atomic.Uint32 // where to start when rotating
	wg      sync.WaitGroup
}

// upstreams is one reading of resolv.conf.
type upstreams struct {
	conf    resolvConf
	servers []*upstream
	ctx     context.Context // ends when the list is replaced; probes live in it
	stop    context.CancelFunc
}

// use makes conf the list to ask. When it is a new one all servers are tried afresh: the network is another. It is called
// from one goroutine at a time.
func (f *forwarder) use(ctx context.Context, conf resolvConf) {
	old := f.list.Load()
	if old != nil && old.conf.equal(conf) {
		return
	}
	list := &upstreams{conf: conf}
	list.ctx, list.stop = context.WithCancel(ctx)
	for _, addr := range conf.servers {
		if f.isSelf(addr) {
			f.cfg.Log.Warn("upstream is this resolver, not asking it", slog.String("upstream", addr.String()))
			continue
		}
		list.servers = append(list.servers, newUpstream(addr))
	}
	if len(list.servers) == 0 {
		f.cfg.Log.Warn("no upstream name server, only names of the mesh resolve")
	} else {
		f.cfg.Log.Info("upstream name servers", slog.Any("upstreams", conf.servers))
	}
	f.list.Store(list)
	f.gauge()
	if old != nil {
		old.stop()
	}
}

// isSelf says whether queries to addr would arrive at our own sockets.
func (f *forwarder) isSelf(addr netip.AddrPort) bool {
	ip := addr.Addr().Unmap()
	for _, own := range f.own {
		if own.Port() != addr.Port() {
			continue
		}
		if own.Addr().Unmap() == ip || (own.Addr().IsUnspecified() && (ip.IsLoopback() || ip.IsUnspecified() || isLocal(ip))) {
			return true
		}
	}
	return false
}

func isLocal(ip netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == ip.WithZone("") {
			return true
		}
	}
	return false
}

// looped says whether a query from src is our own. If so its upstream is not asked again.
func (f *forwarder) looped(src netip.AddrPort) bool {
	u := f.sockets.looped(netip.AddrPortFrom(src.Addr().Unmap(), src.Port()))
	if u == nil {
		return false
	}
	f.m.loops.Inc()
	f.gauge()
	f.cfg.Log.Warn("upstream sends queries back to this resolver, not asking it any more; "+
		"run the agent as the user that redirection exempts", slog.String("upstream", u.addr.String()))
	return true
}

// attempt is what one upstream said.
type attempt struct {
	i    int
	resp []byte
	err  error
}

// candidate is the state of an upstream within one query.
type candidate struct {
	u     *upstream
	tries int
	out   bool // said that it cannot answer, or is not there
}

// resolve asks the upstreams in order until one answers: the next one when one fails, and also when one is slow. msg is a
// well-formed query. When all that answer cannot say anything about the name, the last such answer is returned.
func (f *forwarder) resolve(ctx context.Context, msg []byte, q *query, tcp bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.QueryTimeout)
	defer cancel()
	list := f.list.Load()
	if list == nil {
		return nil, errNoUpstream
	}
	cands := f.order(list)
	attempts := list.conf.attempts
	or(&attempts, defaultAttempts)
	results := make(chan attempt, len(cands)*attempts) // room for all: an attempt never waits for us
	launch := func(maxTries int) bool {
		i := pick(cands, maxTries)
		if i < 0 {
			return false
		}
		cands[i].tries++
		f.wg.Go(func() {
			resp, err := f.ask(ctx, list, cands[i].u, msg, q, tcp)
			results <- attempt{i, resp, err}
		})
		return true
	}
	if !launch(attempts) {
		for _, u := range list.servers {
			u.wake()
		}
		return nil, errNoUpstream
	}
	hedge := time.NewTimer(f.cfg.HedgeDelay)
	defer hedge.Stop()
	var refusal []byte
	for waiting := 1; waiting > 0; {
		select {
		case a := <-results:
			waiting--
			if a.err == nil {
				return a.resp, nil
			}
			if a.resp != nil {
				refusal = a.resp
				cands[a.i].out = true
			}
			// The hedge has asked already whom this failure would make us ask.
			if waiting == 0 && launch(attempts) {
				waiting++
				hedge.Reset(f.cfg.HedgeDelay)
			}
		case <-hedge.C:
			if launch(1) {
				waiting++
				hedge.Reset(f.cfg.HedgeDelay)
			}
		case <-ctx.Done():
			waiting = 0
		}
	}
	if refusal != nil {
		return refusal, nil
	}
	return nil, errNoUpstream
}

// order returns the upstreams that are worth asking, in the order to do so.
func (f *forwarder) order(list *upstreams) []candidate {
	n := len(list.servers)
	var start int
	if list.conf.rotate && n > 0 {
		start = int(f.next.Add(1) % uint32(n))
	}
	out := make([]candidate, 0, n)
	for i := range n {
		if u := list.servers[(start+i)%n]; u.usable() {
			out = append(out, candidate{u: u})
		}
	}
	return out
}

// pick returns whom to ask next: who was asked least, the first of them; -1 when there is none.
func pick(cands []candidate, maxTries int) int {
	best := -1
	for i, c := range cands {
		if c.out || c.tries >= maxTries || (c.tries > 0 && !c.u.usable()) {
			continue
		}
		if best < 0 || c.tries < cands[best].tries {
			best = i
		}
	}
	return best
}

// ask makes one attempt and notes how it went.
func (f *forwarder) ask(ctx context.Context, list *upstreams, u *upstream, msg []byte, q *query, tcp bool) ([]byte, error) {
	timeout := f.cfg.AttemptTimeout
	if list.conf.timeout > 0 {
		timeout = list.conf.timeout
	}
	actx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	start := time.Now()
	// A client without EDNS could not take more than it got, and comes back over TCP by itself.
	resp, err := u.exchange(actx, &f.sockets, msg, q.end, tcp || list.conf.useTCP, q.udpSize > minUDP)
	switch {
	case err == nil || resp != nil:
		f.m.upstreamDuration.Observe(time.Since(start).Seconds())
		if u.good() {
			f.wentUp(u)
		}
	case errors.Is(err, errLoop):
		return nil, err
	case errors.Is(ctx.Err(), context.Canceled) && time.Since(start) < f.cfg.HedgeDelay:
		return nil, err // another one was faster, or we are stopping: this says nothing about the upstream
	}
	if err != nil {
		f.m.upstreamFailures.Inc()
	}
	if err != nil && resp == nil {
		if down, probe := u.failed(start, err); down {
			f.wentDown(list, u, err, probe) //nolint:contextcheck // probing outlives the query: it ends with the list
		}
	}
	return resp, err
}

// gauge counts the upstreams that are being asked.
func (f *forwarder) gauge() {
	f.m.upstreamsUp.Set(float64(len(f.order(f.list.Load()))))
}

func (f *forwarder) wentUp(u *upstream) {
	f.gauge()
	f.cfg.Log.Info("upstream answers again", slog.String("upstream", u.addr.String()))
}

// wentDown starts asking whether the upstream is back, unless that goes on already.
func (f *forwarder) wentDown(list *upstreams, u *upstream, err error, probe bool) {
	f.gauge()
	f.cfg.Log.Warn("upstream does not answer", slog.String("upstream", u.addr.String()), slog.Any("error", err))
	if !probe {
		return
	}
	f.wg.Go(func() {
		for pause := probeFirst; ; pause = min(2*pause, probeLast) {
			t := time.NewTimer(pause)
			select {
			case <-list.ctx.Done():
			case <-u.kick:
			case <-t.C:
			}
			t.Stop()
			if list.ctx.Err() != nil || !u.needsProbe() {
				return
			}
			f.probe(list, u)
		}
	})
}

// probe asks for the servers of the root, which every resolver knows without asking. Any answer will do.
func (f *forwarder) probe(list *upstreams, u *upstream) {
	ctx, cancel := context.WithTimeout(list.ctx, probeTimeout)
	defer cancel()
	msg := []byte{0, 0, flagRD >> 8, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, classIN} // ". NS"
	if resp, _ := u.exchange(ctx, &f.sockets, msg, len(msg), list.conf.useTCP, false); resp != nil && u.good() {
		f.wentUp(u)
	}
}
