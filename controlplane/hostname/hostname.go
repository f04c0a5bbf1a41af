// Package hostname gives every MeshService its virtual address and its hostnames: VIPs out of a range, names by the
// HostnameGenerators that select it (contract dns.md §1, §2.2). Both live in the status of the service and nowhere else,
// so that they survive a restart.
package hostname

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/service/writeback"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// DefaultCIDR is the range of MeshServices (contract dns.md §2.1).
const DefaultCIDR = "241.0.0.0/8"

// retryAfter is how long to wait after the store refused a write for its own reasons (a full disk).
const retryAfter = time.Second

// Config is what an Assigner needs.
type Config struct {
	Store store.Store
	// Zone is the name of the local zone, `.Zone` of services without the label.
	Zone string
	// CIDR is where VIPs come from; DefaultCIDR when it is the zero value. Changing it does not re-address services.
	CIDR netip.Prefix
	// Log is silent when nil.
	Log *slog.Logger
}

// Assigner writes VIPs, hostnames and conditions into the status of MeshServices as soon as these, or the generators,
// change.
type Assigner struct {
	store store.Store
	log   *slog.Logger
	plan  *plan
	// starved is how many services were without address when it was last logged.
	starved int
}

// New fails when the range is not valid.
func New(cfg Config) (*Assigner, error) {
	if cfg.CIDR == (netip.Prefix{}) {
		cfg.CIDR = netip.MustParsePrefix(DefaultCIDR)
	}
	pool, err := newPool(cfg.CIDR)
	if err != nil {
		return nil, fmt.Errorf("hostname: %w", err)
	}
	return &Assigner{
		store: cfg.Store, plan: newPlan(cfg.Zone, pool),
		log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)).With("component", "hostname"),
	}, nil
}

// Run follows the store until ctx ends (nil) or the store is closed (store.ErrClosed). It may be called once, and only
// one may run on a store: two would give away the same addresses.
func (a *Assigner) Run(ctx context.Context) error {
	stored, w := a.store.Watch()
	defer w.Close()
	a.load(stored)
	pending := map[resource.Key]want{}
	for {
		maps.Copy(pending, a.plan.work())
		err := a.write(ctx, pending)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, store.ErrClosed):
			return fmt.Errorf("assign hostnames: %w", err)
		case err != nil:
			a.log.Error("could not write addresses of services", "services", len(pending), "retry", retryAfter, "error", err)
		default:
			clear(pending)
		}
		events, err := next(ctx, w, len(pending) > 0)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("follow the store: %w", err)
		}
		for _, ev := range events {
			a.take(ev)
			delete(pending, key(ev)) // what is still to be done, work tells again
		}
	}
}

// next waits for events, but not longer than retryAfter when something is to be tried again.
func next(ctx context.Context, w store.Watcher, retry bool) ([]store.Event, error) {
	if !retry {
		return w.Next(ctx)
	}
	short, cancel := context.WithTimeout(ctx, retryAfter)
	defer cancel()
	events, err := w.Next(short)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, nil
	}
	return events, err
}

func key(ev store.Event) resource.Key {
	if ev.New != nil {
		return ev.New.Key
	}
	return ev.Old.Key
}

func (a *Assigner) load(stored []*resource.Resource) {
	var services []*resource.Resource
	for _, r := range stored {
		switch r.Kind {
		case resource.KindHostnameGenerator:
			a.plan.setGenerator(r)
		case resource.KindMeshService:
			services = append(services, r)
		}
	}
	a.plan.load(services)
}

func (a *Assigner) take(ev store.Event) {
	k := key(ev)
	switch {
	case k.Kind == resource.KindHostnameGenerator && ev.New == nil:
		a.plan.removeGenerator(k.Name)
	case k.Kind == resource.KindHostnameGenerator:
		a.plan.setGenerator(ev.New)
	case k.Kind != resource.KindMeshService:
	case ev.New == nil:
		a.plan.removeService(k)
	default:
		a.plan.setService(ev.New)
	}
}

// write brings the statuses in line, in one commit where nobody else writes at the same time.
func (a *Assigner) write(ctx context.Context, wants map[resource.Key]want) error {
	if n := len(a.plan.starved); n != a.starved {
		if a.starved = n; n > 0 {
			a.log.Error("no address is free, services stay without one: enlarge the range of the control plane",
				"range", a.plan.pool.prefix.String(), "services", n)
		}
	}
	keys := slices.SortedFunc(maps.Keys(wants), compare)
	return writeback.Commit(ctx, a.store, keys, func(k resource.Key, r *resource.Resource) store.Op {
		w := wants[k]
		if r == nil || !r.CreationTime.Equal(w.created) || w.in(r) {
			return store.Op{}
		}
		return store.Op{Action: store.Update, Resource: w.apply(r)}
	})
}
