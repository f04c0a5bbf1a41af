//go:build linux

package redirect

import (
	"context"
	"errors"
	"fmt"
	"time"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// State is how the kernel compares with what was installed.
type State string

// The states. Absent says that nothing of ours is in the kernel, whether it should be or not.
const (
	InSync State = "in-sync"
	Drift  State = "drift"
	Absent State = "absent"
)

// Status is the kernel compared with a configuration.
type Status struct {
	State State `json:"state"`
	// Backend is the one that redirects, or would.
	Backend string `json:"backend,omitempty"`
	// InstalledAt is when it was installed or repaired last; nil when that is not known.
	InstalledAt *time.Time `json:"installedAt,omitempty"`
	// ConfirmBefore is when an installation that waits for confirmation is taken back.
	ConfirmBefore *time.Time      `json:"confirmBefore,omitempty"`
	Differences   []tp.Difference `json:"differences"`
	// Warnings say what was asked for and could not be planned.
	Warnings []string `json:"warnings,omitempty"`

	expected bool // something is recorded or was given, and is not being removed
}

// Errors of status and repair.
var (
	// ErrUnknown: rules are there, but nobody knows the configuration.
	ErrUnknown = errors.New("redirection is installed, but with which configuration is not known: give the flags or the configuration of its installation")
	// ErrNothing: there is nothing to repair or to watch.
	ErrNothing = errors.New("nothing is installed here: run 'kumactl install transparent-proxy'")
)

// Status compares the kernel with a configuration; nil stands for that of the last installation. It changes nothing.
func (m *Manager) Status(ctx context.Context, cfg *tp.Config) (*Status, error) {
	unlock, err := m.lock(ctx) // not in the middle of a change
	if err != nil {
		return nil, fmt.Errorf("compare redirection: %w", err)
	}
	defer unlock()
	st, _, err := m.status(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("compare redirection: %w", err)
	}
	return st, nil
}

// status also returns what would repair it.
func (m *Manager) status(ctx context.Context, cfg *tp.Config) (*Status, *transition, error) {
	s, err := m.survey(ctx)
	if err != nil {
		return nil, nil, err
	}
	rec := m.read()
	st := &Status{State: Absent, Differences: []tp.Difference{}}
	if rec != nil {
		st.Backend, st.InstalledAt = rec.Backend, &rec.At
		if cfg == nil && !rec.Removing {
			cfg = &rec.Config
		}
	}
	if p := m.readPending(); p != nil {
		st.ConfirmBefore = &p.Until
	}
	there := s.all(m.cfg.Candidates)
	if len(there) > 0 {
		st.State = Drift
	}
	switch {
	case cfg == nil && rec != nil: // being removed
		st.Differences = append(st.Differences, there...)
		return st, nil, nil
	case cfg == nil && len(there) > 0:
		return nil, nil, fmt.Errorf("%w (found %s and %d more)", ErrUnknown, there[0], len(there)-1)
	case cfg == nil:
		return st, nil, nil
	}
	st.expected = true
	t := &transition{cfg: *cfg, there: s, before: rec}
	if t.chosen, t.Planned, err = m.pick(ctx, *cfg, s, rec, false); err != nil {
		return nil, nil, err
	}
	st.Backend, st.Warnings = t.Backend, t.Plan.Warnings
	differ, err := t.chosen.Backend.Check(ctx, t.Plan)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range m.cfg.Candidates {
		if c.Name == t.chosen.Name {
			st.Differences = append(st.Differences, differ...)
		} else {
			st.Differences = append(st.Differences, s[c.Name].there...)
		}
	}
	if st.State != Absent && len(st.Differences) == 0 {
		st.State = InSync
	}
	return st, t, nil
}

// Repair applies again what differs, and returns what was found before; nil stands for the configuration of the last
// installation. A configuration that is given is remembered.
func (m *Manager) Repair(ctx context.Context, cfg *tp.Config) (before *Status, err error) {
	unlock, err := m.lock(ctx)
	if err != nil {
		return nil, fmt.Errorf("repair redirection: %w", err)
	}
	defer unlock()
	st, t, err := m.status(ctx, cfg)
	if err == nil && !st.expected {
		err = ErrNothing
	}
	if err == nil && (st.State != InSync || cfg != nil) {
		t.id = newID()
		if t.before != nil && cfg == nil {
			t.id = t.before.ID // the same installation
		}
		err = m.install(ctx, t)
	}
	if err != nil {
		return st, fmt.Errorf("repair redirection: %w", err)
	}
	return st, nil
}

// Leftovers lists what a removal would take out. It changes nothing.
func (m *Manager) Leftovers(ctx context.Context) ([]tp.Difference, error) {
	s, err := m.survey(ctx)
	if err != nil {
		return nil, err
	}
	return s.all(m.cfg.Candidates), nil
}
