package dns

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
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
	relays  func(netip.AddrPort) bool
	sockets sockets
	list    atomic.Pointer[upstreams]
	next    atomic.Uint32 // where to start when rotating
	cache   *cache
	flights flights
	ctx     context.Context // of Run: what several clients wait for ends with none of them
	wg      sync.WaitGroup
}

func (f *forwarder) init(cfg *Config, m *metrics) {
	f.cfg, f.m, f.cache = *cfg, m, newCache(cfg, m)
	f.relays, f.flights.patience = mayRelay, stalePatience
}

// live says how long it may ask and where the server listens.
func (f *forwarder) live(ctx context.Context, own []netip.AddrPort) { f.ctx, f.own = ctx, own }

// upstreams is one reading of resolv.conf.
type upstreams struct {
	conf    resolvConf
	servers []*upstream
	self    []netip.AddrPort // left out because they are this resolver
	ctx     context.Context  // ends when the list is replaced; probes live in it
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
			list.self = append(list.self, addr)
			continue
		}
		u := newUpstream(addr, f.m.upstream(addr))
		if f.relays(addr) {
			u.canary = newCanary()
		}
		list.servers = append(list.servers, u)
	}
	if len(list.servers) == 0 {
		f.cfg.Log.Warn("no upstream name server, only names of the mesh resolve")
	} else {
		f.cfg.Log.Info("upstream name servers", slog.Any("upstreams", conf.servers))
	}
	f.list.Store(list)
	f.cache.flush() // another network knows other names
	f.gauge()
	if old != nil {
		old.stop()
		for _, u := range old.servers {
			if !slices.ContainsFunc(list.servers, func(o *upstream) bool { return o.addr == u.addr }) {
				f.m.forget(u.addr)
			}
		}
	}
	for _, u := range list.servers {
		if u.canary != nil {
			f.wg.Go(func() { f.probe(list, u) }) //nolint:contextcheck // it ends with the list
		}
	}
}

// resolve asks the upstreams in order until one answers: the next one when one fails, and also when one is slow. When all
// that answer cannot say anything about the name, the last such answer is returned.
func (f *forwarder) resolve(ctx context.Context, j *job) ([]byte, error) {
	list := f.list.Load()
	if list == nil {
		return nil, errNoUpstream
	}
	start := list.start(&f.next)
	first := list.first(start)
	if first < 0 {
		for _, u := range list.servers {
			u.wake()
		}
		return nil, errNoUpstream
	}
	r := race{f: f, list: list, j: j, end: time.Now().Add(f.cfg.QueryTimeout)}
	x := r.begin(list.at(start, first))
	if x.tcp {
		return r.run(ctx, start, first, x, attempt{})
	}
	// Nearly always the first upstream answers soon, so that nothing has to be set up for a race.
	resp, done, err := x.try(x.start.Add(f.cfg.HedgeDelay))
	if !done {
		return r.run(ctx, start, first, x, attempt{})
	}
	f.judge(ctx, list, x, resp, err)
	if err == nil {
		return resp, nil
	}
	return r.run(ctx, start, first, nil, attempt{first, resp, err})
}

// start says which server is the first to ask.
func (l *upstreams) start(next *atomic.Uint32) int {
	if n := len(l.servers); l.conf.rotate && n > 0 {
		return int(next.Add(1) % uint32(n))
	}
	return 0
}

// at returns the i-th server in an order that begins at start.
func (l *upstreams) at(start, i int) *upstream { return l.servers[(start+i)%len(l.servers)] }

// first returns the first server in that order that is worth asking, -1 when there is none.
func (l *upstreams) first(start int) int {
	for i := range l.servers {
		if l.at(start, i).usable() {
			return i
		}
	}
	return -1
}

// candidate is the state of an upstream within one query.
type candidate struct {
	u     *upstream
	tries int
	out   bool // said that it cannot answer, or is not there
}

// attempt is what one upstream said.
type attempt struct {
	i    int
	resp []byte
	err  error
}

// race asks several upstreams for the same answer.
type race struct {
	f       *forwarder
	list    *upstreams
	j       *job
	end     time.Time
	cands   []candidate
	results chan attempt
}

