//go:build linux

package nftables

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/iptables"
)

// hostile has our names and places in tables of others, native rules in the tables of iptables, and another mesh.
const hostile = `table inet theirs2 {
	chain KUMA_MESH_OUTBOUND { counter packets 3 bytes 33 return comment "envoy"; }
	chain nat_output {
		type nat hook output priority -101;
		tcp dport 9998 jump KUMA_MESH_OUTBOUND
	}
	chain plan_000000000000 { }
}
table ip nat {
	set s { type ipv4_addr; elements = { 10.9.9.9 } }
	chain ISTIO_OUTPUT { ip daddr @s counter packets 1 bytes 11 return; }
	chain mine { fib daddr type local return; }
}
table netdev kuma_mesh {
	chain c { }
}
table bridge kuma_mesh {
	chain nat_output { }
}
`

func addHostile(t testing.TB, h *netlab.Host) {
	t.Helper()
	for _, flavour := range []string{"nft", "legacy"} {
		redirectlab.AddForeign(t, h, flavour)
	}
	redirectlab.Shell(t, h, redirectlab.ForeignNFT+hostile, "nft -f -")
}

func TestRemoveRestoresTheHost(t *testing.T) {
	for _, tc := range []struct {
		name  string
		setup func(testing.TB, *netlab.Host)
		joint uint8
	}{
		{"nothing before", func(testing.TB, *netlab.Host) {}, unix.NFPROTO_INET},
		{"foreign rules", addHostile, unix.NFPROTO_INET},
		{"foreign rules, a table for each family", addHostile, unix.NFPROTO_BRIDGE},
		{"address of somebody else", func(t testing.TB, h *netlab.Host) {
			redirectlab.Shell(t, h, "", "ip addr add ::6/128 dev lo")
		}, unix.NFPROTO_INET},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := redirectlab.NewHosts(t, "tp-nftundo", "mesh")[0]
			tc.setup(t, h)
			b := newBackend(t)
			b.joint = tc.joint
			redirectlab.CheckUndo(t, h, b, nil)
			if _, err := os.Stat(b.cfg.StateDir); err == nil {
				t.Error("the journal is left")
			}
		})
	}
}

func TestRemoveWithoutJournal(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-nftnojrn", "mesh")[0]
	addHostile(t, h)
	before := redirectlab.Snapshot(t, h)
	b := newBackend(t)
	redirectlab.Apply(t, h, b, redirectlab.NewFullPlan(t))
	if err := os.RemoveAll(b.cfg.StateDir); err != nil {
		t.Fatal(err)
	}
	if !redirectlab.Remove(t, h, New(b.cfg)) {
		t.Error("Remove says that there was nothing")
	}
	// Nobody knows any more whose the address is.
	redirectlab.Shell(t, h, "", "ip addr del ::6/128 dev lo")
	if diff := cmp.Diff(before, redirectlab.Snapshot(t, h)); diff != "" {
		t.Errorf("the host is not as before:\n%s", diff)
	}
}

func TestRefusalLeavesEverythingAsBefore(t *testing.T) {
	for _, earlier := range []bool{false, true} {
		t.Run(fmt.Sprintf("earlier %t", earlier), func(t *testing.T) {
			h := redirectlab.NewHosts(t, "tp-nftfail", "mesh")[0]
			addHostile(t, h)
			b := newBackend(t)
			if earlier {
				redirectlab.Apply(t, h, b, redirectlab.NewPlan(t, func(c *tp.Config) { c.IPFamilyMode = tp.IPv4Only }))
			}
			before := redirectlab.Snapshot(t, h)
			plan := redirectlab.NewFullPlan(t)
			tables := plan.Families[1].Tables
			rule := &tables[len(tables)-1].Chains[0].Rules[0]
			rule.Match, rule.Verdict = []tp.Match{tp.Protocol{Name: "tcp"}}, tp.Redirect{Port: 1} // not in mangle
			err := h.Do(func() error { return b.Apply(t.Context(), plan) })
			if err == nil || !strings.Contains(err.Error(), "the kernel refuses mangle_prerouting rule invalid") {
				t.Errorf("got %v, want an error that names the rule", err)
			}
			if diff := cmp.Diff(before, redirectlab.Snapshot(t, h)); diff != "" {
				t.Errorf("the host is not as before:\n%s", diff)
			}
		})
	}
}

