//go:build linux

// Package nftables puts plans of the package transparentproxy into the kernel over netlink, as one table of its own, and
// takes them out again. It needs no nft binary, and touches nothing outside of its table but the loopback address.
//
// The table is `inet kuma_mesh`, for both families, with the chains of Kuma 2.9 and, for each built-in chain of iptables
// that the plan uses, a chain such as nat_output that the kernel enters by itself, before those of iptables. The comment
// of each rule names the plan's rules; an empty chain plan_<hash> names the plan. Kernels that have no NAT in the family
// inet (before 5.2) get a table in ip and one in ip6.
//
// Everything happens in the network namespace of the calling thread.
package nftables

import (
	"context"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// Config is what a Backend needs. The zero value is usable.
type Config struct {
	// Log takes warnings and what was changed; nil for none.
	Log *slog.Logger
	// StateDir keeps the journal; empty for /run/kuma-tproxy.
	StateDir string
}

// Backend applies plans over netlink. It keeps no state between calls.
type Backend struct {
	cfg Config
	// joint is the family of the table for both families.
	joint uint8
}

// New makes a backend. It does not ask the kernel anything yet.
func New(cfg Config) *Backend {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.StateDir == "" {
		cfg.StateDir = netns.DefaultStateDir
	}
	return &Backend{cfg: cfg, joint: unix.NFPROTO_INET}
}

// Check compares the kernel with the plan, rule by rule; nil is the plan of no redirection. It changes nothing.
func (b *Backend) Check(ctx context.Context, plan *tp.Plan) ([]tp.Difference, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("check redirection: %w", err)
	}
	now, err := read()
	if err != nil {
		return nil, fmt.Errorf("check redirection: %w", err)
	}
	if plan == nil {
		return compare(now, nil)
	}
	joint := b.joint
	if isSplit(now) {
		joint = 0
	}
	want, err := compile(plan, joint)
	if err != nil {
		return nil, fmt.Errorf("check redirection: %w", err)
	}
	out, err := compare(now, want)
	if err != nil {
		return nil, fmt.Errorf("check redirection: %w", err)
	}
	missing, err := netns.MissingAddresses(plan.Addresses)
	if err != nil {
		return nil, fmt.Errorf("check redirection: %w", err)
	}
	for _, p := range missing {
		out = append(out, tp.Difference{Family: tp.IPv6, Backend: backend, Problem: "loopback lacks the address " + p.String()})
	}
	return out, nil
}

// isSplit reports whether there is a table for each family instead of one.
func isSplit(now map[uint8]*liveTable) bool {
	return now[unix.NFPROTO_INET] == nil && (now[unix.NFPROTO_IPV4] != nil || now[unix.NFPROTO_IPV6] != nil)
}
