// Package mtls counts the connections to a workload that come with an identity of the mesh and those that do not, so that people
// can turn strict mTLS on knowing who would break (docs/guides/progressively-rolling-in-strict-mtls.md).
//
// It adds access logs to inbound listeners on their way to Envoy, takes what Envoy sends of them, asks Envoy's own statistics
// for what came with mTLS, and tells the control plane. None of it needs a control plane that knows of it.
package mtls

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
)

// Config says what a Monitor needs.
type Config struct {
	// Cluster is the static cluster by which Envoy reaches the relay.
	Cluster string
	// Stats asks Envoy's admin interface.
	Stats func(ctx context.Context, pathAndQuery string) (io.ReadCloser, error)
	// Conn is the connection to the control plane, Node <mesh>.<name>, and Token gives the credential, read anew for each
	// report; nil or "" sends none.
	Conn  grpc.ClientConnInterface
	Node  string
	Token func() (string, error)
	// Now is time.Now when nil.
	Now func() time.Time
	// Log is told of listeners that cannot be read and of reports that are refused; nil is silent.
	Log *slog.Logger
}

// Monitor watches one proxy. Its methods may be called concurrently.
type Monitor struct {
	cfg   Config
	write rewriter
	log   *slog.Logger
	since time.Time
	wake  chan struct{} // holds a token when there is something to report
	hurry chan struct{} // holds one when it should not wait
	anew  chan struct{} // holds one when the control plane is there anew

	mu       sync.Mutex
	inbounds map[string]*inbound // by the listener's name
}

// New makes a Monitor; Run sends its reports.
func New(cfg Config) (*Monitor, error) {
	if cfg.Cluster == "" || cfg.Stats == nil || cfg.Conn == nil || cfg.Node == "" {
		return nil, errors.New("make mTLS monitor: cluster, statistics, connection and node are needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	m := &Monitor{
		cfg: cfg, write: rewriter{cfg.Cluster}, log: cfg.Log, inbounds: map[string]*inbound{},
		wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), anew: make(chan struct{}, 1),
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.since = m.now()
	return m, nil
}

// now is without the monotonic reading: times are compared with those of other clocks.
func (m *Monitor) now() time.Time { return m.cfg.Now().Round(0).UTC() }

// Listener takes a Listener on its way to Envoy and returns what Envoy is to get in its place: the same bytes unless it is one
// in front of the workload in a mesh with mTLS. One that cannot be read passes as it is. It does not block.
func (m *Monitor) Listener(name string, body []byte) []byte {
	if !inFront(name) {
		return body
	}
	l, next, err := m.write.listener(name, body)
	if err != nil {
		m.log.Warn("connections of an inbound are not counted: its listener cannot be read", "listener", name, "reason", err.Error())
		return body
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if in := m.inbounds[name]; in != nil {
		if in.mode != l.mode {
			m.poke(true)
		}
		in.listener = *l
	} else {
		m.inbounds[name] = newInbound(*l, m.now())
		m.poke(true)
	}
	return next
}

// Listeners is told after each change which listeners there are. It does not block.
func (m *Monitor) Listeners(there func(name string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.inbounds {
		if !there(name) {
			delete(m.inbounds, name)
			m.poke(true)
		}
	}
}

// Connected says that the control plane is there anew and may know nothing. It does not block.
func (m *Monitor) Connected() {
	signal(m.anew)
	m.poke(true)
}

// poke wakes Run. It never blocks.
func (m *Monitor) poke(hurry bool) {
	if hurry {
		signal(m.hurry)
	}
	signal(m.wake)
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// AccessLog returns what takes the messages of one of Envoy's access log streams, in order.
func (m *Monitor) AccessLog() func(message []byte) error {
	var of, name string
	return func(message []byte) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		now := m.now()
		return entries(message, func(log string) { of, name = splitLogName(log) }, func(e entry) {
			if in := m.inbounds[name]; in != nil {
				m.poke(in.take(of, e, now))
			}
		})
	}
}

// report tells what has been counted here and, in counts, by Envoy, with at most so many peers of an inbound.
func (m *Monitor) report(counts map[netip.AddrPort]mtlsreport.Count, peers int) *mtlsreport.Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	r := &mtlsreport.Report{At: now, Since: m.since, Inbounds: []mtlsreport.Inbound{}}
	for _, name := range slices.Sorted(maps.Keys(m.inbounds)) {
		one := m.inbounds[name].report(now)
		if n := len(one.Peers) - peers; n > 0 {
			one.Peers = one.Peers[:peers]
			one.Forgotten += uint64(n)
		}
		one.MTLS = counts[one.Address]
		r.Inbounds = append(r.Inbounds, one)
	}
	slices.SortFunc(r.Inbounds, func(a, b mtlsreport.Inbound) int {
		return cmp.Or(cmp.Compare(a.Address.Port(), b.Address.Port()), a.Address.Compare(b.Address))
	})
	return r
}

// Report tells all that is known now. The error says why what only Envoy's statistics know is missing in it.
func (m *Monitor) Report(ctx context.Context) (*mtlsreport.Report, error) {
	counts, err := m.counts(ctx)
	return m.report(counts, mtlsreport.MaxPeers), err
}
