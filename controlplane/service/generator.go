package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/service/writeback"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// generator keeps the MeshServices that Dataplanes imply.
type generator struct {
	store store.Store
	grace time.Duration
	log   *slog.Logger

	// modes of the meshes that are there.
	modes map[string]string
	// members of every kuma.io/service, by the key of its MeshService and the name of the Dataplane.
	members map[resource.Key]map[string]member
	// dirty are the objects to look at; due those to look at later.
	dirty map[resource.Key]bool
	due   map[resource.Key]time.Time
	// told is what was logged of an object, so that it is logged once.
	told map[resource.Key]string
}

func newGenerator(s store.Store, grace time.Duration, log *slog.Logger) *generator {
	return &generator{
		store: s, grace: grace, log: log, modes: map[string]string{}, members: map[resource.Key]map[string]member{},
		dirty: map[resource.Key]bool{}, due: map[resource.Key]time.Time{}, told: map[resource.Key]string{},
	}
}

func (g *generator) run(ctx context.Context) error {
	stored, w := g.store.Watch()
	defer w.Close()
	for _, r := range stored {
		g.take(nil, r)
	}
	for {
		wait, err := g.write(ctx, time.Now())
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, store.ErrClosed):
			return fmt.Errorf("generate services: %w", err)
		case err != nil:
			g.log.Error("could not write generated services", "retry", retryAfter, "error", err)
			wait = retryAfter
		}
		events, err := next(ctx, w, wait)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("follow the store: %w", err)
		}
		for _, ev := range events {
			g.take(ev.Old, ev.New)
		}
	}
}

// next waits for events, for wait at most when that is not 0.
func next(ctx context.Context, w store.Watcher, wait time.Duration) ([]store.Event, error) {
	if wait == 0 {
		return w.Next(ctx)
	}
	short, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	events, err := w.Next(short)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, nil
	}
	return events, err
}

// take hears of a change, or (old nil) of what is stored.
func (g *generator) take(old, now *resource.Resource) {
	r := now
	if r == nil {
		r = old
	}
	switch r.Kind {
	case resource.KindMesh:
		mode := ""
		if now != nil {
			mode = now.Spec.(*resource.Mesh).ServicesMode()
		}
		if g.modes[r.Name] != mode {
			g.setMode(r.Name, mode)
		}
	case resource.KindDataplane:
		if old != nil {
			g.leave(old)
		}
		if now != nil {
			g.join(now)
		}
	case resource.KindMeshService:
		// Only what decide looks at: statuses change all the time.
		if old == nil || now == nil || !same(old, now) {
			g.dirty[r.Key] = true
		}
	}
}

func (g *generator) setMode(mesh, mode string) {
	g.modes[mesh] = mode
	if mode == "" {
		delete(g.modes, mesh)
	}
	for key := range g.members {
		if key.Mesh == mesh {
			g.dirty[key] = true
		}
	}
	for _, r := range g.store.List(resource.KindMeshService, mesh) {
		g.dirty[r.Key] = true
	}
}

func serviceKey(mesh, tag string) resource.Key {
	return resource.Key{Kind: resource.KindMeshService, Mesh: mesh, Name: tag}
}

func (g *generator) leave(r *resource.Resource) {
	for tag := range membersOf(r) {
		key := serviceKey(r.Mesh, tag)
		delete(g.members[key], r.Name)
		if len(g.members[key]) == 0 {
			delete(g.members, key)
		}
		g.dirty[key] = true
	}
}

func (g *generator) join(r *resource.Resource) {
	for tag, m := range membersOf(r) {
		key := serviceKey(r.Mesh, tag)
		if g.members[key] == nil {
			g.members[key] = map[string]member{}
		}
		g.members[key][r.Name] = m
		g.dirty[key] = true
	}
}

// write brings all objects in line that are dirty or due, and says after how long there will be more (0: not by itself).
func (g *generator) write(ctx context.Context, now time.Time) (wait time.Duration, err error) {
	for key, t := range g.due {
		if !now.Before(t) {
			g.dirty[key] = true
		}
	}
	keys := slices.SortedFunc(maps.Keys(g.dirty), compareKeys)
	err = writeback.Commit(ctx, g.store, keys, func(key resource.Key, stored *resource.Resource) store.Op {
		mode := g.modes[key.Mesh]
		d := decide(key, slices.Collect(maps.Values(g.members[key])), mode != "" && mode != resource.MeshServicesDisabled, stored, now, g.grace)
		g.tell(key, d)
		delete(g.due, key)
		if !d.due.IsZero() {
			g.due[key] = d.due
		}
		return d.op
	})
	if err == nil {
		clear(g.dirty)
	}
	for _, t := range g.due {
		if left := max(t.Sub(now), time.Nanosecond); wait == 0 || left < wait {
			wait = left
		}
	}
	return wait, err
}

// tell logs what somebody should put right, once per change.
func (g *generator) tell(key resource.Key, d decision) {
	text := ""
	switch {
	case d.blocked:
		text = "blocked"
	case len(d.conflicting) > 0:
		text = fmt.Sprint(d.conflicting)
	}
	if g.told[key] == text {
		return
	}
	g.told[key] = text
	switch {
	case text == "":
		delete(g.told, key)
	case d.blocked:
		g.log.Error("a service cannot be generated: an object that somebody made has its name", "mesh", key.Mesh, "service", key.Name)
	default:
		g.log.Warn("dataplanes of one service have other ports than the service and are not reached on them",
			"mesh", key.Mesh, "service", key.Name, "dataplanes", d.conflicting)
	}
}
