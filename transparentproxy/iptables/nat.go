//go:build linux

package iptables

import (
	"context"
	"fmt"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// NAT lists the rules of the nat tables, chain by chain in their order, ours among them. It changes nothing.
func (b *Backend) NAT(ctx context.Context) ([]tp.NATRule, error) {
	s, err := b.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("list NAT rules: %w", err)
	}
	var out []tp.NATRule
	for _, t := range b.tools {
		if s[t] == nil {
			continue
		}
		for _, r := range s[t].table(tp.TableNAT).rules {
			out = append(out, tp.NATRule{Family: t.family, Chain: r.chain, Target: r.target(), Text: r.args})
		}
	}
	return out, nil
}
