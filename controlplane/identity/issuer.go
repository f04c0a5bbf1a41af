// Package identity is the certificate authority of every mesh: it keeps the authorities in the store, hands out trust
// bundles, and issues certificates to proxies, for their own key (a certificate request) or with a key made here (a
// kuma-dp of 2.9). Every name in a certificate comes from the registered Dataplane (contract controlplane.md §5).
package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Errors that callers branch on; they are wrapped with the mesh or proxy concerned.
var (
	// ErrDisabled: the mesh has no enabled backend.
	ErrDisabled = errors.New("mTLS is not enabled")
	// ErrNoApplications: the mesh does not want identities for applications.
	ErrNoApplications = errors.New("the mesh has no identities for applications: set mtls.applicationIdentities in the Mesh")
	// ErrUnknownProxy: the Dataplane is not registered.
	ErrUnknownProxy = errors.New("dataplane is not registered")
	// ErrBadRequest: the certificate request or the Dataplane's tags cannot become a certificate.
	ErrBadRequest = errors.New("no certificate can be made")
)

// Config is what an Issuer needs.
type Config struct {
	Store store.Store
	// Log is silent when nil.
	Log *slog.Logger
	// Now is time.Now when nil.
	Now func() time.Time
	// KeyType of the keys made here for proxies that bring none; RSA2048, as in 2.9, when empty.
	KeyType certs.KeyType
	// Changed is told of a mesh whose authority is another one although nothing in the store has changed: its files have. It must
	// not block. May be nil.
	Changed func(mesh string)
}

// Issuer issues identities. All methods are safe for concurrent use.
type Issuer struct {
	store   store.Store
	log     *slog.Logger
	now     func() time.Time
	keyType certs.KeyType
	changed func(mesh string)

	mu          sync.Mutex
	authorities map[backendKey]*authority
	readings    map[backendKey]uint64          // how often their files were read anew
	proxies     map[resource.Key]*proxy        // made here, by Dataplane
	waiters     map[resource.Key]chan struct{} // closed when the Dataplane appears
	limits      map[resource.Key]*bucket
}

// New makes an Issuer; it does nothing by itself until Run.
func New(cfg Config) *Issuer {
	i := &Issuer{
		store: cfg.Store, log: cfg.Log, now: cfg.Now, keyType: cfg.KeyType, changed: cfg.Changed,
		authorities: map[backendKey]*authority{}, readings: map[backendKey]uint64{}, proxies: map[resource.Key]*proxy{},
		waiters: map[resource.Key]chan struct{}{}, limits: map[resource.Key]*bucket{},
	}
	if i.log == nil {
		i.log = slog.New(slog.DiscardHandler)
	}
	if i.now == nil {
		i.now = time.Now
	}
	if i.keyType == "" {
		i.keyType = certs.RSA2048
	}
	if i.changed == nil {
		i.changed = func(string) {}
	}
	return i
}

// Run follows the store until ctx ends (nil) or the store is closed: it makes the authority of every mesh that enables
// mTLS by any way but the API, which does so itself with Ops, reads the files of provided ones again when they change, and
// forgets deleted proxies.
func (i *Issuer) Run(ctx context.Context) error {
	stored, w := i.store.Watch()
	defer w.Close()
	for _, r := range stored {
		i.seen(ctx, nil, r)
	}
	files := &watcher{issuer: i}
	defer files.end()
	files.follow(ctx)
	for {
		events, err := w.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("follow the store: %w", err)
		}
		meshes := false
		for _, ev := range events {
			i.seen(ctx, ev.Old, ev.New)
			meshes = meshes || cmp.Or(ev.New, ev.Old).Kind == resource.KindMesh
		}
		if meshes {
			files.follow(ctx)
		}
	}
}

func (i *Issuer) seen(ctx context.Context, old, new *resource.Resource) {
	switch {
	case new != nil && new.Kind == resource.KindMesh:
		if err := i.ensure(ctx, new); err != nil && ctx.Err() == nil {
			i.log.Error("could not make the authority of a mesh", "mesh", new.Name, "error", err)
		}
	case new != nil && new.Kind == resource.KindDataplane && old == nil:
		i.mu.Lock()
		defer i.mu.Unlock()
		if c := i.waiters[new.Key]; c != nil {
			close(c)
			delete(i.waiters, new.Key)
		}
	case old != nil && new == nil:
		i.mu.Lock()
		defer i.mu.Unlock()
		switch old.Kind {
		case resource.KindDataplane:
			delete(i.proxies, old.Key)
			delete(i.limits, old.Key)
		case resource.KindZoneEgress:
			maps.DeleteFunc(i.proxies, func(k resource.Key, _ *proxy) bool { return k.Kind == old.Kind && k.Name == old.Name })
		case resource.KindMesh:
			maps.DeleteFunc(i.authorities, func(k backendKey, _ *authority) bool { return k.mesh == old.Name })
			maps.DeleteFunc(i.proxies, func(k resource.Key, _ *proxy) bool { return k.Kind == resource.KindZoneEgress && k.Mesh == old.Name })
		}
	}
}

// ensure stores the authority that a mesh lacks.
func (i *Issuer) ensure(ctx context.Context, mesh *resource.Resource) error {
	ops, err := i.Ops(mesh)
	if err != nil || len(ops) == 0 {
		return err
	}
	// Somebody else may have been faster, or the mesh may be gone again.
	_, err = i.store.Commit(ctx, ops...)
	if err != nil && !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrNoMesh) {
		return fmt.Errorf("store authority of mesh %s: %w", mesh.Name, err)
	}
	return nil
}

// AwaitDataplane returns a Dataplane as soon as it is registered, or ErrUnknownProxy when ctx ends before. Run must be
// under way.
func (i *Issuer) AwaitDataplane(ctx context.Context, mesh, name string) (*resource.Resource, error) {
	key := resource.Key{Kind: resource.KindDataplane, Mesh: mesh, Name: name}
	for {
		i.mu.Lock()
		// Waiting begins before looking: a Dataplane that appears in between is not missed.
		c := i.waiters[key]
		if c == nil {
			c = make(chan struct{})
			i.waiters[key] = c
		}
		i.mu.Unlock()
		r, err := i.store.Get(key)
		if !errors.Is(err, store.ErrNotFound) {
			i.stopWaiting(key, c)
			return r, err
		}
		select {
		case <-c:
		case <-ctx.Done():
			i.stopWaiting(key, c)
			return nil, fmt.Errorf("%s: %w", key, ErrUnknownProxy)
		}
	}
}

// stopWaiting lets all others who wait look again, for they share the channel.
func (i *Issuer) stopWaiting(key resource.Key, c chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.waiters[key] == c {
		close(c)
		delete(i.waiters, key)
	}
}