// begin prepares asking an upstream.
func (r *race) begin(u *upstream) *exchange { return r.f.begin(r.list, u, r.j, r.end) }

// run goes on after the first attempt: x when it is under way, otherwise it has failed.
func (r *race) run(ctx context.Context, start, first int, x *exchange, failed attempt) ([]byte, error) {
	ctx, cancel := context.WithDeadline(ctx, r.end)
	defer cancel()
	attempts := r.list.conf.attempts
	or(&attempts, defaultAttempts)
	for i := range r.list.servers {
		u := r.list.at(start, i)
		r.cands = append(r.cands, candidate{u: u, out: i != first && !u.usable()})
	}
	r.results = make(chan attempt, len(r.cands)*attempts) // room for all: an attempt never waits for us
	hedge := time.NewTimer(r.f.cfg.HedgeDelay)
	defer hedge.Stop()
	if x != nil {
		hedge.Reset(r.f.cfg.HedgeDelay - time.Since(x.start))
		r.launch(ctx, first, x)
	} else {
		r.cands[first].tries++
		r.results <- failed
	}
	var refusal []byte
	for waiting := 1; waiting > 0; {
		select {
		case a := <-r.results:
			waiting--
			if a.err == nil {
				return a.resp, nil
			}
			if a.resp != nil {
				refusal = a.resp
				r.cands[a.i].out = true
			}
			// The hedge has asked already whom this failure would make us ask.
			if i := pick(r.cands, attempts); waiting == 0 && i >= 0 {
				r.launch(ctx, i, nil)
				waiting++
				hedge.Reset(r.f.cfg.HedgeDelay)
			}
		case <-hedge.C:
			if i := pick(r.cands, 1); i >= 0 {
				r.launch(ctx, i, nil)
				waiting++
				hedge.Reset(r.f.cfg.HedgeDelay)
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

// launch asks candidate i, or goes on with asking it.
func (r *race) launch(ctx context.Context, i int, x *exchange) {
	r.cands[i].tries++
	if x == nil {
		x = r.begin(r.cands[i].u)
	}
	r.f.wg.Go(func() {
		resp, err := x.finish(ctx)
		r.f.judge(ctx, r.list, x, resp, err)
		r.results <- attempt{i, resp, err}
	})
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

// begin prepares asking an upstream, for no longer than until end.
func (f *forwarder) begin(list *upstreams, u *upstream, j *job, end time.Time) *exchange {
	timeout := f.cfg.AttemptTimeout
	if list.conf.timeout > 0 {
		timeout = list.conf.timeout
	}
	now := time.Now()
	x := &exchange{
		j: j, u: u, sockets: &f.sockets, start: now, deadline: earlier(now.Add(timeout), end), tcp: j.tcp || list.conf.useTCP || len(j.msg) > maxUDP,
	}
	x.step = j.trace.begin(x)
	return x
}

// judge notes how an attempt went.
func (f *forwarder) judge(ctx context.Context, list *upstreams, x *exchange, resp []byte, err error) {
	u, took := x.u, time.Since(x.start)
	overtaken := resp == nil && errors.Is(ctx.Err(), context.Canceled) // by another one, or we are stopping
	if !overtaken {
		x.j.trace.end(x, took, resp, err)
	}
	u.queries.Add(1)
	switch {
	case resp != nil:
		f.m.upstreamDuration.Observe(took.Seconds())
		u.metrics.latency.Observe(took.Seconds())
		u.took(took)
		if u.good() {
			f.wentUp(u)
		}
	case errors.Is(err, errLoop):
		return
	case overtaken && took < f.cfg.HedgeDelay:
		return // this says nothing about the upstream
	}
	if err == nil {
		return
	}
	f.m.upstreamFailures.Inc()
	u.metrics.failures.Inc()
	u.fault(err)
	if resp == nil {
		if down, probe := u.silent(x.start, err); down {
			f.wentDown(list, u, err, probe) //nolint:contextcheck // probing outlives the query: it ends with the list
		}
	}
}
