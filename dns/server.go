package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Server answers queries over UDP and TCP. Its methods are safe for concurrent use, except Listen and Run, which are called
// once and in this order.
type Server struct {
	cfg         Config
	responder   responder
	fwd         forwarder
	log         *queryLog // nil: none
	m           *metrics
	socks       []socket
	drops       drops
	inflight    chan struct{} // one token for each query that waits for upstreams
	ready       chan struct{}
	tableLoaded chan struct{}
	firstTable  sync.Once
	created     time.Time
	tasks       sync.WaitGroup // everything that answers

	tableLoads   atomic.Uint64
	tableChanged atomic.Pointer[time.Time]
	tableSource  atomic.Pointer[string]
}

// New makes a server. It fails when the configuration is invalid or a metric cannot be registered.
func New(cfg Config) (*Server, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configure resolver: %w", err)
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("register metrics of resolver: %w", err)
	}
	s := &Server{
		cfg:         cfg,
		m:           m,
		inflight:    make(chan struct{}, cfg.MaxInflight),
		ready:       make(chan struct{}),
		tableLoaded: make(chan struct{}),
		created:     time.Now(),
	}
	for _, suffix := range cfg.HoldSuffixes {
		packed, err := packName(suffix)
		if err != nil {
			return nil, fmt.Errorf("configure resolver: HoldSuffixes: %w", err)
		}
		s.responder.hold = append(s.responder.hold, fold([]byte(packed)))
	}
	s.fwd.init(&cfg, m)
	s.log = newQueryLog(&cfg, m)
	if err := s.registerState(cfg.Metrics); err != nil {
		return nil, fmt.Errorf("register metrics of resolver: %w", err)
	}
	return s, nil
}

// SetTable makes t what names of the mesh resolve to, from the next query on. Queries being answered see the table before or
// this one, never a mixture. nil is not allowed.
func (s *Server) SetTable(t *Table) {
	now := time.Now()
	s.tableChanged.Store(&now)
	s.tableLoads.Add(1)
	s.responder.table.Store(t)
	s.m.entries.Set(float64(t.Len()))
	if len(t.skipped) > 0 {
		s.cfg.Log.Warn("names of the mesh cannot be served", slog.Int("count", len(t.skipped)), slog.Any("first", t.skipped[0]))
	}
	s.firstTable.Do(func() {
		s.m.tableWait.Observe(time.Since(s.created).Seconds())
		close(s.tableLoaded)
	})
}

// Table returns the table in use, nil before the first SetTable.
func (s *Server) Table() *Table { return s.responder.table.Load() }

// Ready is closed once queries are being answered.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// TableLoaded is closed once the first table is there.
func (s *Server) TableLoaded() <-chan struct{} { return s.tableLoaded }

// Upstreams returns the addresses of the servers that other names are forwarded to, in order, without those that turned out
// to be this resolver. It is empty before Run.
func (s *Server) Upstreams() []netip.AddrPort {
	list := s.fwd.list.Load()
	if list == nil {
		return nil
	}
	var out []netip.AddrPort
	for _, u := range list.servers {
		if !u.looped.Load() {
			out = append(out, u.addr)
		}
	}
	return out
}

// Run answers queries until ctx ends, which is no error, or a socket fails. It binds the sockets when Listen has not. When
// it returns all sockets are closed and nothing of the server runs any more; queries that waited for upstreams are dropped.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(); err != nil { //nolint:contextcheck // binding does not wait
		return err
	}
	parent := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var loops sync.WaitGroup
	if s.log != nil {
		defer s.startLog()()
	}
	s.startForwarding(ctx, &loops)
	for _, so := range s.socks {
		for _, conn := range so.readers() {
			loops.Go(func() {
				if err := s.serveUDP(ctx, conn, so.any); err != nil {
					cancel(err)
				}
			})
		}
		loops.Go(func() {
			if err := s.serveTCP(ctx, so.tcp, so.any); err != nil {
				cancel(err)
			}
		})
	}
	close(s.ready)
	s.cfg.Log.Info("resolver started", slog.Any("addresses", s.Addrs()))
	<-ctx.Done()
	s.closeListeners() // readers of UDP close their sockets themselves
	s.fwd.sockets.interrupt(nil)
	loops.Wait()
	s.tasks.Wait()
	s.fwd.wg.Wait()
	if parent.Err() != nil {
		return nil
	}
	return fmt.Errorf("run resolver: %w", context.Cause(ctx))
}

// startLog writes the query log until the function it returns is called, which returns when all is written.
func (s *Server) startLog() (stop func()) {
	done, written := make(chan struct{}), make(chan struct{})
	go func() {
		s.log.run(done)
		close(written)
	}()
	return func() {
		close(done)
		<-written
	}
}

// startForwarding finds the upstreams and keeps the list up to date.
func (s *Server) startForwarding(ctx context.Context, loops *sync.WaitGroup) {
	s.fwd.live(ctx, s.Addrs())
	if len(s.cfg.Upstreams) > 0 {
		s.fwd.use(ctx, resolvConf{servers: s.cfg.Upstreams})
		return
	}
	read := func() {
		conf, err := readUpstreams(s.cfg.ResolvConf, s.cfg.SystemdConf)
		if err != nil {
			s.cfg.Log.Warn("upstream name servers are not known", slog.Any("error", err))
			if s.fwd.list.Load() != nil {
				return // those known before are better than none
			}
		}
		s.fwd.use(ctx, conf)
	}
	read()
	loops.Go(func() {
		if err := watch(ctx, read, s.cfg.ResolvConf, s.cfg.SystemdConf); err != nil {
			s.cfg.Log.Warn("changes of upstream name servers go unnoticed until a restart", slog.Any("error", err))
		}
	})
}

// forward answers a query from the upstreams, or says that they cannot. It appends to out.
func (s *Server) forward(ctx context.Context, out, msg []byte, q *query, tcp bool) []byte {
	if s.fwd.isCanary(q.name()) {
		return appendEmpty(out, msg, q, rcodeServFail, edeNoReach)
	}
	answer, err := s.fwd.answer(ctx, out, msg, q, tcp)
	if err != nil {
		ede := uint16(edeNetwork)
		if len(s.Upstreams()) == 0 {
			ede = edeNoReach
		}
		return appendEmpty(out, msg, q, rcodeServFail, ede)
	}
	return answer
}

// admits says whether a query to a socket that is bound to all addresses is answered: it comes from this host, where
// redirection leads it to a loopback address, or from one of Config.Networks.
func (s *Server) admits(src, dst netip.Addr) bool {
	if len(s.cfg.Networks) == 0 || dst.IsLoopback() {
		return true
	}
	src = src.Unmap()
	for _, p := range s.cfg.Networks {
		if p.Contains(src) {
			return true
		}
	}
	s.m.strangers.Inc()
	return false
}

// acquire takes a token for forwarding; release returns it. It never waits: a client whose query cannot be forwarded now
// gains nothing from a late answer.
func (s *Server) acquire() bool {
	select {
	case s.inflight <- struct{}{}:
		return true
	default:
		s.m.limited.Inc()
		return false
	}
}

func (s *Server) release() { <-s.inflight }
