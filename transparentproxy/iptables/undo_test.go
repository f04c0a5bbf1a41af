//go:build linux

package iptables

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

func TestRemoveRestoresTheHost(t *testing.T) {
	for _, tc := range []struct {
		name    string
		flavour Flavour
		setup   func(*testing.T, *netlab.Host)
		// keeps says that empty built-in tables stay: the kernel cannot drop legacy ones.
		keeps bool
	}{
		{name: "nft, nothing before", flavour: NFT, setup: func(*testing.T, *netlab.Host) {}},
		{name: "nft, foreign rules", flavour: NFT, setup: func(t *testing.T, h *netlab.Host) {
			redirectlab.AddForeign(t, h, "nft")
			redirectlab.Shell(t, h, redirectlab.ForeignNFT, "nft -f -")
		}},
		{name: "nft, one table before", flavour: NFT, setup: func(t *testing.T, h *netlab.Host) {
			redirectlab.Shell(t, h, "", "iptables-nft -t raw -A OUTPUT -p icmp -j ACCEPT")
		}},
		{name: "legacy, foreign rules", flavour: Legacy, setup: func(t *testing.T, h *netlab.Host) { redirectlab.AddForeign(t, h, "legacy") }, keeps: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := redirectlab.NewHosts(t, "tp-undo", "mesh")[0]
			tc.setup(t, h)
			b := newBackend(t, tc.flavour)
			var visible func(string) string
			if tc.keeps {
				visible = withoutEmptyTables
			}
			redirectlab.CheckUndo(t, h, b, visible)
			if _, err := os.Stat(b.cfg.StateDir); err == nil {
				t.Error("the journal is left")
			}
		})
	}
}

// withoutEmptyTables drops tables without rules and custom chains.
func withoutEmptyTables(s string) string {
	var out, table []string
	used := false
	for line := range strings.Lines(s) {
		switch {
		case line[0] == '*':
			table, used = []string{line}, false
		case table == nil:
			out = append(out, line)
		case line == "COMMIT\n":
			if used {
				out = append(append(out, table...), line)
			}
			table = nil
		default:
			used = used || line[0] != ':' || strings.Contains(line, " - ")
			table = append(table, line)
		}
	}
	return strings.Join(out, "")
}

func TestRemoveWithoutJournal(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-nojournal", "mesh")[0]
	redirectlab.AddForeign(t, h, "nft")
	b := newBackend(t, NFT, Legacy)
	redirectlab.Apply(t, h, b, redirectlab.NewFullPlan(t))
	if err := os.RemoveAll(b.cfg.StateDir); err != nil {
		t.Fatal(err)
	}
	before := redirectlab.Shell(t, h, "", "iptables-nft-save -t filter -c | grep -v ^#")
	if !redirectlab.Remove(t, h, b) {
		t.Error("Remove says that there was nothing")
	}
	left := redirectlab.Shell(t, h, "", "iptables-nft-save -c; ip6tables-nft-save")
	if strings.Contains(left, ":KUMA_MESH") || !strings.Contains(left, before[:20]) {
		t.Errorf("left: %s", left)
	}
	if got := strings.Count(left, "[2:120]"); got != 1 {
		t.Errorf("foreign counters changed:\n%s", left)
	}
}

