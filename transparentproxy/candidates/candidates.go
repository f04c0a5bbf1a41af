//go:build linux

// Package candidates lists all backends of redirection that this program has, for the package redirect to choose from.
package candidates

import (
	"cmp"
	"context"
	"path/filepath"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/iptables"
	"github.com/kuma-dp/kuma-dp/transparentproxy/nftables"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
)

// Names are what redirect.Config.Backend takes, the default first.
var Names = []string{redirect.Auto, nft, redirect.IPTables, "iptables-nft", "iptables-legacy"}

// nft is the backend that needs no program.
const nft = "nftables"

// DefaultWait is how long a backend waits for another user of a lock.
const DefaultWait = iptables.DefaultWait

// Config is what all backends take: StateDir is that of redirect.Config, and what only iptables knows does not concern nftables.
type Config = iptables.Config

// All makes every backend, the best first. One that cannot be had on this host has its reason with it.
func All(ctx context.Context, cfg Config) []redirect.Candidate {
	dir := func(name string) string { // each backend has a journal of its own
		return filepath.Join(cmp.Or(cfg.StateDir, redirect.DefaultStateDir), name)
	}
	out := []redirect.Candidate{{Name: nft, Backend: nftables.New(nftables.Config{Log: cfg.Log, StateDir: dir(nft)})}}
	both, err := iptables.New(ctx, cfg)
	for _, flavour := range []iptables.Flavour{iptables.NFT, iptables.Legacy} {
		c := redirect.Candidate{Name: redirect.IPTables + "-" + string(flavour), Err: err}
		c.Seen = func() ([]tp.Difference, error) { return iptables.Seen(flavour) }
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
