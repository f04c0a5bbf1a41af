//go:build linux

package iptables

import (
	"context"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
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

// Given reports whether the configuration names the executables of the backend's only flavour.
func (b *Backend) Given() bool { return b.given }
