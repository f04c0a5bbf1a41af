//go:build linux

// Package redirect applies a configuration to the host that it runs on: it chooses a backend, cleans what other backends,
// earlier versions or Kuma's kumactl left behind in any of them, compares the kernel with the plan, and keeps it that way.
//
// Everything happens in the network namespace of the calling thread.
package redirect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// Backend puts plans into the kernel in one way. Its methods name only rules of ours and of Kuma's.
type Backend interface {
	// Facts adds to host what only this backend can see. It changes nothing. The error is errors.ErrUnsupported when the kernel
	// lacks what the backend needs.
	Facts(ctx context.Context, host *tp.Host) error
	// Apply makes the kernel follow the plan without a moment of no redirection when there was one. An error means that
	// everything is as it was. It is errors.ErrUnsupported or tp.ErrNoZones when the kernel lacks what the backend or the plan
	// needs.
	Apply(ctx context.Context, plan *tp.Plan) error
	// Remove takes out everything, needing neither a plan nor a journal nor a user. removed says whether there was anything.
	Remove(ctx context.Context) (removed bool, err error)
	// Check compares the kernel with the plan; nil is the plan of no redirection. It changes nothing.
	Check(ctx context.Context, plan *tp.Plan) ([]tp.Difference, error)
	// Save returns everything that Apply and Remove may change, also what others made of it, and Restore brings it back.
	Save(ctx context.Context) ([]byte, error)
	Restore(ctx context.Context, data []byte) error
}

// What some backends can do besides.
type (
	// prober finds out about conntrack zones by trying, which may make the kernel load modules. Others find out by applying.
	prober interface {
		ProbeZones(ctx context.Context, host *tp.Host) error
	}
	// sharer stands among the rules of others and says how many there are.
	sharer interface {
		Others(ctx context.Context) (int, error)
		// Given reports whether somebody named its executables.
		Given() bool
	}
)

// Names that Config.Backend takes besides those of candidates.
const (
	Auto     = "auto"
	IPTables = "iptables" // either flavour
)

// DefaultStateDir is outside /run/kuma, which may belong to the agent's user: root must not follow what that user puts there.
const DefaultStateDir = "/run/kuma-tproxy"

// Candidate is a backend by name: nftables, iptables-nft or iptables-legacy. Backend is nil when it cannot be had on this
// host; Err then says why.
type Candidate struct {
	Name    string
	Backend Backend
	Err     error
	// Seen is what can be seen of its rules without Backend; nil for nothing. It changes nothing.
	Seen func() ([]tp.Difference, error)
}

// isIPTables reports whether the candidate is a flavour of iptables.
func (c Candidate) isIPTables() bool { return strings.HasPrefix(c.Name, IPTables+"-") }

// Config is what a Manager needs.
type Config struct {
	// Candidates are all backends, the best first. Whichever is chosen, the others are cleaned.
	Candidates []Candidate
	// Backend is the name of a candidate, IPTables, or Auto (the default): the one that an installation uses, else the first
	// that works. IPTables is the flavour that an installation uses, else that of the host.
	Backend string
	// StateDir keeps what has to be known later; empty for DefaultStateDir.
	StateDir string
	// Log takes warnings and what was changed; nil for none.
	Log *slog.Logger
}

// Manager redirects with one of several backends. Several processes may have one each and wait for each other; one Manager is
// for one goroutine.
type Manager struct {
	cfg    Config
	memory *record // of an installation that could not be written down
	last   *record // as read or written last
}

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.StateDir == "" {
		cfg.StateDir = DefaultStateDir
	}
	if cfg.Backend == "" {
		cfg.Backend = Auto
	}
	names := []string{Auto, IPTables}
	for _, c := range cfg.Candidates {
		names = append(names, c.Name)
	}
	if !slices.Contains(names, cfg.Backend) {
		return nil, fmt.Errorf("unknown backend %q: choose one of %s", cfg.Backend, strings.Join(names, ", "))
	}
	return &Manager{cfg: cfg}, nil
}

// ErrNoBackend tells that none of the backends asked for works on this host, or for this user.
var ErrNoBackend = errors.New("no backend works")

// undoTime bounds going back after a failure, which happens even when the caller's time is over.
const undoTime = 20 * time.Second

