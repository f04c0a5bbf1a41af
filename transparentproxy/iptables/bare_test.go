//go:build linux

package iptables

import (
	"bytes"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// lookalikes are rules of others that say the same as rules of ours.
const lookalikes = `*mangle
[0:0] -A PREROUTING -m conntrack --ctstate INVALID -j DROP
COMMIT
*nat
[4:40] -A OUTPUT -p tcp -m owner --uid-owner 1000 -m tcp --dport 443 -j RETURN
[5:50] -A OUTPUT -p udp -m udp --dport 5353 -j RETURN
COMMIT
`

func addLookalikes(t testing.TB, h *netlab.Host, f Flavour) {
	t.Helper()
	redirectlab.Shell(t, h, lookalikes, "t=$(cat); for c in iptables ip6tables; do printf '%s\\n' \"$t\" | $c-"+string(f)+"-restore -c --noflush; done")
}

func bareBackend(t testing.TB, only ...Flavour) *Backend {
	t.Helper()
	b := newBackend(t, only...)
	b.cfg.NoComments = true
	return b
}

// TestRulesWithoutComments installs without comments, again, with others, and removes.
func TestRulesWithoutComments(t *testing.T) {
	for _, flavour := range flavours {
		t.Run(string(flavour), func(t *testing.T) {
			h := redirectlab.NewHosts(t, "tp-bare", "mesh")[0]
			redirectlab.AddForeign(t, h, string(flavour))
			addLookalikes(t, h, flavour)
			b := bareBackend(t, flavour)
			want := redirectlab.Snapshot(t, h)
			plans := []*tp.Plan{redirectlab.NewFullPlan(t), redirectlab.NewPlan(t, func(c *tp.Config) { c.DNS.CaptureAll = true })}
			for i := range 4 {
				plan := plans[i%2]
				redirectlab.Apply(t, h, b, plan)
				if d := redirectlab.Check(t, h, b, plan); len(d) > 0 {
					t.Fatalf("after apply: %v", d)
				}
			}
			out := redirectlab.Shell(t, h, "", "iptables-"+string(flavour)+"-save -t nat; ip6tables-"+string(flavour)+"-save -t nat")
			for line := range strings.Lines(out) {
				if strings.Contains(line, "KUMA_MESH") && strings.Contains(line, `--comment "kuma`) {
					t.Errorf("with a comment: %s", line)
				}
			}
			// From no comments to comments and back.
			b.cfg.NoComments = false
			redirectlab.Apply(t, h, b, plans[0])
			b.cfg.NoComments = true
			redirectlab.Apply(t, h, b, plans[1])
			if !redirectlab.Remove(t, h, b) {
				t.Error("Remove says that there was nothing")
			}
			got := redirectlab.Snapshot(t, h)
			if flavour == Legacy {
				want, got = withoutEmptyTables(want), withoutEmptyTables(got)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the host is not as before:\n%s", diff)
			}
		})
	}
}

// TestRulesWithoutCommentsAndJournal has only the rules to go by, as after Kuma's --disable-comments: what nobody else can
// have written goes, the rest is named.
func TestRulesWithoutCommentsAndJournal(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-bare2", "mesh")[0]
	addLookalikes(t, h, NFT)
	b := bareBackend(t, NFT)
	redirectlab.Apply(t, h, b, redirectlab.NewFullPlan(t))
	if err := os.RemoveAll(b.cfg.StateDir); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	b.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	if !redirectlab.Remove(t, h, b) {
		t.Error("Remove says that there was nothing")
	}
	got := redirectlab.Shell(t, h, "", "iptables-nft-save | grep ^-A")
	want := `-A PREROUTING -m conntrack --ctstate INVALID -j DROP
-A PREROUTING -m conntrack --ctstate INVALID -j DROP
-A OUTPUT -d 172.16.0.0/16 -j RETURN
-A OUTPUT -j RETURN
-A OUTPUT -p tcp -m owner --uid-owner 1000 -m tcp --dport 443 -j RETURN
-A OUTPUT -p udp -m udp --dport 5353 -j RETURN
`
	if diff := cmp.Diff(sorted(want), sorted(got)); diff != "" {
		t.Error(diff)
	}
	for _, rule := range []string{"-t nat -A OUTPUT -d 172.16.0.0/16 -j RETURN", "-t nat -A OUTPUT -d fd00::/8 -j RETURN", "-t mangle -A PREROUTING -m conntrack --ctstate INVALID -j DROP"} {
		if !strings.Contains(log.String(), rule) {
			t.Errorf("no word about %s in\n%s", rule, &log)
		}
	}
}

func sorted(s string) []string { return slices.Sorted(strings.SplitSeq(s, "\n")) }

func TestFailureWithoutCommentsLeavesEverythingAsBefore(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-bare3", "mesh")[0]
	b := bareBackend(t, NFT)
	redirectlab.Apply(t, h, b, redirectlab.NewPlan(t, func(c *tp.Config) { c.DNS.CaptureAll = true }))
	before := redirectlab.Snapshot(t, h)
	plan := redirectlab.NewFullPlan(t)
	badMangle(b, plan)
	if err := h.Do(func() error { return b.Apply(t.Context(), plan) }); err == nil {
		t.Error("no error")
	}
	if diff := cmp.Diff(before, redirectlab.Snapshot(t, h)); diff != "" {
		t.Errorf("the host is not as before:\n%s", diff)
	}
	redirectlab.Remove(t, h, b)
	if out := redirectlab.Shell(t, h, "", "iptables-nft-save; ip6tables-nft-save"); strings.Contains(out, "-A ") {
		t.Errorf("left: %s", out)
	}
}
