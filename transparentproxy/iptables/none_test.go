//go:build linux

package iptables

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
)

// TestNothingOfOursNeedsNoProcess has no iptables-save that works: only a host that may have rules of ours needs it.
func TestNothingOfOursNeedsNoProcess(t *testing.T) {
	const bare = "iptables-nft -t nat -N KUMA_MESH_INBOUND; iptables-nft -t nat -A PREROUTING -p tcp -j KUMA_MESH_INBOUND"
	for _, tc := range []struct {
		name, setup string
		none        bool
	}{
		{"nothing", "true", true},
		{"rules of others", "for c in iptables ip6tables; do $c-nft -A INPUT -p icmp -j ACCEPT; $c-nft -t nat -A OUTPUT -p tcp -m comment --comment kuma -j RETURN; done; " +
			"iptables-nft -t nat -N DOCKER_OUTPUT; nft add table inet kuma_mesh", true},
		{"a chain", "ip6tables-nft -t nat -N KUMA_MESH_OUTBOUND", false},
		{"a rule with a comment", "ip6tables-nft -t raw -A OUTPUT -p udp --dport 53 -m comment --comment 'kuma/mesh/transparent/proxy/zone' -j CT --zone 1", false},
		{"a rule without", bare, false},
		{"words of ours in a rule of others", "iptables-nft -t nat -A OUTPUT -p tcp -m comment --comment 'see KUMA_MESH_OUTBOUND' -j RETURN", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := redirectlab.NewHosts(t, "tp-none", "mesh")[0]
			redirectlab.Shell(t, h, "", tc.setup)
			b := newBackend(t, NFT)
			b.cfg.Flavour = NFT
			for i := range b.tools {
				b.tools[i].save = "/nonexistent"
			}
			err := h.Do(func() error { _, err := b.Check(t.Context(), nil); return err })
			if (err == nil) != tc.none {
				t.Errorf("got %v, want none: %t", err, tc.none)
			}
		})
	}
}
