// Package writeback commits what the control plane derives from stored resources into such resources: their status,
// and objects that it generates. Users and other derivations write the same resources at the same time, so each write
// is a compare-and-set on the newest version.
package writeback

import (
	"context"
	"errors"
	"fmt"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Decide says what is to become of a resource as it is stored now, nil when it is not: an Op with an action, or the zero
// Op to leave it. It is called again, with the newer version, whenever somebody else was faster. Update and Delete get
// their ExpectVersion from Commit.
type Decide func(key resource.Key, stored *resource.Resource) store.Op

// Commit applies decide to keys: all in one commit, or one by one as soon as that meets a conflict. What it cannot do
// because the resource or its mesh is gone is left out: whoever derives hears of that by an event. It returns the
// errors of the store, and ctx's.
func Commit(ctx context.Context, s store.Store, keys []resource.Key, decide Decide) error {
	ops, err := operations(s, keys, decide)
	if err != nil || len(ops) == 0 {
		return err
	}
	if _, err := s.Commit(ctx, ops...); !overtaken(err) {
		return wrap(err)
	}
	for _, op := range ops {
		if err := one(ctx, s, op.Resource.Key, decide); err != nil {
			return err
		}
	}
	return nil
}

// one repeats until nobody is faster. Each repetition means that somebody else's write went through.
func one(ctx context.Context, s store.Store, key resource.Key, decide Decide) error {
	for {
		ops, err := operations(s, []resource.Key{key}, decide)
		if err != nil || len(ops) == 0 {
			return err
		}
		_, err = s.Commit(ctx, ops...)
		switch {
		case errors.Is(err, store.ErrNoMesh):
			return nil
		case !overtaken(err):
			return wrap(err)
		}
	}
}

func operations(s store.Store, keys []resource.Key, decide Decide) ([]store.Op, error) {
	var ops []store.Op
	for _, key := range keys {
		stored, err := s.Get(key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, fmt.Errorf("read %s: %w", key, err)
		}
		op := decide(key, stored)
		if op.Action == "" || stored == nil && op.Action != store.Create {
			continue
		}
		if stored != nil {
			op.ExpectVersion = stored.Version
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// overtaken tells whether the store changed between reading and writing.
func overtaken(err error) bool {
	return errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrNoMesh)
}

func wrap(err error) error {
	if err != nil {
		return fmt.Errorf("write back: %w", err)
	}
	return nil
}
