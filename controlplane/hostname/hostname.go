// Package hostname gives every service its virtual address and its hostnames: VIPs out of a range of its kind (MeshService,
// MeshExternalService, MeshMultiZoneService), names by the HostnameGenerators that select it (contract dns.md §1, §2.2). Both live in the status of the service and nowhere else,
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
	"github.com/kuma-dp/kuma-dp/internal/group"
	"github.com/kuma-dp/kuma-dp/resource"
)

// The ranges of VIPs, by kind of service (contract dns.md §2.1).
const (
	DefaultCIDR          = "241.0.0.0/8" // of MeshService
	DefaultExternalCIDR  = "242.0.0.0/8"
	DefaultMultiZoneCIDR = "243.0.0.0/8"
)

// retryAfter is how long to wait after the store refused a write for its own reasons (a full disk).
const retryAfter = time.Second

// Config is what an Assigner needs.
type Config struct {
	Store store.Store
	// Zone is the name of the local zone, `.Zone` of services without the label.
	Zone string
	// CIDR, ExternalCIDR and MultiZoneCIDR are where the VIPs of MeshService, MeshExternalService and MeshMultiZoneService
	// come from; the defaults when they are empty. With a range of IPv4 and one of IPv6, a service gets an address of each;
	// not so MeshExternalService, in whose status is room for one. They must not overlap: services would share addresses.
	// Changing one does not re-address services.
	CIDR, ExternalCIDR, MultiZoneCIDR []netip.Prefix
	// LegacyCIDR is where the addresses of kuma.io/service values come from, DefaultLegacyCIDR when it is the zero value; it
	// may contain the other ranges but not begin in one. LegacyPort is their port, DefaultLegacyPort when it is 0.
	LegacyCIDR netip.Prefix
	LegacyPort uint32
	// NoLegacy leaves kuma.io/service values without addresses.
	NoLegacy bool
	// Log is silent when nil.
	Log *slog.Logger
}

// Assigner writes VIPs, hostnames and conditions into the status of services as soon as these, or the generators, change.
type Assigner struct {
	store store.Store
	log   *slog.Logger
	plans []*plan
	// legacy is nil when it is off.
	legacy *legacy
	// starved is how many services of each kind were without address when it was last logged.
	starved map[resource.Kind]int
}

// New fails when a range is not valid, or overlaps another.
func New(cfg Config) (*Assigner, error) {
	a := &Assigner{
		store: cfg.Store, starved: map[resource.Kind]int{},
		log: cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)).With("component", "hostname"),
	}
	for _, k := range []struct {
		*serviceKind
		ranges []netip.Prefix
		usual  string
	}{ // in the order in which 2.9 looks at them (contract dns.md §1.5)
		{external(), cfg.ExternalCIDR, DefaultExternalCIDR}, {meshService(), cfg.CIDR, DefaultCIDR}, {multiZone(), cfg.MultiZoneCIDR, DefaultMultiZoneCIDR},
	} {
		if len(k.ranges) == 0 {
			k.ranges = []netip.Prefix{netip.MustParsePrefix(k.usual)}
		}
		p := newPlan(k.serviceKind, cfg.Zone)
		for _, r := range k.ranges {
			pool, err := newPool(r)
			if err != nil {
				return nil, fmt.Errorf("addresses of %s: %w", k.kind, err)
			}
			if err := a.separate(k.kind, pool.prefix); err != nil {
				return nil, err
			}
			p.pools = append(p.pools, pool)
		}
		switch n := len(p.pools); {
		case n > 1 && k.kind == resource.KindMeshExternalService:
			return nil, fmt.Errorf("addresses of %s: there are %d ranges: give one, such a service has one address", k.kind, n)
		case n > 2 || n == 2 && p.pools[0].prefix.Addr().Is4() == p.pools[1].prefix.Addr().Is4():
			return nil, fmt.Errorf("addresses of %s: there are %d ranges: give one, or one of IPv4 and one of IPv6", k.kind, n)
		}
		a.plans = append(a.plans, p)
	}
	if !cfg.NoLegacy {
		prefix := cmp.Or(cfg.LegacyCIDR, netip.MustParsePrefix(DefaultLegacyCIDR))
		if !prefix.IsValid() {
			return nil, errors.New("addresses of kuma.io/service: the range is not valid")
		}
		for _, other := range a.plans {
			for _, pool := range other.pools {
				if pool.prefix.Contains(prefix.Masked().Addr()) {
					return nil, fmt.Errorf("addresses of kuma.io/service: the range %s begins in %s of %s: give it a range of its own",
						prefix, pool.prefix, other.of.kind)
				}
			}
		}
		a.legacy = newLegacy(cfg.Store, cfg.Zone, prefix.Masked(), cmp.Or(cfg.LegacyPort, DefaultLegacyPort), a.log)
	}
	return a, nil
}

// separate fails when a range overlaps one that a plan has.
func (a *Assigner) separate(kind resource.Kind, prefix netip.Prefix) error {
	for _, other := range a.plans {
		for _, pool := range other.pools {
			if prefix.Overlaps(pool.prefix) {
				return fmt.Errorf("addresses of %s: the range %s overlaps %s of %s: give each kind a range of its own",
					kind, prefix, pool.prefix, other.of.kind)
			}
		}
	}
	return nil
}

// Run follows the store until ctx ends (nil) or the store is closed (store.ErrClosed). It may be called once, and only
// one may run on a store: two would give away the same addresses.
func (a *Assigner) Run(ctx context.Context) error {
	members := []group.Member{{Name: "addresses and names of services", Run: a.run}}
	if a.legacy != nil {
		members = append(members, group.Member{Name: "addresses of kuma.io/service", Run: a.legacy.run})
	}
	return group.Run(ctx, members...)
}

func (a *Assigner) run(ctx context.Context) error {
	stored, w := a.store.Watch()
	defer w.Close()
	a.load(stored)
	pending := map[resource.Key]want{}
	for {
		for _, p := range a.plans {
			maps.Copy(pending, p.work())
		}
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
	services := map[resource.Kind][]*resource.Resource{}
	for _, r := range stored {
		if r.Kind == resource.KindHostnameGenerator {
			a.setGenerator(r)
		} else {
			services[r.Kind] = append(services[r.Kind], r)
		}
	}
	for _, p := range a.plans {
		p.load(services[p.of.kind])
	}
}

func (a *Assigner) setGenerator(r *resource.Resource) {
	for _, p := range a.plans {
		p.setGenerator(r)
	}
}

func (a *Assigner) take(ev store.Event) {
	k := key(ev)
	switch {
	case k.Kind == resource.KindHostnameGenerator && ev.New != nil:
		a.setGenerator(ev.New)
	case k.Kind == resource.KindHostnameGenerator:
		for _, p := range a.plans {
			p.removeGenerator(k.Name)
		}
	}
	for _, p := range a.plans {
		switch {
		case p.of.kind != k.Kind:
		case ev.New == nil:
			p.removeService(k)
		default:
			p.setService(ev.New)
		}
	}
}

// write brings the statuses in line, in one commit where nobody else writes at the same time.
func (a *Assigner) write(ctx context.Context, wants map[resource.Key]want) error {
	for _, p := range a.plans {
		if n := len(p.starved); n != a.starved[p.of.kind] {
			if a.starved[p.of.kind] = n; n > 0 {
				a.log.Error("no address is free, services stay without one: enlarge the range of the control plane",
					"kind", string(p.of.kind), "range", p.ranges(), "services", n)
			}
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
