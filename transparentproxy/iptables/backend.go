//go:build linux

// Package iptables puts plans of the package transparentproxy into the kernel with iptables-restore, in the nft or the
// legacy flavour, and takes them out again. It names only its own chains and rules, which are those of Kuma 2.9, so it
// also replaces and removes what Kuma's kumactl installed (contract transparentproxy.md §4 and §6).
//
// Everything happens in the network namespace of the calling thread.
package iptables

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

// DefaultWait is how long iptables waits for another user of its lock.
const DefaultWait = 5 * time.Second

// attempts is how often a change is worked out anew when others change rules at the same time.
const attempts = 3

// undoTime bounds going back after a failure, which happens even when the caller's time is over.
const undoTime = 10 * time.Second

// Config is what a Backend needs. The zero value is usable, except that it does not wait for the lock.
type Config struct {
	// Log takes warnings and what was changed; nil for none.
	Log *slog.Logger
	// Flavour is the only one that the backend sees and changes; empty for both, of which one is chosen.
	Flavour Flavour
	// Path lists directories to search for iptables before the standard ones, separated by colons.
	Path string
	// Wait is how long iptables waits for its lock, rounded up to seconds; 0 does not wait. Only the legacy flavour has one.
	Wait time.Duration
	// WaitInterval is how often it looks meanwhile; 0 leaves that to iptables, of which later versions always do.
	WaitInterval time.Duration
	// MaxRetries is how often a change is tried again that failed for a reason that may pass, RetryDelay the time before.
	MaxRetries int
	RetryDelay time.Duration
	// NoComments leaves comments out of rules. Ours are then known by the journal, and without it by what they say.
	NoComments bool
	// Executables are used instead of those found, by family, and decide about the flavour.
	Executables map[tp.Family]Executables
	// Sandbox runs iptables with an empty /etc/nsswitch.conf, which keeps it from asking for users over the network, and with a
	// lock of the network namespace instead of the machine's.
	Sandbox bool
	// StateDir keeps the journal; empty for /run/kuma-tproxy.
	StateDir string
}

// Executables are the paths of one family's binaries.
type Executables struct{ IPTables, Save, Restore string }

// Backend applies plans with iptables. It keeps no state between calls.
type Backend struct {
	cfg   Config
	tools []tool
	// fixed is the flavour of given executables.
	fixed Flavour
	// given says that the only flavour is that of given executables.
	given bool
}

// New finds the iptables binaries. It fails when there are none, or ctx ends.
func New(ctx context.Context, cfg Config) (*Backend, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.StateDir == "" {
		cfg.StateDir = netns.DefaultStateDir
	}
	tools, fixed, err := findTools(ctx, &cfg)
	if err != nil {
		return nil, fmt.Errorf("find iptables: %w", err)
	}
	b := &Backend{cfg: cfg, tools: tools, fixed: fixed}
	if cfg.Flavour != "" {
		return b.Only(cfg.Flavour, cfg.StateDir)
	}
	return b, b.check()
}

// Only is the backend that sees and changes one flavour, and keeps its journal in a directory of its own.
func (b *Backend) Only(f Flavour, stateDir string) (*Backend, error) {
	only := &Backend{cfg: b.cfg, given: b.fixed == f}
	only.cfg.Flavour, only.cfg.StateDir = f, stateDir
	for _, t := range b.tools {
		if t.flavour == f {
			only.tools = append(only.tools, t)
		}
	}
	return only, only.check()
}

// check fails when there is nothing to work with.
func (b *Backend) check() error {
	if slices.ContainsFunc(b.tools, func(t tool) bool { return t.family == tp.IPv4 }) {
		return nil
	}
	return fmt.Errorf("find iptables: no iptables-save and iptables-restore %sin %s; install the package iptables", flavoured(b.cfg.Flavour),
		strings.Join(append([]string{b.cfg.Path}, standardDirs...), ":"))
}

// survey is what is there, by tool.
type survey map[tool]*ruleset

// read reads every flavour and family. A flavour that cannot be read is left out when the other can be.
func (b *Backend) read(ctx context.Context) (survey, error) {
	s := survey{}
	var errs []error
	for _, t := range b.tools {
		rs, err := b.readOne(ctx, t)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s[t] = rs
	}
	for _, family := range []tp.Family{tp.IPv4, tp.IPv6} {
		tried := slices.ContainsFunc(b.tools, func(t tool) bool { return t.family == family })
		if tried && !slices.ContainsFunc(b.tools, func(t tool) bool { return t.family == family && s[t] != nil }) {
			return nil, fmt.Errorf("read %v rules: %w", family, errors.Join(errs...))
		}
	}
	return s, nil
}

