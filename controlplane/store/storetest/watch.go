package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

func testWatch(t *testing.T, s store.Store) {
	commit(t, s, Create(Mesh("m")), Create(Secret("m", "a", "1")))
	all, w := s.Watch()
	defer w.Close()
	if len(all) != 2 || all[0].Kind != resource.KindMesh || all[1].Kind != resource.KindSecret {
		t.Errorf("got %v", all)
	}
	commit(t, s, Create(Secret("m", "b", "1")), store.Op{Action: store.Update, Resource: Secret("m", "b", "2")})
	commit(t, s, del(Secret("m", "a", "").Key))
	events := next(t, w, 3)
	if events[0].Revision != events[1].Revision || events[2].Revision != events[1].Revision+1 {
		t.Errorf("revisions: %s", show(events))
	}
	if events[1].Old != events[0].New || events[2].Old != all[1] || events[2].New != nil {
		t.Errorf("got %s", show(events))
	}
}

func testWatchEnds(t *testing.T, s store.Store) {
	_, w := s.Watch()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := w.Next(ctx)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: got %v", err)
	}
	go func() {
		_, err := w.Next(t.Context())
		done <- err
	}()
	w.Close()
	w.Close()
	if err := <-done; !errors.Is(err, store.ErrClosed) {
		t.Errorf("closed watcher: got %v", err)
	}
	commit(t, s, Create(Mesh("m")))
	if events, err := w.Next(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("closed watcher: got %v, %v", events, err)
	}
}

// testWatchConcurrent replays what watchers see while many write, and compares the result with the store.
func testWatchConcurrent(t *testing.T, s store.Store) {
	const writers, writes, watchers = 4, 25, 3
	commit(t, s, Create(Mesh("m")))
	var writing, watching sync.WaitGroup
	for i := range watchers {
		watching.Go(func() {
			all, w := s.Watch()
			defer w.Close()
			if err := replay(t.Context(), all, w, s); err != nil {
				t.Errorf("watcher %d: %v", i, err)
			}
		})
	}
	for i := range writers {
		writing.Go(func() {
			for n := range writes {
				own, shared := Secret("m", fmt.Sprintf("own-%d-%d", i, n), ""), Secret("m", "shared", fmt.Sprint(i, n))
				ops := []store.Op{Create(own), {Action: store.Upsert, Resource: shared}}
				if _, err := s.Commit(t.Context(), ops...); err != nil {
					t.Errorf("writer %d: %v", i, err)
				}
				if n%3 == 0 {
					if _, err := s.Commit(t.Context(), del(own.Key)); err != nil {
						t.Errorf("writer %d: %v", i, err)
					}
				}
			}
		})
	}
	writing.Wait()
	commit(t, s, Create(Mesh("end")))
	watching.Wait()
}

// replay applies events to all until the mesh "end" comes, and checks each against what was there.
func replay(ctx context.Context, all []*resource.Resource, w store.Watcher, s store.Store) error {
	have := map[resource.Key]*resource.Resource{}
	var revision uint64
	for _, r := range all {
		have[r.Key] = r
		revision = max(revision, r.Version)
	}
	for have[Mesh("end").Key] == nil {
		events, err := w.Next(ctx)
		if err != nil {
			return err
		}
		for _, ev := range events {
			if ev.Revision < revision {
				return fmt.Errorf("revision %d after %d", ev.Revision, revision)
			}
			revision = ev.Revision
			if ev.New == nil {
				if have[ev.Old.Key] != ev.Old {
					return fmt.Errorf("delete of %s: not the version that was seen", ev.Old.Key)
				}
				delete(have, ev.Old.Key)
				continue
			}
			if have[ev.New.Key] != ev.Old {
				return fmt.Errorf("%s of %s: an event was missed or seen twice", ev.Action, ev.New.Key)
			}
			have[ev.New.Key] = ev.New
		}
	}
	list := s.List(resource.KindSecret, "m")
	if len(list)+2 != len(have) {
		return fmt.Errorf("%d resources seen, %d stored", len(have)-2, len(list))
	}
	for _, r := range list {
		if have[r.Key] != r {
			return fmt.Errorf("%s differs", r.Key)
		}
	}
	return nil
}

func testClosed(t *testing.T, s store.Store) {
	_, w := s.Watch()
	commit(t, s, Create(Mesh("m")))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if events, err := w.Next(t.Context()); err != nil || len(events) != 1 {
		t.Errorf("an event from before Close: got %v, %v", events, err)
	}
	if _, err := w.Next(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("watcher after Close: got %v", err)
	}
	refuse(t, s, store.ErrClosed, Create(Mesh("n")))
	_, late := s.Watch()
	if _, err := late.Next(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("watch after Close: got %v", err)
	}
}
