//go:build linux

package redirect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// pending is an installation that waits for confirmation, and all that taking it back needs.
type pending struct {
	ID     string // of the installation
	Until  time.Time
	Before *record
	// Kept is what each backend saved.
	Kept map[string][]byte
	// Had names the backends that redirected before.
	Had []string
}

// ErrNotPending tells that nothing waits for confirmation.
var ErrNotPending = errors.New("no installation waits for confirmation: it was confirmed, taken back or removed before")

func (m *Manager) pendingFile() (netns.File, error) { return netns.Open(m.cfg.StateDir, "pending") }

// readPending returns nil when nothing waits.
func (m *Manager) readPending() *pending {
	f, err := m.pendingFile()
	var p pending
	found := false
	if err == nil {
		found, err = f.Read(&p)
	}
	if err != nil {
		m.cfg.Log.Warn("what waits for confirmation is not readable", "error", err)
	}
	if err != nil || !found {
		return nil
	}
	return &p
}

func (m *Manager) forgetPending() error {
	f, err := m.pendingFile()
	if err != nil {
		return err
	}
	return f.Remove()
}

// checkPending refuses to change what waits for confirmation. What was never confirmed nor taken back, because its guard
// was killed, is taken back now.
func (m *Manager) checkPending(ctx context.Context) error {
	p := m.readPending()
	switch {
	case p == nil:
		return nil
	case time.Now().Before(p.Until.Add(undoTime)):
		return fmt.Errorf("an installation waits for confirmation until %s: 'kumactl transparent-proxy confirm' keeps it, "+
			"'kumactl transparent-proxy rollback' takes it back", p.Until.Format(time.TimeOnly))
	}
	m.cfg.Log.Warn("an earlier installation was not confirmed and is taken back first", "until", p.Until)
	return m.takeBack(ctx, p)
}

// ApplyUnconfirmed is Apply for a time: guard is called with an id before anything changes, and has to start what calls
// Guard with it and outlives this process. An error of guard ends it. The installation stays when Confirm is called in time;
// otherwise everything is made as it was before.
func (m *Manager) ApplyUnconfirmed(ctx context.Context, cfg tp.Config, timeout time.Duration, guard func(id string) error) (_ *Planned, id string, err error) {
	fail := func(err error) (*Planned, string, error) {
		return nil, "", fmt.Errorf("redirect until confirmed: %w", err)
	}
	unlock, err := m.lock(ctx)
	if err != nil {
		return fail(err)
	}
	defer unlock()
	if err := m.checkPending(ctx); err != nil {
		return fail(err)
	}
	t, err := m.begin(ctx, cfg)
	if err != nil {
		return fail(err)
	}
	p := &pending{ID: t.id, Until: time.Now().Add(timeout), Before: t.before, Kept: map[string][]byte{}}
	for _, c := range m.cfg.Candidates {
		if t.there[c.Name].err != nil {
			continue
		}
		if p.Kept[c.Name], err = c.Backend.Save(ctx); err != nil {
			return fail(err)
		}
		if len(t.there[c.Name].there) > 0 {
			p.Had = append(p.Had, c.Name)
		}
	}
	f, err := m.pendingFile()
	if err == nil {
		err = f.Write(p)
	}
	if err != nil {
		return fail(fmt.Errorf("keep what is there now: %w", err))
	}
	if err = guard(t.id); err == nil {
		err = m.install(ctx, t)
	}
	if err != nil {
		return fail(errors.Join(err, f.Remove())) // which ends the guard
	}
	return t.Planned, t.id, nil
}

// Confirm keeps the installation that waits.
func (m *Manager) Confirm(ctx context.Context) error {
	unlock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if m.readPending() == nil {
		return ErrNotPending
	}
	return m.forgetPending()
}

// Rollback takes the installation that waits back, at once.
func (m *Manager) Rollback(ctx context.Context) error { return m.rollback(ctx, "") }

func (m *Manager) rollback(ctx context.Context, id string) error {
	unlock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	p := m.readPending()
	if p == nil || id != "" && p.ID != id {
		return ErrNotPending
	}
	return m.takeBack(ctx, p)
}

// takeBack makes everything as it was: first what redirected before, then the others, so that there is no moment without.
func (m *Manager) takeBack(ctx context.Context, p *pending) error {
	now := m.read()
	order := slices.Clone(m.cfg.Candidates)
	slices.SortStableFunc(order, func(a, b Candidate) int {
		return rank(slices.Contains(p.Had, a.Name)) - rank(slices.Contains(p.Had, b.Name))
	})
	var errs []error
	for _, c := range order {
		data, known := p.Kept[c.Name]
		if !known || c.Backend == nil {
			continue
		}
		if err := c.Backend.Restore(ctx, data); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.Name, err))
		}
	}
	if now != nil {
		added := slices.Clone(now.Addresses)
		if p.Before != nil {
			if _, err := netns.AddAddresses(p.Before.Addresses); err != nil {
				errs = append(errs, err)
			}
			added = without(added, p.Before.Addresses)
		}
		errs = append(errs, netns.RemoveAddresses(added))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("take back the installation: %w; remove everything with 'kumactl uninstall transparent-proxy'", err)
	}
	m.write(p.Before)
	return m.forgetPending()
}

func rank(first bool) int {
	if first {
		return 0
	}
	return 1
}

// Guard takes the installation back after the timeout, or when ctx ends, unless it was decided before. It is for a process
// of its own, which nothing that happens to the session of the installation reaches. ready is called once it is on watch.
func (m *Manager) Guard(ctx context.Context, id string, timeout time.Duration, ready func() error) error {
	f, err := m.pendingFile()
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if p := m.readPending(); p == nil || p.ID != id {
		return ErrNotPending
	}
	if err := ready(); err != nil {
		return err
	}
	if err := f.AwaitGone(wait); err == nil || wait.Err() == nil {
		return err
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if err := m.rollback(last, id); !errors.Is(err, ErrNotPending) {
		return err
	}
	return nil
}

// Decision waits until the installation is confirmed or not, or ctx ends.
func (m *Manager) Decision(ctx context.Context, id string) (kept bool, err error) {
	f, err := m.pendingFile()
	if err != nil {
		return false, err
	}
	if err := f.AwaitGone(ctx); err != nil {
		return false, err
	}
	rec := m.read()
	return rec != nil && rec.ID == id, nil
}
