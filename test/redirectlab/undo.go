//go:build linux

package redirectlab

import (
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// Foreign are rules of others with counters, own chains, and comments that hold our words.
const Foreign = `*filter
:MYFILTER - [0:0]
[5:150] -A INPUT -p tcp -m tcp --dport 4444 -j DROP
[7:700] -A MYFILTER -m comment --comment "kuma/mesh/transparent/proxy/not in our tables" -j RETURN
COMMIT
*nat
:MYCHAIN - [0:0]
[1:60] -A PREROUTING -p tcp -m tcp --dport 7777 -j MYCHAIN
[2:120] -A OUTPUT -p tcp -m tcp --dport 9999 -m comment --comment "see kuma/mesh/transparent/proxy/readme about KUMA_MESH_OUTBOUND" -j REDIRECT --to-ports 9998
[3:180] -A OUTPUT -p tcp -m tcp --dport 9997 -m comment --comment "kuma/mesh/transparent/proxy/ours by comment, not by verdict" -j MYCHAIN
[4:240] -A MYCHAIN -m comment --comment "-j KUMA_MESH_INBOUND \"quoted\" \\ and more" -j RETURN
COMMIT
`

// ForeignNFT is what only nft(8) makes.
const ForeignNFT = `table inet theirs {
	set s { type ipv4_addr; }
	chain c {
		type filter hook input priority 0;
		ip saddr @s tcp dport 1234 counter packets 9 bytes 99 drop
	}
}
`

// AddForeign adds the rules of Foreign in both families, with iptables of a flavour (nft or legacy).
func AddForeign(t testing.TB, h *netlab.Host, flavour string) {
	t.Helper()
	Shell(t, h, Foreign, "t=$(cat); for c in iptables ip6tables; do printf '%s\\n' \"$t\" | $c-"+flavour+"-restore -c --noflush; done")
}

// NewFullPlan is a plan with everything that a plan can have.
func NewFullPlan(t testing.TB) *tp.Plan {
	t.Helper()
	return NewPlan(t, func(c *tp.Config) {
		c.DNS.Enabled, c.DropInvalid, c.Log = true, true, true
		c.Inbound.ExcludePorts, c.Outbound.ExcludePorts = ParsePorts(t, "22,3000-3010"), ParsePorts(t, "443")
		for _, s := range []string{"1000", "tcp:22,3000-5000:106-108", "1-2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17:100000"} {
			e, err := tp.ParseUIDExclusion(s)
			if err != nil {
				t.Fatal(err)
			}
			c.Outbound.ExcludeUIDs = append(c.Outbound.ExcludeUIDs, e)
		}
		var err error
		if c.Outbound.ExcludeIPs, err = tp.ParseIPs("172.16.0.0/16,fd00::/8,0.0.0.0/0,::1.2.3.4"); err != nil {
			t.Fatal(err)
		}
		if c.Inbound.ExcludeIPs, err = tp.ParseIPs("10.0.0.1,fe80::1"); err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"br+:172.18.0.0/16", "iface:fd01::/64"} {
			v, err := tp.ParseVNet(s)
			if err != nil {
				t.Fatal(err)
			}
			c.VNets = append(c.VNets, v)
		}
	})
}

// counters of rules that are installed count whatever the host sends by itself.
var counters = regexp.MustCompile(`\[\d+:\d+\] |packets \d+ bytes \d+`)

// CheckUndo installs and removes twice, and demands that the host is then as it was, to the byte; visible takes out of a
// snapshot what may stay, nil for nothing. Three installations in a row, the second of another plan, end as one does.
func CheckUndo(t *testing.T, h *netlab.Host, b Backend, visible func(snapshot string) string) {
	t.Helper()
	if visible == nil {
		visible = func(s string) string { return s }
	}
	want := visible(Snapshot(t, h))
	full, other := NewFullPlan(t), NewPlan(t, func(c *tp.Config) { c.Inbound.Port = 25006 })
	for range 2 {
		installed := ""
		for _, plan := range []*tp.Plan{full, other, full} {
			Apply(t, h, b, plan)
			if d := Check(t, h, b, plan); len(d) > 0 {
				t.Fatalf("after apply: %v", d)
			}
			if plan == full && installed == "" {
				installed = counters.ReplaceAllString(Snapshot(t, h), "")
			}
		}
		if diff := cmp.Diff(installed, counters.ReplaceAllString(Snapshot(t, h), "")); diff != "" {
			t.Errorf("the third installation differs from the first:\n%s", diff)
		}
		if !Remove(t, h, b) {
			t.Error("Remove says that there was nothing")
		}
		if diff := cmp.Diff(want, visible(Snapshot(t, h))); diff != "" {
			t.Fatalf("the host is not as before:\n%s", diff)
		}
		if d := Check(t, h, b, nil); len(d) > 0 {
			t.Errorf("after removal: %v", d)
		}
	}
	if Remove(t, h, b) {
		t.Error("Remove found something again")
	}
}
