//go:build linux

package nftables

import (
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

func TestDriftIsSeenAndRepaired(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-nftdrift", "mesh")[0]
	b := newBackend(t)
	plan := redirectlab.NewPlan(t, func(c *tp.Config) {
		c.DNS.CaptureAll = true
		c.Outbound.ExcludePorts = redirectlab.ParsePorts(t, "443,8080-8090")
	})
	// handle finds a rule by its comment.
	const handle = `handle() { nft -a list chain inet kuma_mesh $1 | sed -n "s/.*comment \"$2\" # handle //p"; }; `
	for _, tc := range []struct{ name, do, want string }{
		{"rule gone", "nft delete rule inet kuma_mesh KUMA_MESH_OUTBOUND handle $(handle KUMA_MESH_OUTBOUND dp)", "nftables nat KUMA_MESH_OUTBOUND dp: the rule is missing"},
		{"rule too many", "nft insert rule inet kuma_mesh KUMA_MESH_INBOUND udp dport 1 return", "nat KUMA_MESH_INBOUND handle "},
		{"rule that this package does not know", "nft insert rule inet kuma_mesh KUMA_MESH_INBOUND fib daddr type local return", "the rule is not in the plan"},
		{"rule changed", "nft replace rule inet kuma_mesh KUMA_MESH_INBOUND_REDIRECT handle $(handle KUMA_MESH_INBOUND_REDIRECT envoy) meta l4proto tcp redirect to :1", "nat KUMA_MESH_INBOUND_REDIRECT envoy: the rule is missing"},
		{"rule negated", "nft replace rule inet kuma_mesh KUMA_MESH_OUTBOUND handle $(handle KUMA_MESH_OUTBOUND dp) meta skuid != 5678 return", "nat KUMA_MESH_OUTBOUND dp: the rule is missing"},
		{"rule that also counts", "nft replace rule inet kuma_mesh KUMA_MESH_OUTBOUND handle $(handle KUMA_MESH_OUTBOUND dp) meta skuid 5678 counter return", "nat KUMA_MESH_OUTBOUND dp: the rule is missing"},
		{
			"set changed",
			"n=$(handle KUMA_MESH_OUTBOUND 'exclude.port.443, exclude.port.8080:8090'); nft insert rule inet kuma_mesh KUMA_MESH_OUTBOUND handle $n tcp dport '{ 443, 8080-8089 }' return; nft delete rule inet kuma_mesh KUMA_MESH_OUTBOUND handle $n",
			"nat KUMA_MESH_OUTBOUND exclude.port.8080:8090: the rule is missing",
		},
		{
			"set inverted",
			"n=$(handle KUMA_MESH_OUTBOUND 'exclude.port.443, exclude.port.8080:8090'); nft insert rule inet kuma_mesh KUMA_MESH_OUTBOUND handle $n tcp dport != '{ 443, 8080-8090 }' return; nft delete rule inet kuma_mesh KUMA_MESH_OUTBOUND handle $n",
			"nat KUMA_MESH_OUTBOUND exclude.port.443: the rule is missing",
		},
		{"order", "nft delete rule inet kuma_mesh KUMA_MESH_OUTBOUND handle $(handle KUMA_MESH_OUTBOUND dp); nft add rule inet kuma_mesh KUMA_MESH_OUTBOUND meta skuid 5678 return", "nat KUMA_MESH_OUTBOUND: the rules are in another order"},
		{"chain flushed", "nft flush chain inet kuma_mesh nat_output", "nat OUTPUT outbound: the rule is missing"},
		{"chain gone", "nft flush chain inet kuma_mesh raw_output; nft delete chain inet kuma_mesh raw_output", "raw OUTPUT: the chain raw_output is missing"},
		{"chain too many", "nft add chain inet kuma_mesh mine '{ type nat hook output priority -150; }'; nft add rule inet kuma_mesh mine accept", "kuma_mesh mine: the chain is not in the plan"},
		{
			"chain too many, in a map", "nft add chain inet kuma_mesh mine; nft add map inet kuma_mesh m '{ type inet_service : verdict; }'; nft add element inet kuma_mesh m '{ 1 : jump mine }'",
			"kuma_mesh mine: the chain is not in the plan",
		},
		{"policy", "nft chain inet kuma_mesh raw_output '{ policy drop; }'", "raw OUTPUT: the chain raw_output is entered at another place or by another policy"},
		{
			"hook", "nft flush chain inet kuma_mesh nat_output; nft delete chain inet kuma_mesh nat_output; nft add chain inet kuma_mesh nat_output '{ type nat hook output priority -99; }'",
			"nat OUTPUT: the chain nat_output is entered at another place or by another policy",
		},
		{"switched off", "nft add table inet kuma_mesh '{ flags dormant; }'", "the table is switched off"},
		{"table gone", "nft delete table inet kuma_mesh", "the table inet kuma_mesh is missing"},
		{"everything gone", "nft flush ruleset", "the table inet kuma_mesh is missing"},
		{"table too many", "nft add table ip6 kuma_mesh", "the table ip6 kuma_mesh is not in the plan"},
		{"address gone", "ip addr del ::6/128 dev lo", "IPv6 (nftables): loopback lacks the address ::6/128"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			redirectlab.Apply(t, h, b, plan)
			before := redirectlab.Shell(t, h, "", "nft list ruleset")
			redirectlab.Shell(t, h, "", handle+tc.do)
			var all []string
			for _, d := range redirectlab.Check(t, h, b, plan) {
				all = append(all, d.String())
			}
			got := strings.Join(all, "\n")
			if !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if strings.Contains(got, "another plan") {
				t.Errorf("got %q, but the plan is the same", got)
			}
			redirectlab.Apply(t, h, b, plan)
			if d := redirectlab.Check(t, h, b, plan); len(d) > 0 {
				t.Errorf("not repaired: %v", d)
			}
			if after := redirectlab.Shell(t, h, "", "nft list ruleset"); sorted(after) != sorted(before) {
				t.Errorf("after repair:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

func TestAnotherPlanIsNamed(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-nftother", "mesh")[0]
	b := newBackend(t)
	redirectlab.Apply(t, h, b, redirectlab.NewPlan(t, nil))
	d := redirectlab.Check(t, h, b, redirectlab.NewPlan(t, func(c *tp.Config) { c.Inbound.Port = 25006 }))
	if len(d) != 3 || d[0].Problem != "the table was made for another plan" || d[1].Rule != "envoy" {
		t.Errorf("got %v", d)
	}
	if d := redirectlab.Check(t, h, b, nil); len(d) != 1 || !strings.Contains(d[0].String(), "is not in the plan") {
		t.Errorf("got %v, want that there should be no table", d)
	}
}

// TestReplacingKeepsHooks looks at the chains that the kernel enters by itself: a packet could slip through between an old
// and a new one.
func TestReplacingKeepsHooks(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-nfthooks", "mesh")[0]
	b := newBackend(t)
	hooks := func() string {
		return redirectlab.Shell(t, h, "", "nft -a list table inet kuma_mesh | grep -E '^.(chain (nat|raw)_)'")
	}
	redirectlab.Apply(t, h, b, redirectlab.NewPlan(t, func(c *tp.Config) { c.DNS.Enabled = true }))
	before := hooks()
	if strings.Count(before, "handle") != 4 {
		t.Fatalf("got hooks:\n%s", before)
	}
	for range 3 {
		for _, port := range []uint16{25006, 25007} {
			redirectlab.Apply(t, h, b, redirectlab.NewPlan(t, func(c *tp.Config) { c.DNS.CaptureAll, c.DropInvalid, c.Inbound.Port = true, true, port }))
			if after := hooks(); after != before {
				t.Errorf("hooks were\n%sand are\n%s", before, after)
			}
		}
	}
}
