//go:build linux

package redirect

import (
	"context"
	"errors"
	"io/fs"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// Planned is what would be applied.
type Planned struct {
	// Backend is the name of the backend.
	Backend string
	Plan    *tp.Plan
	// ID names the installation, once it is applied.
	ID   string
	host tp.Host
}

// Plan works out what Apply would do. It changes nothing.
func (m *Manager) Plan(ctx context.Context, cfg tp.Config) (*Planned, error) {
	s, err := m.survey(ctx)
	if err != nil {
		return nil, err
	}
	rec := m.read()
	c, err := m.choose(ctx, s, rec)
	if err != nil {
		return nil, err
	}
	return m.plan(ctx, cfg, c, rec, false)
}

// plan makes the plan for a backend. With probe it finds out about conntrack zones; otherwise they are as recorded, or there.
func (m *Manager) plan(ctx context.Context, cfg tp.Config, c Candidate, rec *record, probe bool) (*Planned, error) {
	h, err := detect(cfg, rec)
	if err != nil {
		return nil, err
	}
	if err := c.Backend.Facts(ctx, &h); err != nil {
		return nil, err
	}
	if cfg.DNS.On() && !cfg.DNS.SkipZoneSplit {
		p, ok := c.Backend.(prober)
		switch {
		case probe && ok:
			if err := p.ProbeZones(ctx, &h); err != nil {
				return nil, err
			}
		case !probe && rec != nil && rec.Backend == c.Name && rec.Config.DNS.On() && !rec.Config.DNS.SkipZoneSplit:
			h.ConntrackZones = rec.Host.ConntrackZones
		}
	}
	plan, err := tp.NewPlan(cfg, h)
	if err != nil {
		return nil, err
	}
	return &Planned{Backend: c.Name, Plan: plan, host: h}, nil
}

// detect reads the facts of the host. While resolv.conf is being written it may be empty or gone: what was known stays, since
// leaving DNS alone for that moment would let queries pass by.
func detect(cfg tp.Config, rec *record) (tp.Host, error) {
	h, err := tp.Detect(cfg)
	known := rec != nil && rec.Config.DNS.ResolvConfPath == cfg.DNS.ResolvConfPath && len(rec.Host.Nameservers) > 0
	asked := cfg.DNS.Enabled && !cfg.DNS.CaptureAll
	if known && asked && (errors.Is(err, fs.ErrNotExist) || err == nil && len(h.Nameservers) == 0) {
		cfg.DNS.Enabled = false
		if h, err = tp.Detect(cfg); err == nil {
			h.Nameservers = rec.Host.Nameservers
		}
	}
	return h, err
}