// TestTwoBackendsShareTheAddress goes from one backend to the other without a moment of none, as one does to migrate.
func TestTwoBackendsShareTheAddress(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-nftboth", "mesh")[0]
	b := newBackend(t)
	old, err := iptables.New(t.Context(), iptables.Config{Wait: iptables.DefaultWait, StateDir: b.cfg.StateDir})
	if err != nil {
		t.Fatal(err)
	}
	before := redirectlab.Snapshot(t, h)
	plan := redirectlab.NewFullPlan(t)
	for _, pair := range [][2]redirectlab.Backend{{old, b}, {b, old}} {
		redirectlab.Apply(t, h, pair[0], plan)
		redirectlab.Apply(t, h, pair[1], plan)
		redirectlab.Remove(t, h, pair[0])
		if d := redirectlab.Check(t, h, pair[1], plan); len(d) > 0 {
			t.Errorf("%T after %T is gone: %v", pair[1], pair[0], d)
		}
		redirectlab.Remove(t, h, pair[1])
		if diff := cmp.Diff(before, redirectlab.Snapshot(t, h)); diff != "" {
			t.Errorf("the host is not as before:\n%s", diff)
		}
	}
}

func TestFacts(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-nftfacts", "mesh")[0]
	b := newBackend(t)
	before := redirectlab.Snapshot(t, h)
	facts := func() tp.Host {
		var host tp.Host
		if err := h.Do(func() error { return b.Facts(t.Context(), &host) }); err != nil {
			t.Fatal(err)
		}
		return host
	}
	if got := facts(); got.Docker4 || got.Docker6 {
		t.Errorf("got %+v, want no Docker", got)
	}
	if diff := cmp.Diff(before, redirectlab.Snapshot(t, h)); diff != "" {
		t.Errorf("looking changed something:\n%s", diff)
	}
	redirectlab.Shell(t, h, "", "iptables-nft -t nat -N DOCKER_OUTPUT")
	if got := facts(); !got.Docker4 || got.Docker6 {
		t.Errorf("got %+v, want Docker in IPv4", got)
	}
	// Whoever may not ask is told nothing, which a dry run can live with.
	if err := start(t, h, "facts", "", "", "setpriv", "--bounding-set", "-all", "--inh-caps", "-all"); err != nil {
		t.Error(err)
	}
}

// longPlan has more rules than a socket's buffer, and more values than a message holds.
func longPlan(t testing.TB) *tp.Plan {
	t.Helper()
	return redirectlab.NewPlan(t, func(c *tp.Config) {
		for i := range 3000 {
			c.Inbound.ExcludePorts = append(c.Inbound.ExcludePorts, tp.PortRange{First: uint16(2*i + 1), Last: uint16(2*i + 1)})
			c.Outbound.ExcludeIPs = append(c.Outbound.ExcludeIPs, must(tp.ParseIPs(fmt.Sprintf("10.%d.%d.0/25,fd00:%x::/64", i/250, i%250, i)))...)
		}
		for i := range 400 { // rules that cannot be joined
			p := uint16(3*i + 1)
			c.Outbound.ExcludeUIDs = append(c.Outbound.ExcludeUIDs, tp.UIDExclusion{
				TCP: true, Ports: tp.Ports{{First: p, Last: p}}, UIDs: tp.UIDRange{First: uint32(2000 + i), Last: uint32(2000 + i)},
			})
		}
	})
}

func TestLongLists(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-nftlong", "mesh")[0]
	b := newBackend(t)
	plan := longPlan(t)
	redirectlab.Apply(t, h, b, plan)
	if d := redirectlab.Check(t, h, b, plan); len(d) > 0 {
		t.Errorf("got %d differences, first %v", len(d), d[0])
	}
	if n := strings.Count(redirectlab.Shell(t, h, "", "nft list chain inet kuma_mesh KUMA_MESH_INBOUND"), "return comment"); n != 1 {
		t.Errorf("3000 ports became %d rules, want 1", n)
	}
	redirectlab.Remove(t, h, b)
}