// TestKumasInstallation loads what Kuma 2.9.13 leaves in the kernel (contract transparentproxy.md Appendix B).
func TestKumasInstallation(t *testing.T) {
	for _, flavour := range flavours {
		t.Run(string(flavour), func(t *testing.T) {
			h := redirectlab.NewHosts(t, "tp-kuma", "mesh")[0]
			for file, command := range map[string]string{"kuma-2.9-v4.save": "iptables", "kuma-2.9-v6.save": "ip6tables"} {
				text, err := os.ReadFile(filepath.Join("testdata", file))
				if err != nil {
					t.Fatal(err)
				}
				// Their ipset is not here.
				lines := strings.ReplaceAll(string(text), "-A INPUT -m set --match-set s1 src -j DROP\n", "")
				redirectlab.Shell(t, h, lines, command+"-"+string(flavour)+"-restore")
			}
			redirectlab.Shell(t, h, "", "ip addr add ::6/128 dev lo")
			b := newBackend(t, flavour)
			plan, err := tp.NewPlan(withDNS(), tp.Host{UID: redirectlab.DPUID, IPv6: true, ConntrackZones: true, Nameservers: redirectlab.Facts().Nameservers})
			if err != nil {
				t.Fatal(err)
			}
			if d := redirectlab.Check(t, h, b, plan); len(d) > 0 {
				t.Errorf("Kuma's rules are not those of our plan: %v", d)
			}
			if !redirectlab.Remove(t, h, b) {
				t.Error("Remove says that there was nothing")
			}
			left := redirectlab.Shell(t, h, "", "for c in iptables ip6tables; do $c-"+string(flavour)+"-save; done | grep ^-A | LC_ALL=C sort")
			want := `-A INPUT -p tcp -m tcp --dport 4444 -j DROP
-A MYCHAIN -m comment --comment foreign -j RETURN
-A OUTPUT -d 10.77.0.1/32 -j ACCEPT
-A OUTPUT -o lo -p udp -m udp --dport 5555
-A OUTPUT -p tcp -m tcp --dport 9999 -j REDIRECT --to-ports 9998
-A PREROUTING -p tcp -m tcp --dport 7777 -j MYCHAIN
`
			if diff := cmp.Diff(want, left); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func withDNS() tp.Config {
	c := tp.DefaultConfig()
	c.DNS.Enabled = true
	return c
}

func TestFailureLeavesEverythingAsBefore(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "ip6tables-restore")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\necho out of luck >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		flavour Flavour
		earlier bool // something is installed before
		spoil   func(*Backend, *tp.Plan)
		want    string
	}{
		{"second family, fresh", NFT, false, breakIPv6(broken), "out of luck"},
		{"second family, installed", NFT, true, breakIPv6(broken), "out of luck"},
		{"second family, legacy, installed", Legacy, true, breakIPv6(broken), "out of luck"},
		{"last table, fresh", NFT, false, badMangle, "-A PREROUTING"},
		{"last table, installed", NFT, true, badMangle, "-A PREROUTING"},
		{"last table, legacy, installed", Legacy, true, badMangle, "-A PREROUTING"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := redirectlab.NewHosts(t, "tp-fail", "mesh")[0]
			redirectlab.AddForeign(t, h, string(tc.flavour))
			b := newBackend(t, tc.flavour)
			if tc.earlier {
				redirectlab.Apply(t, h, b, redirectlab.NewPlan(t, func(c *tp.Config) { c.Inbound.Port, c.DNS.CaptureAll = 25006, true }))
			}
			before := redirectlab.Snapshot(t, h)
			plan := redirectlab.NewFullPlan(t)
			tc.spoil(b, plan)
			err := h.Do(func() error { return b.Apply(t.Context(), plan) })
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
			after := redirectlab.Snapshot(t, h)
			if tc.flavour == Legacy {
				before, after = withoutEmptyTables(before), withoutEmptyTables(after)
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("the host is not as before:\n%s", diff)
			}
		})
	}
}

func breakIPv6(path string) func(*Backend, *tp.Plan) {
	return func(b *Backend, _ *tp.Plan) {
		for i := range b.tools {
			if b.tools[i].family == tp.IPv6 {
				b.tools[i].restore = path
			}
		}
	}
}

// badMangle makes the last table of IPv4 impossible.
func badMangle(_ *Backend, p *tp.Plan) {
	tables := p.Families[0].Tables
	rule := &tables[len(tables)-1].Chains[0].Rules[0]
	rule.Match = append(rule.Match, tp.InInterface{Name: "a-name-that-is-too-long"})
}

func TestNativeRulesInOurTable(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-native", "mesh")[0]
	b := newBackend(t, NFT)
	native := `add table ip nat
add chain ip nat mine
add rule ip nat mine fib daddr type local return
`
	plan := redirectlab.NewPlan(t, nil)
	redirectlab.Apply(t, h, b, plan)
	redirectlab.Shell(t, h, native, "nft -f -")
	err := h.Do(func() error { _, err := b.Remove(t.Context()); return err })
	if err == nil || !strings.Contains(err.Error(), "native nft rules") {
		t.Errorf("Remove: got %v, want an error: the rules are still there", err)
	}
	redirectlab.Shell(t, h, "", "nft delete table ip nat; nft -f - <<'E'\n"+native+"E")
	before := redirectlab.Snapshot(t, h)
	err = h.Do(func() error { return b.Apply(t.Context(), plan) })
	if err == nil || !strings.Contains(err.Error(), "native nft rules") {
		t.Errorf("Apply: got %v, want a refusal", err)
	}
	if diff := cmp.Diff(before, redirectlab.Snapshot(t, h)); diff != "" {
		t.Errorf("the refusal changed something:\n%s", diff)
	}
}

func TestForeignJumpIsNamed(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-jump", "mesh")[0]
	b := newBackend(t, NFT)
	redirectlab.Apply(t, h, b, redirectlab.NewPlan(t, nil))
	redirectlab.Shell(t, h, "", "iptables -t nat -N MINE; iptables -t nat -A MINE -p tcp -j KUMA_MESH_OUTBOUND")
	before := redirectlab.Snapshot(t, h)
	err := h.Do(func() error { _, err := b.Remove(t.Context()); return err })
	if err == nil || !strings.Contains(err.Error(), "remove it first: -A MINE -p tcp -j KUMA_MESH_OUTBOUND") {
		t.Errorf("got %v, want the rule named", err)
	}
	if got := redirectlab.Shell(t, h, "", "iptables -t nat -S OUTPUT"); !strings.Contains(got, "KUMA_MESH_OUTBOUND") {
		t.Errorf("half removed: %s\nbefore: %s", got, before)
	}
}

func TestLockHeldBySomebody(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-lock", "mesh")[0]
	path := filepath.Join(t.TempDir(), "xtables.lock")
	t.Setenv("XTABLES_LOCKFILE", path)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	b := newBackend(t, Legacy)
	b.cfg.Wait = time.Second
	ctx, cancel := context.WithTimeout(t.Context(), redirectlab.Patience)
	defer cancel()
	err = h.Do(func() error { return b.Apply(ctx, redirectlab.NewPlan(t, nil)) })
	if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), fmt.Sprintf("is held by %s (process %d)", filepath.Base(os.Args[0]), os.Getpid())) {
		t.Errorf("got %v, want an error that names us as the holder, in time", err)
	}
	if out := redirectlab.Shell(t, h, "", "iptables-legacy-save; ip -6 addr show dev lo"); strings.Contains(out, "KUMA_MESH") || strings.Contains(out, "::6/128") {
		t.Errorf("half installed:\n%s", out)
	}
}

// TestOthersChangeRulesMeanwhile has somebody add rules all the time: none may be lost.
func TestOthersChangeRulesMeanwhile(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-busy", "mesh")[0]
	b := newBackend(t, NFT)
	plan := redirectlab.NewPlan(t, func(c *tp.Config) { c.DNS.CaptureAll = true })
	cmd := h.Command(t.Context(), 0, "sh", "-ec", `i=1; while [ $i -le 60 ]; do iptables-nft -t nat -I OUTPUT -p tcp --dport $i -j ACCEPT; i=$((i+1)); done`)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		redirectlab.Apply(t, h, b, plan)
		redirectlab.Remove(t, h, b)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(redirectlab.Shell(t, h, "", "iptables-nft -t nat -S OUTPUT"), "--dport"); got != 60 {
		t.Errorf("%d of 60 rules of others are there", got)
	}
}
