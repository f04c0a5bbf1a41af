// Package service derives services: it computes the status of the MeshServices of this zone from the proxies behind them,
// lists the MeshServices of every MeshMultiZoneService, and generates the MeshServices that Dataplanes imply (contract
// policies.md §2.1, §2.4). Both follow the store; nothing is polled.
package service

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/internal/group"
	"github.com/kuma-dp/kuma-dp/resource"
)

const (
	// DefaultGracePeriod is how long a generated MeshService outlives its last Dataplane
	// (KUMA_MESH_SERVICE_DELETION_GRACE_PERIOD).
	DefaultGracePeriod = time.Hour
	// DefaultEmptyReady is how long a service must have been without proxies before its TLS counts as ready for that
	// reason. A service that is written moments before its proxies must not: readiness is never taken back. In 2.9 it is
	// the interval of the loop that computes the status (KUMA_CORE_RESOURCES_STATUS_MESH_SERVICE_INTERVAL).
	DefaultEmptyReady = 5 * time.Second
	// retryAfter is how long to wait after the store refused a write for its own reasons (a full disk).
	retryAfter = time.Second
)

// Config is what a Controller needs.
type Config struct {
	Store store.Store
	// Tracker follows Store, and runs as long as the Controller does.
	Tracker *topology.Tracker
	// GracePeriod is how long a generated MeshService outlives its last Dataplane; DefaultGracePeriod when 0.
	GracePeriod time.Duration
	// EmptyReady is how long a MeshService must have been without proxies for its TLS to be ready; DefaultEmptyReady when 0.
	// A start of the control plane begins it anew.
	EmptyReady time.Duration
	// Log is silent when nil.
	Log *slog.Logger
}

// Controller writes what it derives back into the store.
type Controller struct {
	updater   *updater
	generator *generator
}

// New makes a Controller.
func New(cfg Config) *Controller {
	log := cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	return &Controller{
		updater:   newUpdater(cfg.Store, cfg.Tracker, cmp.Or(cfg.EmptyReady, DefaultEmptyReady), log.With("component", "meshservice-status")),
		generator: newGenerator(cfg.Store, cmp.Or(cfg.GracePeriod, DefaultGracePeriod), log.With("component", "meshservice-generator")),
	}
}

// Run derives until ctx ends (nil) or the store is closed (store.ErrClosed). It may be called once, and only one may run
// on a store.
func (c *Controller) Run(ctx context.Context) error {
	return group.Run(ctx,
		group.Member{Name: "status of services", Run: c.updater.run},
		group.Member{Name: "generation of services", Run: c.generator.run},
	)
}

func compareKeys(a, b resource.Key) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Mesh, b.Mesh), cmp.Compare(a.Name, b.Name))
}
