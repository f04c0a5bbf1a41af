// Package nametable finds the table of the mesh's names for the resolver, wherever the control plane puts it
// (contract dns.md §0): in the listener kuma:dns, which the relay reads as it passes (our own and 2.9 to 2.13), or in the
// answer to GET /dns that Envoy gives on a unix socket (2.10 and later).
package nametable

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kuma-dp/kuma-dp/agent/relay"
	"github.com/kuma-dp/kuma-dp/dns"
)

// Where a table comes from, as it is shown to people.
const (
	FromListener = "listener kuma:dns"
	FromRoute    = "GET /dns"
	FromNowhere  = "the control plane sends no names"
)

// patience is how long a workload waits for its first table once the control plane has said where it is; then it runs
// without, as in Kuma (contract dns.md §3.2).
const patience = 15 * time.Second

// Config says what Tables need.
type Config struct {
	// Socket is where Envoy answers GET /dns.
	Socket string
	// Refresh is how often it is asked when nothing seems to have changed.
	Refresh time.Duration
	// Set takes a table, in order. It must not call Tables.
	Set func(table *dns.Table, source string)
	// Labels, when not nil, takes the labels that the control plane wants on the resolver's metrics.
	Labels func(map[string]string)
	// Metrics is where the metrics are registered; nil: nowhere.
	Metrics prometheus.Registerer
	// Log is silent when nil.
	Log *slog.Logger
}

// Tables follows the sources. Its methods are safe for concurrent use.
type Tables struct {
	cfg   Config
	route route
	kick  chan struct{} // the listener that answers GET /dns has changed

	mu       sync.Mutex
	listener bool // the control plane sends kuma:dns: nothing else counts
	routed   bool // the listener that answers GET /dns is there
	told     bool // a source has been named
	loaded   bool // Set has been called, if only because nothing came
	other    bool // the table in use is not the route's
}

// New makes Tables without a source. It fails when a metric cannot be registered.
func New(cfg Config) (*Tables, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	t := &Tables{cfg: cfg, kick: make(chan struct{}, 1)}
	return t, t.route.init(cfg.Socket, cfg.Metrics)
}

// Listener takes the records of kuma:dns; nil says that the control plane sends no such listener.
func (t *Tables) Listener(records []relay.DNSRecord) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.told, t.listener = true, records != nil
	switch {
	case t.listener:
		t.set(table(records), FromListener)
	case t.routed:
		t.wake() // what there is stays until the route has answered
	default:
		t.set(dns.NewTable(nil, dns.DefaultTTL), FromNowhere)
	}
}

// Route says whether the listener that answers GET /dns is there, each time that it has changed.
func (t *Tables) Route(there bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.told, t.routed = true, there
	t.wake()
}

// Missing says what a workload waits for, "" when for nothing.
func (t *Tables) Missing() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.loaded || !t.told { // before that the relay misses more than names
		return ""
	}
	return "envoy has not answered GET /dns with the names of the mesh"
}

func (t *Tables) set(table *dns.Table, source string) {
	t.loaded, t.other = true, source != FromRoute
	t.cfg.Set(table, source)
}

func (t *Tables) wake() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// asks says whether the route is the source, and whether its answer of before is in use.
func (t *Tables) asks() (yes, current bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.routed && !t.listener, !t.other
}

// Run asks the route until ctx ends, for as long as it is the source: at once when its listener has changed, again soon
// when Envoy still gives the answer of before, and every Refresh.
func (t *Tables) Run(ctx context.Context) error {
	defer t.route.close()
	next := time.NewTimer(0)
	defer next.Stop()
	var waits time.Time // since when there has been a route but no table
	soon := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.kick:
			soon = 0
		case <-next.C:
		}
		yes, current := t.asks()
		if !current {
			t.route.forget()
		}
		if !yes {
			next.Stop()
			waits = time.Time{}
			continue
		}
		if waits.IsZero() {
			waits = time.Now()
		}
		if t.ask(ctx) {
			soon = len(pauses)
		} else {
			t.giveUp(time.Since(waits))
		}
		pause := t.cfg.Refresh
		if soon < len(pauses) {
			pause = min(pause, pauses[soon])
			soon++
		}
		next.Reset(pause)
	}
}

// pauses between questions after the listener has changed, while Envoy has not taken the change: it acknowledges one
// before its workers have it.
var pauses = []time.Duration{5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond}

// ask returns whether there was a new table.
func (t *Tables) ask(ctx context.Context) bool {
	doc, err := t.route.fetch(ctx)
	if err != nil {
		t.cfg.Log.Warn("the names of the mesh stay as they were", "reason", err.Error())
		return false
	}
	if doc == nil {
		return false
	}
	table, skipped := doc.table()
	if len(skipped) > 0 {
		t.cfg.Log.Warn("addresses of names are left out", "count", len(skipped), "first", skipped[0])
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.listener {
		return false // meanwhile
	}
	if t.cfg.Labels != nil {
		t.cfg.Labels(doc.ExtraLabels)
	}
	t.set(table, FromRoute)
	t.route.applied()
	return true
}

// giveUp ends the wait for a route that has nothing to say.
func (t *Tables) giveUp(waited time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.loaded || waited < patience {
		return
	}
	t.cfg.Log.Warn("envoy gives no names of the mesh: going on without", "waited", waited.Round(time.Second))
	t.set(dns.NewTable(nil, dns.DefaultTTL), FromNowhere)
}

// table makes the resolver's table of what the relay read.
func table(records []relay.DNSRecord) *dns.Table {
	ttl := dns.DefaultTTL
	list := make([]dns.Record, 0, len(records))
	for i, r := range records {
		if r.TTL > 0 && (i == 0 || r.TTL < ttl) {
			ttl = r.TTL // there is one for the whole table: the shortest
		}
		list = append(list, dns.Record{Name: r.Name, Addrs: r.Addresses})
	}
	return dns.NewTable(list, ttl)
}
