//go:build linux

package redirect

import (
	"context"
	"fmt"
	"strings"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// Installation is what this host is expected to do.
type Installation struct {
	// Backend is the one that redirects.
	Backend string
	// Config and Host are what its plan is made of, the host as it is now.
	Config tp.Config
	Host   tp.Host
	// Leftovers are rules of ours and of Kuma's in other backends.
	Leftovers []tp.Difference
}

// lister tells what its tables have.
type lister interface {
	NAT(ctx context.Context) ([]tp.NATRule, error)
}

// Installation returns what was installed last or, with a configuration, what it would be. It changes nothing. The error is
// ErrNothing when nothing is installed, and ErrUnknown when only the kernel knows of it.
func (m *Manager) Installation(ctx context.Context, cfg *tp.Config) (*Installation, error) {
	unlock, err := m.lock(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the installation: %w", err)
	}
	defer unlock()
	s, err := m.survey(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the installation: %w", err)
	}
	rec := m.read()
	there := s.all(m.cfg.Candidates)
	if cfg == nil && rec != nil && !rec.Removing {
		cfg = &rec.Config
	}
	switch {
	case cfg == nil && len(there) > 0:
		return nil, fmt.Errorf("%w (found %s and %d more)", ErrUnknown, there[0], len(there)-1)
	case cfg == nil:
		return nil, ErrNothing
	}
	c, p, err := m.pick(ctx, *cfg, s, rec, false)
	if err != nil {
		return nil, fmt.Errorf("find the installation: %w", err)
	}
	out := &Installation{Backend: c.Name, Config: *cfg, Host: p.host}
	for _, other := range m.cfg.Candidates {
		if other.Name != c.Name {
			out.Leftovers = append(out.Leftovers, s[other.Name].there...)
		}
	}
	return out, nil
}

// LegacyNAT lists the NAT rules of legacy iptables, of which the kernel itself tells nothing. It changes nothing.
func (m *Manager) LegacyNAT(ctx context.Context) ([]tp.NATRule, error) {
	for _, c := range m.cfg.Candidates {
		if by, ok := c.Backend.(lister); ok && strings.HasSuffix(c.Name, "-legacy") {
			return by.NAT(ctx)
		}
	}
	return nil, fmt.Errorf("%w: iptables-legacy is not installed", ErrNoBackend)
}
