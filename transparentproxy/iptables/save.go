//go:build linux

package iptables

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// saved is everything that an apply or a removal may change.
type saved struct {
	Rules   []savedFamily
	Journal json.RawMessage
}

// savedFamily is what was there of ours in one flavour and family, by table.
type savedFamily struct {
	Flavour Flavour
	Family  tp.Family
	Tables  map[string]savedOurs
}

type savedOurs struct {
	Chains []string
	Rules  []savedOwn
}

type savedOwn struct {
	Chain    string
	Position int
	Args     string
}

// Save returns what is there of ours and of Kuma's, for Restore. It changes nothing.
func (b *Backend) Save(ctx context.Context) ([]byte, error) {
	now, err := b.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("save rules: %w", err)
	}
	var s saved
	for _, t := range b.tools {
		if now[t] == nil {
			continue
		}
		f := savedFamily{t.flavour, t.family, map[string]savedOurs{}}
		for name, d := range desiredBefore(now[t]) {
			ours := savedOurs{Chains: d.chains}
			for _, r := range d.rules {
				ours.Rules = append(ours.Rules, savedOwn{r.chain, r.position, r.args})
			}
			f.Tables[name] = ours
		}
		s.Rules = append(s.Rules, f)
	}
	if s.Journal, err = netns.SaveJournal(b.cfg.StateDir, b.cfg.Log); err != nil {
		return nil, fmt.Errorf("save rules: %w", err)
	}
	return json.Marshal(s)
}

// Restore brings back what Save returned, down to chains and tables that were not there then. Rules of others stay as they
// are now.
func (b *Backend) Restore(ctx context.Context, data []byte) error {
	var s saved
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("restore rules: %w", err)
	}
	err := netns.RestoreJournal(b.cfg.StateDir, s.Journal, func() error {
		var errs []error
		for _, f := range s.Rules {
			i := slices.IndexFunc(b.tools, func(t tool) bool { return t.flavour == f.Flavour && t.family == f.Family })
			if i < 0 {
				errs = append(errs, fmt.Errorf("%s (%s) is gone", command(f.Family), f.Flavour))
				continue
			}
			errs = append(errs, b.change(ctx, step{tool: b.tools[i], want: f.desired()}))
		}
		return errors.Join(errs...)
	}, deleteCreated, b.cfg.Log)
	if err != nil {
		return fmt.Errorf("restore rules: %w", err)
	}
	return nil
}

func (f savedFamily) desired() desired {
	d := desired{}
	for name, ours := range f.Tables {
		t := desiredTable{chains: ours.Chains}
		for _, r := range ours.Rules {
			t.rules = append(t.rules, desiredRule{r.Chain, r.Position, r.Args})
		}
		d[name] = t
	}
	return d
}
