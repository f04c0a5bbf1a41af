//go:build linux

package iptables

import (
	"context"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// Others says how much of others the IPv4 rules hold: 0 nothing, 1 rules, 2 Docker's redirection of DNS (contract
// transparentproxy.md §1.3). It changes nothing.
func (b *Backend) Others(ctx context.Context) (int, error) {
	s, err := b.read(ctx)
	if err != nil {
		return 0, err
	}
	most := 0
	for t, rs := range s {
		switch {
		case t.family != tp.IPv4:
		case rs.hasDocker():
			most = max(most, 2)
		case rs.hasForeign():
			most = max(most, 1)
		}
	}
	return most, nil
}

// Seen lists chains of ours and of Kuma's in a flavour, for a host without its programs. Of the legacy flavour the kernel shows
// nothing. It changes nothing.
func Seen(f Flavour) ([]tp.Difference, error) {
	if f != NFT {
		return nil, nil
	}
	var out []tp.Difference
	for _, family := range []tp.Family{tp.IPv4, tp.IPv6} {
		there, err := nftObjects(family)
		if err != nil {
			return nil, err
		}
		for _, c := range ownChains {
			if there[netns.Created{Family: family, Table: tp.TableNAT, Chain: c}] {
				out = append(out, tp.Difference{Backend: f.backend(), Family: family, Table: tp.TableNAT, Chain: c, Problem: "the chain is not in the plan"})
			}
		}
	}
	return out, nil
}

// Given reports whether the configuration names the executables of the backend's only flavour.
func (b *Backend) Given() bool { return b.given }
