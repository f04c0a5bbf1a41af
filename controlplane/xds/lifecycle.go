package xds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/resource"
)

// LifecycleConfig is what a Lifecycle needs.
type LifecycleConfig struct {
	Store store.Store
	Zone  resource.ZoneInfo
	// Kind is what the proxies are: Dataplane (also when empty), ZoneIngress or ZoneEgress.
	Kind resource.Kind
	// Joining is told which proxies have registered while their Envoy does not listen yet, and when it does
	// (topology.Tracker.SetJoining). It must not block; nil is told nothing.
	Joining func(id topology.ProxyID, joining bool)
	// InstanceID is this control plane in subscriptions.
	InstanceID string
	// Version is the control plane's, for the compatibility of agents.
	Version string
	// Deregistration is how long a Dataplane that came with its proxy stays after the last stream; 10 s when 0 (contract
	// agent.md §5, KUMA_XDS_DATAPLANE_DEREGISTRATION_DELAY).
	Deregistration time.Duration
	// Flush is the least time between two writes of a proxy's counters; 10 s when 0.
	Flush time.Duration
	// Log is silent when nil.
	Log *slog.Logger
}

// Lifecycle keeps Dataplanes and DataplaneInsights of the store in step with the streams of proxies (contract
// controlplane.md §1.4, §1.7). It is safe for concurrent use.
type Lifecycle struct {
	cfg LifecycleConfig
	log *slog.Logger

	// removal is held from the look whether a proxy is back until its Dataplane is deleted, and while one arrives: whoever
	// arrives later writes its Dataplane anew. It is taken before mu.
	removal sync.Mutex

	mu      sync.Mutex
	proxies map[topology.ProxyID]*presence
	joining map[topology.ProxyID]bool
	dirty   map[*subscription]bool // counters changed since they were written
	ended   []*subscription        // to be written at once
	leaving []topology.ProxyID     // Dataplanes whose time is over
	flush   *time.Timer            // set while dirty is not empty
	wake    chan struct{}
}

// presence is one proxy with streams, or one that had some a moment ago.
type presence struct {
	streams int
	// brought: the Dataplane came with the proxy and goes with it.
	brought bool
	leave   *time.Timer
}