// readOne reads one flavour and family, with what the journal knows of rules without comments.
func (b *Backend) readOne(ctx context.Context, t tool) (*ruleset, error) {
	rs, err := t.read(ctx, &b.cfg)
	if err != nil {
		return nil, err
	}
	if list, err := netns.Bare(b.cfg.StateDir); err == nil { // those who change anything say that it is not readable
		rs.claim(slices.DeleteFunc(list, func(r netns.BareRule) bool { return !t.has(r) }))
	}
	return rs, nil
}

// choose picks the flavour for the plan, the same for both families, by who else has IPv4 rules (contract
// transparentproxy.md §1.3). Our own rules do not count, so that an earlier choice does not stick.
func (b *Backend) choose(s survey) Flavour {
	if b.fixed != "" {
		return b.fixed
	}
	var usable, used []Flavour
	docker := map[Flavour]bool{}
	for _, t := range b.tools {
		if t.family != tp.IPv4 || s[t] == nil {
			continue
		}
		usable = append(usable, t.flavour)
		if s[t].hasForeign() {
			used = append(used, t.flavour)
		}
		docker[t.flavour] = s[t].hasDocker()
	}
	switch {
	case len(usable) == 1:
		return usable[0]
	case len(used) == 2:
		b.cfg.Log.Warn("conflicting iptables modes detected: both nft and legacy rules exist")
		if docker[Legacy] && !docker[NFT] {
			return Legacy
		}
		return NFT
	case len(used) == 1:
		return used[0]
	default:
		return NFT
	}
}

// Facts adds to host what only iptables can see. It changes nothing.
func (b *Backend) Facts(ctx context.Context, host *tp.Host) error {
	if b.cfg.Flavour == NFT { // the kernel says it without a process
		return b.factsOfNFT(host)
	}
	s, err := b.read(ctx)
	if err != nil {
		return err
	}
	chosen := b.choose(s)
	for t, rs := range s {
		if t.flavour != chosen {
			continue
		}
		if t.family == tp.IPv4 {
			host.Docker4 = rs.hasDocker()
		} else {
			host.Docker6 = rs.hasDocker()
		}
	}
	return nil
}

func (b *Backend) factsOfNFT(host *tp.Host) error {
	for family, docker := range map[tp.Family]*bool{tp.IPv4: &host.Docker4, tp.IPv6: &host.Docker6} {
		there, err := nftObjects(family)
		if err != nil {
			return err
		}
		*docker = there[netns.Created{Family: family, Table: tp.TableNAT, Chain: tp.ChainDocker}]
	}
	return nil
}

// zoneProbe is a rule that needs what the zone split needs.
const zoneProbe = "*raw\n-A OUTPUT -p udp -m udp --dport 53 -m owner --uid-owner 0 -j CT --zone 1\nCOMMIT\n"

// ProbeZones finds out whether this host can put connections into conntrack zones, and sets host.ConntrackZones. It adds no
// rule, but it may make the kernel load modules: it is not for a dry run.
func (b *Backend) ProbeZones(ctx context.Context, host *tp.Host) error {
	s, err := b.read(ctx)
	if err != nil {
		return err
	}
	chosen := b.choose(s)
	for _, t := range b.tools {
		if t.flavour == chosen && t.family == tp.IPv4 {
			err := t.write(ctx, &b.cfg, zoneProbe, "--test")
			if ctx.Err() != nil {
				return err
			}
			host.ConntrackZones = err == nil
		}
	}
	return nil
}

// Check compares the kernel with the plan; nil is the plan of no redirection. No difference means in sync. It changes
// nothing.
func (b *Backend) Check(ctx context.Context, plan *tp.Plan) ([]tp.Difference, error) {
	if plan == nil && b.cfg.Flavour == NFT && b.surelyNone() {
		return nil, nil
	}
	s, err := b.read(ctx)
	if err != nil {
		return nil, err
	}
	chosen := b.choose(s)
	var out []tp.Difference
	for _, t := range b.tools {
		rs := s[t]
		if rs == nil {
			continue
		}
		var want *tp.FamilyPlan
		if plan != nil && t.flavour == chosen {
			want = plan.Family(t.family)
		}
		out = append(out, compare(t.flavour, t.family, rs, want)...)
	}
	if plan == nil {
		return out, nil
	}
	for _, f := range plan.Families {
		if !slices.ContainsFunc(b.tools, func(t tool) bool { return t.flavour == chosen && t.family == f.Family && s[t] != nil }) {
			out = append(out, tp.Difference{Family: f.Family, Backend: chosen.backend(), Problem: command(f.Family) + " is missing, so that nothing is redirected"})
		}
	}
	missing, err := netns.MissingAddresses(plan.Addresses)
	if err != nil {
		return nil, err
	}
	for _, p := range missing {
		out = append(out, tp.Difference{Family: tp.IPv6, Backend: chosen.backend(), Problem: "loopback lacks the address " + p.String()})
	}
	return out, nil
}
