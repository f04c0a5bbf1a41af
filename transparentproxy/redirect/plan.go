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
	_, p, err := m.pick(ctx, cfg, s, m.read(), false)
	return p, err
}

// plan makes the plan for a backend. With probe it finds out about conntrack zones; otherwise they are as recorded, or there.
func (m *Manager) plan(ctx context.Context, cfg tp.Config, c Candidate, s survey, rec *record, probe bool) (*Planned, error) {
	h, err := detect(cfg, rec)
	if err != nil {
		return nil, err
	}
	if err := c.Backend.Facts(ctx, &h); err != nil {
		return nil, err
	}
	if err := m.docker(ctx, c, s, &h); err != nil {
		return nil, err
	}
	zones := func(c tp.Config) bool { return c.DNS.On() && !c.DNS.SkipZoneSplit }
	switch p, ok := c.Backend.(prober); {
	case !zones(cfg):
	case probe && ok:
		if err := p.ProbeZones(ctx, &h); err != nil {
			return nil, err
		}
	case !probe && rec != nil && rec.Backend == c.Name && zones(rec.Config):
		h.ConntrackZones = rec.Host.ConntrackZones
	}
	plan, err := tp.NewPlan(cfg, h)
	if err != nil {
		return nil, err
	}
	return &Planned{Backend: c.Name, Plan: plan, host: h}, nil
}

// docker adds to host whether Docker redirects DNS in either flavour of iptables, when the plan is not for one of them: its
// rules change the ports of queries whoever of us redirects them (contract transparentproxy.md §1.5).
func (m *Manager) docker(ctx context.Context, chosen Candidate, s survey, h *tp.Host) error {
	if chosen.isIPTables() {
		return nil
	}
	for _, c := range m.cfg.Candidates {
		if !c.isIPTables() || s[c.Name].err != nil {
			continue
		}
		var seen tp.Host
		if err := c.Backend.Facts(ctx, &seen); err != nil {
			return err
		}
		h.Docker4, h.Docker6 = h.Docker4 || seen.Docker4, h.Docker6 || seen.Docker6
	}
	return nil
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