// lock keeps other processes of ours out. Where it cannot be had, as on a read-only /run, redirection goes on without.
func (m *Manager) lock(ctx context.Context) (unlock func(), err error) {
	release, err := netns.Lock(ctx, m.cfg.StateDir)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("wait for another change of redirection: %w", err)
	}
	if err != nil {
		m.cfg.Log.Debug("other processes cannot be locked out", "error", err)
		return func() {}, nil
	}
	return func() {
		if err := release(); err != nil {
			m.cfg.Log.Warn("lock stays", "error", err)
		}
	}, nil
}

// survey is what is there of ours and of Kuma's, by backend.
type survey map[string]found

type found struct {
	there []tp.Difference // from nothing
	err   error           // the backend does not work here
}

// survey asks every backend. One that cannot be asked is no failure: it may be one that this kernel does not have.
func (m *Manager) survey(ctx context.Context) (survey, error) {
	s := survey{}
	for _, c := range m.cfg.Candidates {
		f := found{err: c.Err}
		switch {
		case c.Backend != nil:
			f.there, f.err = c.Backend.Check(ctx, nil)
		case c.Seen != nil:
			var err error
			if f.there, err = c.Seen(); err != nil {
				m.cfg.Log.Debug("rules of a backend that cannot be had are not seen", "backend", c.Name, "error", err)
			}
		}
		if ctx.Err() != nil {
			return nil, f.err
		}
		s[c.Name] = f
	}
	return s, nil
}

// all lists what is there, in the order of the candidates.
func (s survey) all(candidates []Candidate) []tp.Difference {
	var out []tp.Difference
	for _, c := range candidates {
		out = append(out, s[c.Name].there...)
	}
	return out
}

// pick chooses a backend and makes the plan for it. A backend that this kernel lacks the parts of is passed over.
func (m *Manager) pick(ctx context.Context, cfg tp.Config, s survey, rec *record, probe bool) (Candidate, *Planned, error) {
	for {
		c, err := m.choose(ctx, s, rec)
		if err != nil {
			return c, nil, err
		}
		p, err := m.plan(ctx, cfg, c, s, rec, probe)
		if !errors.Is(err, errors.ErrUnsupported) {
			return c, p, err
		}
		m.passOver(c, s, err)
	}
}

// passOver keeps a backend from being chosen again.
func (m *Manager) passOver(c Candidate, s survey, err error) {
	m.cfg.Log.Info("backend cannot be used on this kernel", "backend", c.Name, "error", err)
	s[c.Name] = found{there: s[c.Name].there, err: err}
}

// choose picks the backend: the one asked for, else the one in use, else the first that works.
func (m *Manager) choose(ctx context.Context, s survey, rec *record) (Candidate, error) {
	var usable []Candidate
	var errs []error
	for _, c := range m.cfg.Candidates {
		switch want := m.cfg.Backend; {
		case want == Auto, want == c.Name, want == IPTables && c.isIPTables():
		default:
			continue
		}
		if err := s[c.Name].err; err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.Name, err))
			continue
		}
		if rec != nil && rec.Backend == c.Name && m.cfg.Backend == Auto {
			return c, nil
		}
		usable = append(usable, c)
	}
	if len(usable) == 0 {
		return Candidate{}, fmt.Errorf("%w: %w", ErrNoBackend, errors.Join(errs...))
	}
	if chosen := usable[0]; !chosen.isIPTables() || len(usable) == 1 {
		return chosen, nil
	}
	return m.flavour(ctx, usable, s, rec)
}

// flavour picks among those of iptables: that of executables that were named, else the one in use, which is changed in place,
// else the one that others use, Docker above all, else nft (contract transparentproxy.md §1.3).
func (m *Manager) flavour(ctx context.Context, usable []Candidate, s survey, rec *record) (Candidate, error) {
	for _, c := range usable {
		if by, ok := c.Backend.(sharer); ok && by.Given() {
			return c, nil
		}
	}
	for _, c := range usable {
		if rec != nil && rec.Backend == c.Name && len(s[c.Name].there) > 0 {
			return c, nil
		}
	}
	chosen, most, conflict := usable[0], -1, 0
	for _, c := range usable {
		by, ok := c.Backend.(sharer)
		if !ok {
			continue
		}
		n, err := by.Others(ctx)
		if ctx.Err() != nil {
			return Candidate{}, err
		}
		if err != nil {
			m.cfg.Log.Info("backend cannot be looked at and is left out", "backend", c.Name, "error", err)
			continue
		}
		if n > most {
			chosen, most = c, n
		}
		if n > 0 {
			conflict++
		}
	}
	if conflict > 1 {
		m.cfg.Log.Warn("conflicting iptables modes detected: both nft and legacy rules exist", "chosen", chosen.Name)
	}
	return chosen, nil
}
