//go:build linux

package redirect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// ErrUninstalled ends a Watch: somebody removed the redirection on purpose.
var ErrUninstalled = errors.New("redirection was uninstalled")

// Watch keeps the kernel as the last installation says, until ctx ends. It is told by the kernel of changes of nftables
// rules, iptables-nft's among them, and of IPv6 addresses, and of a changed resolv.conf. Legacy iptables rules change without
// a word: they are compared at the next of those events. Every repair is one line of the log. When repairs are undone again
// and again they get rarer.
func (m *Manager) Watch(ctx context.Context) error {
	e, err := subscribe(ctx)
	if err != nil {
		return fmt.Errorf("watch redirection: %w", err)
	}
	defer e.close()
	w := &watcher{m: m, events: e, cause: event{what: "start"}}
	if name, err := os.ReadFile("/proc/thread-self/comm"); err == nil { // else our own changes are compared once more
		w.name = strings.TrimSpace(string(name))
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev := <-e.ch:
			w.note(ev)
			w.drain()
			timer.Reset(max(0, time.Until(w.at())))
		case <-timer.C:
			next, err := w.look(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return fmt.Errorf("watch redirection: %w", err)
			}
			if !next.IsZero() {
				timer.Reset(max(0, time.Until(next)))
			}
		}
	}
}

// watcher is the state of a Watch.
type watcher struct {
	m      *Manager
	events *events
	pace   pace
	cause  event
	due    time.Time // of a delayed repair; zero for none
	ours   [2]uint32 // generations before and after our own last change
	name   string    // of this process, as the kernel gives it
	began  bool      // it has been in sync
	warned bool      // of a fight
	failed int       // attempts in a row
}

// note keeps who changed something: a later event without a name does not hide it.
func (w *watcher) note(ev event) {
	// Others may change something at the same time: only what looks like us and our iptables is left out. The kernel gives the
	// number of a thread, in its own counting, so that our name has to do.
	if w.ours[0] < ev.generation && ev.generation <= w.ours[1] && (strings.HasPrefix(ev.by, w.name+" (") || strings.Contains(ev.by, "tables-")) {
		ev.by = ""
	}
	if ev.by != "" || w.cause.what == "" {
		w.cause = ev
	}
}

// drain notes what has been told meanwhile, and says whether there was anything.
func (w *watcher) drain() (some bool) {
	for {
		select {
		case ev := <-w.events.ch:
			w.note(ev)
			some = true
		default:
			return some
		}
	}
}

// at is when to look: not sooner than a delayed repair.
func (w *watcher) at() time.Time {
	at := w.pace.nextCompare()
	if w.due.After(at) {
		return w.due
	}
	return at
}

// look compares and repairs. It returns when to look again without an event, zero for never.
func (w *watcher) look(ctx context.Context) (again time.Time, err error) {
	m := w.m
	unlock, err := m.lock(ctx)
	if err != nil {
		return time.Time{}, err
	}
	defer unlock()
	now := time.Now()
	w.due = time.Time{}
	rec := m.read()
	if rec == nil || rec.Removing {
		return time.Time{}, ErrUninstalled
	}
	if d := rec.Config.DNS; d.Enabled && !d.CaptureAll {
		w.events.watch(d.ResolvConfPath)
	} else {
		w.events.unwatch()
	}
	st, t, err := m.status(ctx, nil)
	w.pace.compared, w.pace.took = now, time.Since(now)
	more := w.drain() // who it was
	if err == nil && st.State == InSync {
		if !w.began {
			m.cfg.Log.Info("watching redirection", "backend", st.Backend)
			w.began = true
		}
		w.failed = 0
		if w.warned && !w.pace.nextRepair(now).After(now) {
			w.warned = false
		}
		if more { // perhaps after the comparison
			return w.at(), nil
		}
		w.cause = event{}
		return time.Time{}, nil
	}
	if err == nil {
		if next := w.pace.nextRepair(now); next.After(now) {
			if !w.warned {
				m.cfg.Log.Warn("redirection is changed again and again, repairing it less often", "by", w.by(), "problem", problem(st), "next", next.Sub(now).Round(time.Millisecond))
				w.warned = true
			}
			w.due = next
			return next, nil
		}
		t.id = rec.ID
		w.ours[0] = generation()
		err = m.install(ctx, t)
		w.ours[1] = generation()
	}
	if ctx.Err() != nil {
		return time.Time{}, ctx.Err()
	}
	if err != nil {
		w.failed++
		delay := min(firstDelay<<min(w.failed, 6), lastDelay)
		m.cfg.Log.Error("redirection cannot be repaired", "error", err, "again", delay)
		w.due = now.Add(delay)
		return w.due, nil
	}
	w.pace.repairedAt(time.Now())
	m.cfg.Log.Info("redirection repaired", "backend", t.Backend, "cause", w.cause.what, "by", w.by(), "problems", len(st.Differences), "first", problem(st))
	w.cause, w.failed = event{}, 0
	return time.Time{}, nil
}

func (w *watcher) by() string {
	if w.cause.by == "" {
		return "unknown"
	}
	return w.cause.by
}

// problem is the first difference, for a line of the log.
func problem(st *Status) string {
	if len(st.Differences) == 0 {
		return "nothing is there"
	}
	return st.Differences[0].String()
}
