//go:build linux

// Package candidates lists all backends of redirection that this program has, for the package redirect to choose from.
package candidates

import (
	"cmp"
	"context"
	"path/filepath"

	"github.com/kuma-dp/kuma-dp/transparentproxy/iptables"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
)

// Names are what redirect.Config.Backend takes, the default first.
var Names = []string{redirect.Auto, redirect.IPTables, "iptables-nft", "iptables-legacy"}

// DefaultWait is how long a backend waits for another user of a lock.
const DefaultWait = iptables.DefaultWait

// Config is what all backends take: StateDir is that of redirect.Config, and what only iptables knows does not concern others.
type Config = iptables.Config

// All makes every backend, the best first. One that cannot be had on this host has its reason with it.
func All(ctx context.Context, cfg Config) []redirect.Candidate {
	dir := func(name string) string { // each backend has a journal of its own
		return filepath.Join(cmp.Or(cfg.StateDir, redirect.DefaultStateDir), name)
	}
	var out []redirect.Candidate
	both, err := iptables.New(ctx, cfg)
	for _, flavour := range []iptables.Flavour{iptables.NFT, iptables.Legacy} {
		c := redirect.Candidate{Name: redirect.IPTables + "-" + string(flavour), Err: err}
		if err == nil {
			if b, err := both.Only(flavour, dir(c.Name)); err != nil {
				c.Err = err
			} else {
				c.Backend = b
			}
		}
		out = append(out, c)
	}
	return out
}
