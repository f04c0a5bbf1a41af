//go:build linux

package iptables

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

func TestDriftIsSeenAndRepaired(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-drift", "mesh")[0]
	b := newBackend(t, NFT)
	plan := redirectlab.NewPlan(t, func(c *tp.Config) { c.DNS.CaptureAll = true })
	for _, tc := range []struct{ name, do, want string }{
		{"rule gone", "iptables -t nat -D KUMA_MESH_OUTBOUND 1", "nat KUMA_MESH_OUTBOUND passthrough: the rule is missing"},
		{"rule too many", "iptables -t nat -I KUMA_MESH_INBOUND 1 -p udp -j RETURN", "the rule is not in the plan"},
		{"order", "iptables -t nat -D KUMA_MESH_INBOUND 1; iptables -t nat -D KUMA_MESH_OUTBOUND 1; iptables -t nat -A KUMA_MESH_OUTBOUND -s 127.0.0.6 -o lo -j RETURN; " +
			"iptables -t nat -A KUMA_MESH_INBOUND -p tcp -j KUMA_MESH_INBOUND_REDIRECT", "nat KUMA_MESH_OUTBOUND: the rules are in another order"},
		{"chain flushed", "ip6tables -t nat -F KUMA_MESH_INBOUND", "IPv6 (iptables-nft) nat KUMA_MESH_INBOUND all: the rule is missing"},
		{"jump gone", "iptables -t nat -D PREROUTING 1", "nat PREROUTING inbound: the rule is missing"},
		{"somebody before", "iptables -t nat -I OUTPUT 1 -p udp -j RETURN", "a rule of somebody else stands before it"},
		{"everything flushed", "iptables -t nat -F; iptables -t nat -X", "the chain is missing"},
		{"table gone", "nft delete table ip raw", "raw OUTPUT"},
		{"address gone", "ip addr del ::6/128 dev lo", "loopback lacks the address ::6/128"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			redirectlab.Apply(t, h, b, plan)
			redirectlab.Shell(t, h, "", tc.do)
			var all []string
			for _, d := range redirectlab.Check(t, h, b, plan) {
				all = append(all, d.String())
			}
			if got := strings.Join(all, "\n"); !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			redirectlab.Apply(t, h, b, plan)
			if d := redirectlab.Check(t, h, b, plan); len(d) > 0 {
				t.Errorf("not repaired: %v", d)
			}
		})
	}
}

func TestOtherFlavourIsCleaned(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-flip", "mesh")[0]
	plan := redirectlab.NewPlan(t, nil)
	redirectlab.Apply(t, h, newBackend(t, Legacy), plan)
	both := newBackend(t, NFT, Legacy)
	redirectlab.Apply(t, h, both, plan)
	if d := redirectlab.Check(t, h, both, plan); len(d) > 0 {
		t.Errorf("after apply: %v", d)
	}
	if out := redirectlab.Shell(t, h, "", "iptables-legacy-save; ip6tables-legacy-save"); strings.Contains(out, "KUMA_MESH") {
		t.Errorf("legacy rules are left:\n%s", out)
	}
	// IPv6 rules go when IPv6 is not wanted any more.
	four := redirectlab.NewPlan(t, func(c *tp.Config) { c.IPFamilyMode = tp.IPv4Only })
	redirectlab.Apply(t, h, both, four)
	if out := redirectlab.Shell(t, h, "", "ip6tables-nft-save"); strings.Contains(out, "KUMA_MESH") {
		t.Errorf("IPv6 rules are left:\n%s", out)
	}
	redirectlab.Apply(t, h, newBackend(t, Legacy), plan)
	if !redirectlab.Remove(t, h, both) {
		t.Error("Remove says that there was nothing")
	}
	if d := redirectlab.Check(t, h, both, nil); len(d) > 0 {
		t.Errorf("after removal: %v", d)
	}
}

func TestFlavourFollowsForeignRules(t *testing.T) {
	for _, tc := range []struct {
		name, setup string
		want        Flavour
	}{
		{"none", "true", NFT},
		{"legacy only", "iptables-legacy -A INPUT -p icmp -j ACCEPT", Legacy},
		{"both", "iptables-legacy -A INPUT -p icmp -j ACCEPT; iptables-nft -A INPUT -p icmp -j ACCEPT", NFT},
		{"both, docker in legacy", "iptables-legacy -t nat -N DOCKER_OUTPUT; iptables-nft -A INPUT -p icmp -j ACCEPT", Legacy},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := redirectlab.NewHosts(t, "tp-choose", "mesh")[0]
			redirectlab.Shell(t, h, "", tc.setup)
			b := newBackend(t, NFT, Legacy)
			var got Flavour
			host := tp.Host{}
			if err := h.Do(func() error {
				s, err := b.read(t.Context())
				got = b.choose(s)
				return errors.Join(err, b.Facts(t.Context(), &host), b.ProbeZones(t.Context(), &host))
			}); err != nil {
				t.Fatal(err)
			}
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if docker := strings.Contains(tc.setup, "DOCKER"); host.Docker4 != docker || host.Docker6 || !host.ConntrackZones {
				t.Errorf("got facts %+v", host)
			}
		})
	}
}

// TestEveryInterface has a virtual network behind every interface, of which iptables-save does not speak.
func TestEveryInterface(t *testing.T) {
	plan := redirectlab.NewPlan(t, func(c *tp.Config) {
		c.DNS.CaptureAll = true
		for _, s := range []string{"+:10.0.0.0/8", "+:fd00::/8"} {
			v, err := tp.ParseVNet(s)
			if err != nil {
				t.Fatal(err)
			}
			c.VNets = append(c.VNets, v)
		}
	})
	for _, flavour := range flavours {
		t.Run(string(flavour), func(t *testing.T) {
			h := redirectlab.NewHosts(t, "tp-every", "mesh")[0]
			b := newBackend(t, flavour)
			for _, b.cfg.NoComments = range []bool{false, true} {
				redirectlab.Apply(t, h, b, plan)
				if d := redirectlab.Check(t, h, b, plan); len(d) > 0 {
					t.Errorf("after apply: %v", d)
				}
			}
			if err := os.RemoveAll(b.cfg.StateDir); err != nil { // so that only their words tell whose the rules are
				t.Fatal(err)
			}
			redirectlab.Remove(t, h, b)
			if out := redirectlab.Shell(t, h, "", fmt.Sprintf("iptables-%[1]s-save; ip6tables-%[1]s-save", flavour)); strings.Contains(out, "-A ") {
				t.Errorf("left:\n%s", out)
			}
		})
	}
}
