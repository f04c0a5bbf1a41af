//go:build linux

package redirect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// Apply redirects as the configuration says, replacing what is there, and remembers the configuration. The chosen backend is
// first, then what is left in others goes: there is no moment without redirection. An error means that everything is as it
// was.
func (m *Manager) Apply(ctx context.Context, cfg tp.Config) (*Planned, error) {
	unlock, err := m.lock(ctx)
	if err != nil {
		return nil, fmt.Errorf("redirect: %w", err)
	}
	defer unlock()
	t, err := m.begin(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("redirect: %w", err)
	}
	if err := m.checkPending(ctx); err != nil {
		return nil, fmt.Errorf("redirect: %w", err)
	}
	if err := m.install(ctx, t); err != nil {
		return nil, fmt.Errorf("redirect: %w", err)
	}
	t.ID = t.id
	return t.Planned, nil
}

// transition is an installation about to be made.
type transition struct {
	*Planned
	chosen Candidate
	cfg    tp.Config
	there  survey
	before *record
	id     string
	// refused is why the chosen backend did not take the plan.
	refused error
}

// begin works out what to do.
func (m *Manager) begin(ctx context.Context, cfg tp.Config) (*transition, error) {
	t := &transition{cfg: cfg, before: m.read(), id: newID()}
	var err error
	if t.there, err = m.survey(ctx); err != nil {
		return nil, err
	}
	t.chosen, t.Planned, err = m.pick(ctx, cfg, t.there, t.before, true)
	return t, err
}

// install makes the change, or none. What the kernel lacks shows when it refuses the plan: another is made then, without
// conntrack zones or for the next backend.
func (m *Manager) install(ctx context.Context, t *transition) error {
	for {
		err := m.tryInstall(ctx, t)
		switch {
		case err == nil:
			return nil
		case errors.Is(t.refused, tp.ErrNoZones) && t.host.ConntrackZones:
			t.host.ConntrackZones = false
			t.Plan, err = tp.NewPlan(t.cfg, t.host)
		case errors.Is(t.refused, errors.ErrUnsupported):
			m.passOver(t.chosen, t.there, t.refused)
			t.chosen, t.Planned, err = m.pick(ctx, t.cfg, t.there, t.before, true)
		}
		if err != nil {
			return err
		}
	}
}

func (m *Manager) tryInstall(ctx context.Context, t *transition) (err error) {
	t.refused = nil
	var undo []func(context.Context) error
	defer func() {
		if err == nil {
			return
		}
		uctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
		defer cancel()
		for _, back := range slices.Backward(undo) {
			err = errors.Join(err, back(uctx))
		}
	}()
	rec := &record{ID: t.id, Backend: t.chosen.Name, Config: t.cfg, Host: t.host, At: time.Now()}
	var stale []netip.Prefix
	if t.before != nil {
		rec.Addresses = slices.Clone(t.before.Addresses)
		stale = without(rec.Addresses, t.Plan.Addresses)
	}
	missing, err := netns.MissingAddresses(t.Plan.Addresses)
	if err != nil {
		return err
	}
	for _, p := range missing {
		if !slices.Contains(rec.Addresses, p) {
			rec.Addresses = append(rec.Addresses, p)
		}
	}
	// Written down before it is done: the process may be killed in between.
	m.write(rec)
	undo = append(undo, func(context.Context) error { m.write(t.before); return nil })
	added, err := netns.AddAddresses(t.Plan.Addresses)
	undo = append(undo, func(context.Context) error { return netns.RemoveAddresses(added) })
	if err != nil {
		return err
	}
	if len(t.there.all(m.cfg.Candidates)) == 0 {
		m.track()
	}
	var others []Candidate
	for _, c := range m.cfg.Candidates {
		if c.Name == t.chosen.Name || len(t.there[c.Name].there) == 0 {
			continue
		}
		if c.Backend == nil {
			return c.stuck()
		}
		others = append(others, c)
	}
	if len(others) > 0 { // only these can fail after the chosen one has succeeded
		back, err := saved(ctx, t.chosen.Backend)
		if err != nil {
			return err
		}
		undo = append(undo, back)
	}
	if t.refused = t.chosen.Backend.Apply(ctx, t.Plan); t.refused != nil {
		return t.refused
	}
	for _, c := range others {
		back, err := saved(ctx, c.Backend)
		if err != nil {
			return err
		}
		undo = append(undo, back)
		if _, err := c.Backend.Remove(ctx); err != nil {
			return fmt.Errorf("clean %s: %w", c.Name, err)
		}
		m.cfg.Log.Info("redirection of another backend removed", "backend", c.Name)
	}
	if len(stale) > 0 {
		if err := netns.RemoveAddresses(stale); err != nil {
			m.cfg.Log.Warn("an address that is no longer needed stays on loopback", "error", err)
			return nil
		}
		rec.Addresses = without(rec.Addresses, stale)
		m.write(rec)
	}
	return nil
}

// stuck is the error of rules that nobody can take out here.
func (c Candidate) stuck() error {
	return fmt.Errorf("clean %s: rules of an earlier installation are there, and nothing to remove them with: %w", c.Name, c.Err)
}

// saved returns a function that makes a backend as it is now.
func saved(ctx context.Context, b Backend) (func(context.Context) error, error) {
	data, err := b.Save(ctx)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return b.Restore(ctx, data) }, nil
}

// Remove takes out everything of ours and of Kuma's, from every backend, and what was added for it. It needs neither a
// record nor the user nor the configuration. removed says whether there was anything.
func (m *Manager) Remove(ctx context.Context) (removed bool, err error) {
	return m.RemoveInstallation(ctx, "")
}

// RemoveInstallation is Remove unless another installation has taken the place of the one with this id.
func (m *Manager) RemoveInstallation(ctx context.Context, id string) (removed bool, err error) {
	unlock, err := m.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	rec := m.read()
	if id != "" && (rec == nil || rec.ID != id) {
		return false, nil
	}
	if rec != nil && !rec.Removing {
		rec.Removing = true
		m.write(rec) // who watches does not put back what is being removed
	}
	s, err := m.survey(ctx)
	if err != nil {
		return false, err
	}
	var errs []error
	tried := 0
	for _, c := range m.cfg.Candidates {
		if c.Backend == nil {
			if len(s[c.Name].there) > 0 {
				errs = append(errs, c.stuck())
			}
			continue
		}
		if err := s[c.Name].err; err != nil && (rec == nil || rec.Backend != c.Name) {
			m.cfg.Log.Info("backend cannot be looked at and is left out", "backend", c.Name, "error", err)
			continue
		}
		tried++
		r, err := c.Backend.Remove(ctx)
		removed = removed || r
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.Name, err))
		}
	}
	if tried == 0 {
		for _, c := range m.cfg.Candidates {
			errs = append(errs, fmt.Errorf("%s: %w", c.Name, s[c.Name].err))
		}
		return false, fmt.Errorf("remove redirection: %w: %w", ErrNoBackend, errors.Join(errs...))
	}
	if err := errors.Join(errs...); err != nil {
		return removed, fmt.Errorf("remove redirection: %w", err)
	}
	if rec != nil {
		if err := netns.RemoveAddresses(rec.Addresses); err != nil {
			return removed, fmt.Errorf("remove redirection: %w", err)
		}
		removed = removed || len(rec.Addresses) > 0
	}
	m.write(nil)
	return removed, m.forgetPending()
}

// without returns what is in a and not in b.
func without(a, b []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(a), func(p netip.Prefix) bool { return slices.Contains(b, p) })
}