// NewLifecycle makes a Lifecycle; its Run must run while streams are served.
func NewLifecycle(cfg LifecycleConfig) *Lifecycle {
	if cfg.Kind == "" {
		cfg.Kind = resource.KindDataplane
	}
	if cfg.Deregistration == 0 {
		cfg.Deregistration = 10 * time.Second
	}
	if cfg.Flush == 0 {
		cfg.Flush = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Lifecycle{
		cfg: cfg, log: cfg.Log, proxies: map[topology.ProxyID]*presence{}, joining: map[topology.ProxyID]bool{}, dirty: map[*subscription]bool{},
		wake: make(chan struct{}, 1),
	}
}

// Run writes what streams report until ctx ends. Then it writes the ends that it knows of, and takes no Dataplane away:
// a control plane that stops says nothing about its proxies.
func (l *Lifecycle) Run(ctx context.Context) error {
	l.closeStale(ctx)
	// What has been taken out of the lists is written even if ctx ends meanwhile: writes are short.
	whole := context.WithoutCancel(ctx)
	for {
		select {
		case <-ctx.Done():
			l.mu.Lock()
			for _, p := range l.proxies {
				if p.leave != nil {
					p.leave.Stop()
				}
			}
			if l.flush != nil {
				l.flush.Stop()
			}
			l.leaving = nil
			l.mu.Unlock()
			l.write(whole)
			return nil
		case <-l.wake:
			l.write(whole)
		}
	}
}

// Register stores the Dataplane that the proxy brought along, or checks that there is one, and opens a subscription in
// its insight (contract agent.md §5).
func (l *Lifecycle) Register(ctx context.Context, node *Node) (Subscription, error) {
	if (node.ID.Mesh == "") != (l.cfg.Kind != resource.KindDataplane) {
		return nil, fmt.Errorf("node id %s.%s is not that of a %s", node.ID.Mesh, node.ID.Name, l.cfg.Kind)
	}
	brought, err := node.Dataplane()
	if err != nil {
		return nil, fmt.Errorf("read the Dataplane of the node metadata: %w", err)
	}
	op, err := l.prepare(node, brought) // before the proxy counts as one that is there
	if err != nil {
		return nil, err
	}
	var write func(again bool) (store.Op, error)
	if brought != nil {
		write = func(again bool) (store.Op, error) {
			if again {
				return l.prepare(node, brought)
			}
			return op, nil
		}
	}
	l.arrive(node, brought != nil)
	sub := newSubscription(l, node, brought != nil)
	if err := l.commit(ctx, sub, write); err != nil {
		l.depart(node.ID, false)
		return nil, fmt.Errorf("register proxy %s.%s: %w", node.ID.Mesh, node.ID.Name, err)
	}
	l.registered(node.ID, brought != nil)
	return sub, nil
}

// prepare checks that a proxy may have the Dataplane that is stored, and the one that it brought along if any. It returns the
// write of the latter, which fails when what is stored is not what was looked at.
func (l *Lifecycle) prepare(node *Node, brought *resource.Resource) (store.Op, error) {
	stored, err := l.cfg.Store.Get(l.key(node.ID))
	switch {
	case err == nil:
		if err := permitted(node, stored); err != nil {
			return store.Op{}, err
		}
	case !errors.Is(err, store.ErrNotFound):
		return store.Op{}, fmt.Errorf("read the Dataplane of the proxy: %w", err)
	case brought == nil:
		return store.Op{}, fmt.Errorf(`resource "%s.%s" not found; create a %s in Kuma CP first or pass it as an argument to kuma-dp`,
			node.ID.Mesh, node.ID.Name, l.cfg.Kind)
	default:
		stored = nil
	}
	if brought == nil {
		return store.Op{}, nil
	}
	if err := permitted(node, brought); err != nil {
		return store.Op{}, err
	}
	next, err := l.complete(node, brought.Clone(), stored)
	if err != nil {
		return store.Op{}, err
	}
	if stored == nil {
		return store.Op{Action: store.Create, Resource: next}, nil
	}
	return store.Op{Action: store.Update, Resource: next, ExpectVersion: stored.Version}, nil
}

// complete checks that a Dataplane is the proxy's own and valid, and gives it its labels and what is computed of the stored
// one, nil when there is none.
func (l *Lifecycle) complete(node *Node, dp, stored *resource.Resource) (*resource.Resource, error) {
	if dp.Key != l.key(node.ID) {
		return nil, fmt.Errorf("node %s.%s brought another resource along: %s", node.ID.Mesh, node.ID.Name, dp.Key)
	}
	resource.ComputeLabels(dp, l.cfg.Zone)
	faults := resource.ValidateUpdate(dp)
	faults = append(faults, resource.ValidateLabels(dp, l.cfg.Zone)...)
	if len(faults) > 0 {
		return nil, fmt.Errorf("the %s of the node metadata is not valid: %s %s", l.cfg.Kind, faults[0].Field, faults[0].Reason)
	}
	if stored != nil {
		resource.KeepComputed(stored, dp)
	}
	resource.SetDefaults(dp, l.cfg.Zone)
	if node.ID.Mesh == "" {
		return dp, nil
	}
	if _, err := l.cfg.Store.Get(resource.Key{Kind: resource.KindMesh, Name: node.ID.Mesh}); err != nil {
		return nil, fmt.Errorf("find mesh %s of the proxy: %w", node.ID.Mesh, err)
	}
	return dp, nil
}

func (l *Lifecycle) key(id topology.ProxyID) resource.Key {
	return resource.Key{Kind: l.cfg.Kind, Mesh: id.Mesh, Name: id.Name}
}

func (l *Lifecycle) arrive(node *Node, brought bool) {
	id := node.ID
	l.removal.Lock()
	defer l.removal.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.proxies[id]
	if p == nil {
		p = &presence{}
		l.proxies[id] = p
	}
	p.streams++
	if brought && node.Fresh {
		l.hold(id)
	}
	if p.leave != nil {
		p.leave.Stop()
		p.leave = nil
	}
}

// registered notes whether the Dataplane of a proxy goes with it: not before it is the proxy's, or a stream that is refused
// would take another's away.
func (l *Lifecycle) registered(id topology.ProxyID, brought bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.proxies[id].brought = brought
}

// depart starts the time after which the Dataplane goes, unless it is the control plane that goes.
func (l *Lifecycle) depart(id topology.ProxyID, stopping bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.proxies[id]
	p.streams--
	switch {
	case p.streams > 0:
	case !p.brought || stopping:
		delete(l.proxies, id)
		if !stopping {
			l.settle(id)
		}
	default:
		var t *time.Timer
		t = time.AfterFunc(l.cfg.Deregistration, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if p.leave == t { // else somebody came, or it stopped too late
				delete(l.proxies, id)
				l.leaving = append(l.leaving, id)
				l.signal()
			}
		})
		p.leave = t
	}
}

func (l *Lifecycle) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// write brings ended subscriptions, counters and departures to the store.
func (l *Lifecycle) write(ctx context.Context) {
	l.mu.Lock()
	subs, leaving := l.ended, l.leaving
	l.ended, l.leaving = nil, nil
	if l.flush == nil { // its time has come
		for s := range l.dirty {
			if !s.over {
				subs = append(subs, s)
			}
			delete(l.dirty, s)
		}
	}
	l.mu.Unlock()
	for _, s := range subs {
		if err := l.commit(ctx, s, nil); err != nil && ctx.Err() == nil {
			l.log.Warn("could not write the insight of a proxy", "mesh", s.id.Mesh, "proxy", s.id.Name, "error", err)
		}
	}
	for _, id := range leaving {
		l.remove(ctx, id)
	}
}

// remove deletes a Dataplane unless its proxy has come back in the meantime.
func (l *Lifecycle) remove(ctx context.Context, id topology.ProxyID) {
	l.removal.Lock()
	defer l.removal.Unlock()
	l.mu.Lock()
	back := l.proxies[id] != nil
	l.mu.Unlock()
	if back {
		return
	}
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.settle(id)
	}()
	gone := &resource.Resource{Meta: resource.Meta{Key: l.key(id)}}
	_, err := l.cfg.Store.Commit(ctx, store.Op{Action: store.Delete, Resource: gone})
	switch {
	case err == nil:
		l.log.Info("proxy left", "kind", l.cfg.Kind, "mesh", id.Mesh, "proxy", id.Name)
	case errors.Is(err, store.ErrNotFound):
	case ctx.Err() == nil:
		l.log.Error("could not delete the resource of a proxy that left", "kind", l.cfg.Kind, "mesh", id.Mesh, "proxy", id.Name, "error", err)
	}
}
