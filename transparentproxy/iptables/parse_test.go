//go:build linux

package iptables

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

func kumaSave(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestParseSave(t *testing.T) {
	rs, err := parseSave(kumaSave(t, "kuma-2.9-v4.save") + "# Table `mangle' is incompatible, use 'nft' tool.\n")
	if err != nil {
		t.Fatal(err)
	}
	nat := rs.table(tp.TableNAT)
	if got := nat.ownChains(tp.TableNAT); !slices.Equal(got, ownChains) {
		t.Errorf("got our chains %v", got)
	}
	if got := len(nat.ownBuiltin()); got != 5 {
		t.Errorf("got %d rules of ours in built-in chains, want 5", got)
	}
	if got := len(rs.table(tp.TableRaw).ownBuiltin()); got != 7 {
		t.Errorf("got %d rules of ours in raw, want 7", got)
	}
	if !rs.hasForeign() || !rs.hasOurs() || rs.hasDocker() || !slices.Equal(rs.incompatible, []string{"mangle"}) {
		t.Errorf("foreign %v, ours %v, docker %v, incompatible %v", rs.hasForeign(), rs.hasOurs(), rs.hasDocker(), rs.incompatible)
	}
}

func TestParseSaveRefuses(t *testing.T) {
	for _, tc := range []struct{ name, in string }{
		{"cut off", "*nat\n:OUTPUT ACCEPT [0:0]\n"},
		{"table in table", "*nat\n*raw\n"},
		{"table twice", "*nat\nCOMMIT\n*nat\nCOMMIT\n"},
		{"rule outside", "-A OUTPUT -j RETURN\n"},
		{"open quote", "*nat\n-A OUTPUT -m comment --comment \"x\nCOMMIT\n"},
		{"other words", "*nat\nhello\nCOMMIT\n"},
		{"counters", "*nat\n[0:0] -A OUTPUT -j RETURN\nCOMMIT\n"},
		{"chain without policy", "*nat\n:OUTPUT\nCOMMIT\n"},
	} {
		if rs, err := parseSave(tc.in); err == nil {
			t.Errorf("%s: read as %+v", tc.name, rs)
		}
	}
}

func TestTransitionNamesOnlyOurs(t *testing.T) {
	rs, err := parseSave(kumaSave(t, "kuma-2.9-v4.save"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(transition(rs, desired{})) {
		switch {
		case strings.HasPrefix(line, "-D "):
			if !strings.Contains(line, `--comment "`+tp.CommentPrefix) {
				t.Errorf("deletes a rule of others: %s", line)
			}
		case line[0] == ':' || strings.HasPrefix(line, "-X "):
			if !strings.Contains(line, tp.ChainPrefix) {
				t.Errorf("names a chain of others: %s", line)
			}
		case line != "COMMIT\n" && line != "*nat\n" && line != "*raw\n":
			t.Errorf("unexpected %s", line)
		}
	}
	if got := transition(&ruleset{}, desired{}); got != "" {
		t.Errorf("nothing to nothing: %q", got)
	}
}

// FuzzParseSave checks that removal names no chain of others, and that it has something to do exactly when something of
// ours is there.
func FuzzParseSave(f *testing.F) {
	f.Add(kumaSave(f, "kuma-2.9-v4.save"))
	f.Add(kumaSave(f, "kuma-2.9-v6.save"))
	f.Add("*nat\n:OUTPUT ACCEPT [0:0]\n:KUMA_MESH_INBOUND - [0:0]\n-A OUTPUT -m comment --comment \"a \\\" \\\\\" -j KUMA_MESH_INBOUND\nCOMMIT\n")
	f.Add("# Table `nat' is incompatible, use 'nft' tool.\n")
	f.Fuzz(func(t *testing.T, s string) {
		rs, err := parseSave(s)
		if err != nil {
			return
		}
		compare(NFT, tp.IPv4, rs, nil)
		rs.hasForeign()
		rs.foreignJumps()
		for line := range strings.Lines(transition(rs, desired{})) {
			if name, ok := strings.CutPrefix(line, "-X "); ok && !slices.Contains(ownChains, strings.TrimSpace(name)) {
				t.Fatalf("removes a chain of others: %q", line)
			}
		}
		if rs.hasOurs() != (transition(rs, desired{}) != "") {
			t.Fatalf("hasOurs is %v, but the transition is %q", rs.hasOurs(), transition(rs, desired{}))
		}
	})
}

// FuzzQuote checks that a word survives being written and read.
func FuzzQuote(f *testing.F) {
	f.Add(`a "b" \c`)
	f.Fuzz(func(t *testing.T, s string) {
		got, err := splitWords("-x " + quote(s) + " -y")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"-x", s, "-y"}, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestCanonical(t *testing.T) {
	for _, tc := range []struct {
		name, ours, saved string
		differ            bool
	}{
		{name: "address", ours: "-s 10.255.0.53 -p udp --sport 53 -j CT --zone 1", saved: "-s 10.255.0.53/32 -p udp -m comment --comment x -m udp --sport 53 -j CT --zone 1"},
		{name: "uid range", ours: "-m owner --uid-owner 1:2 -j RETURN", saved: "-m owner --uid-owner 1-2 -j RETURN"},
		{name: "multiport", ours: "-m multiport -p tcp --dport 1,2:3 -j RETURN", saved: "-p tcp -m multiport --dports 1,2:3 -j RETURN"},
		{name: "negation kept", ours: "! -d 127.0.0.1/32 -j RETURN", saved: "-d 127.0.0.1/32 -j RETURN", differ: true},
		{name: "everything", ours: "-d 0.0.0.0/0 -j RETURN", saved: "-j RETURN"},
		{name: "another port", ours: "-p tcp --dport 1 -j RETURN", saved: "-p tcp -m tcp --dport 2 -j RETURN", differ: true},
		{name: "embedded IPv4", ours: "-s ::102:304 -j RETURN", saved: "-s ::1.2.3.4/128 -j RETURN"},
		{name: "default log level", ours: "-j LOG --log-prefix X: --log-level 4", saved: `-j LOG --log-prefix "X:"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			saved, err := splitWords(tc.saved)
			if err != nil {
				t.Fatal(err)
			}
			a, b := canonical(strings.Fields(tc.ours)), canonical(saved)
			if (a != b) != tc.differ {
				t.Errorf("%q and %q, want differ=%v", a, b, tc.differ)
			}
		})
	}
}

// BenchmarkApply prints how long installing, installing again and removing take, dual stack with DNS.
func BenchmarkApply(b *testing.B) {
	for _, flavour := range flavours {
		h := redirectlab.NewHosts(b, "tp-bench-"+string(flavour), "mesh")[0]
		be := newBackend(b, flavour)
		plan := redirectlab.NewPlan(b, func(c *tp.Config) { c.DNS.Enabled = true })
		other := redirectlab.NewPlan(b, func(c *tp.Config) { c.DNS.CaptureAll = true })
		b.Run(string(flavour)+"/fresh", func(b *testing.B) {
			for b.Loop() {
				redirectlab.Apply(b, h, be, plan)
				b.StopTimer()
				redirectlab.Remove(b, h, be)
				b.StartTimer()
			}
		})
		b.Run(string(flavour)+"/replace", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				redirectlab.Apply(b, h, be, []*tp.Plan{plan, other}[i%2])
			}
		})
		b.Run(string(flavour)+"/again", func(b *testing.B) {
			redirectlab.Apply(b, h, be, plan)
			for b.Loop() {
				redirectlab.Apply(b, h, be, plan)
			}
		})
		b.Run(string(flavour)+"/remove", func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				redirectlab.Apply(b, h, be, plan)
				b.StartTimer()
				redirectlab.Remove(b, h, be)
			}
		})
	}
}
