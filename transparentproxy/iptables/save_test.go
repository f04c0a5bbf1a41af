//go:build linux

package iptables

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

func TestRestoreGoesBackToWhatWasSaved(t *testing.T) {
	other := redirectlab.NewPlan(t, func(c *tp.Config) { c.Inbound.Port, c.DNS.CaptureAll, c.DropInvalid = 25006, true, true })
	for _, tc := range []struct {
		name   string
		before func(*testing.T, *netlab.Host, *Backend, Flavour)
		change func(*testing.T, *netlab.Host, *Backend, Flavour)
	}{
		{"nothing, then installed", func(*testing.T, *netlab.Host, *Backend, Flavour) {}, install(other)},
		{"installed, then another", install(redirectlab.NewPlan(t, nil)), install(other)},
		{"installed and changed by hand, then installed", func(t *testing.T, h *netlab.Host, b *Backend, f Flavour) {
			redirectlab.Apply(t, h, b, other)
			redirectlab.Shell(t, h, "", "iptables-"+string(f)+" -t nat -D KUMA_MESH_OUTBOUND 2")
		}, install(other)},
		{"Kuma's", func(t *testing.T, h *netlab.Host, _ *Backend, f Flavour) {
			redirectlab.Shell(t, h, "*nat\n:KUMA_MESH_INBOUND - [0:0]\n:KUMA_MESH_OUTBOUND - [0:0]\n-I PREROUTING -p tcp -j KUMA_MESH_INBOUND\n"+
				"-A OUTPUT -p tcp -m comment --comment \"kuma/mesh/transparent/proxy/theirs\" -j KUMA_MESH_OUTBOUND\nCOMMIT\n", "iptables-"+string(f)+"-restore --noflush")
		}, install(other)},
		{"Kuma's, then removed", func(t *testing.T, h *netlab.Host, _ *Backend, f Flavour) {
			redirectlab.Shell(t, h, "*nat\n:KUMA_MESH_INBOUND - [0:0]\n-A PREROUTING -p tcp -j KUMA_MESH_INBOUND\nCOMMIT\n", "iptables-"+string(f)+"-restore --noflush")
		}, func(t *testing.T, h *netlab.Host, b *Backend, _ Flavour) { redirectlab.Remove(t, h, b) }},
	} {
		for _, flavour := range flavours {
			t.Run(tc.name+"/"+string(flavour), func(t *testing.T) {
				h := redirectlab.NewHosts(t, "tp-save", "mesh")[0]
				redirectlab.Shell(t, h, "", "iptables-"+string(flavour)+" -t nat -A PREROUTING -p tcp --dport 9999 -j ACCEPT")
				b := newBackend(t, flavour)
				tc.before(t, h, b, flavour)
				want := redirectlab.Snapshot(t, h)
				var data []byte
				if err := h.Do(func() (err error) { data, err = b.Save(t.Context()); return err }); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, redirectlab.Snapshot(t, h)); diff != "" {
					t.Fatalf("saving changed something:\n%s", diff)
				}
				tc.change(t, h, b, flavour)
				if redirectlab.Snapshot(t, h) == want {
					t.Fatal("nothing changed, so this shows nothing")
				}
				if err := h.Do(func() error { return b.Restore(t.Context(), data) }); err != nil {
					t.Fatal(err)
				}
				got := redirectlab.Snapshot(t, h)
				if flavour == Legacy {
					want, got = withoutEmptyTables(want), withoutEmptyTables(got)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("not as saved:\n%s", diff)
				}
				// What was restored can still be removed exactly.
				redirectlab.Remove(t, h, b)
				if _, err := os.Stat(b.cfg.StateDir); err == nil {
					t.Error("the journal is left")
				}
			})
		}
	}
}

func install(p *tp.Plan) func(*testing.T, *netlab.Host, *Backend, Flavour) {
	return func(t *testing.T, h *netlab.Host, b *Backend, _ Flavour) { redirectlab.Apply(t, h, b, p) }
}

func TestOneFlavour(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-one", "mesh")[0]
	plan := redirectlab.NewPlan(t, nil)
	for _, flavour := range flavours {
		b, err := New(t.Context(), Config{Flavour: flavour, StateDir: t.TempDir() + "/state"})
		if err != nil {
			t.Fatal(err)
		}
		redirectlab.Apply(t, h, b, plan)
		if d := redirectlab.Check(t, h, b, plan); len(d) > 0 {
			t.Errorf("%s: %v", flavour, d)
		}
	}
	if out := redirectlab.Shell(t, h, "", "for f in nft legacy; do iptables-$f-save; done"); strings.Count(out, ":KUMA_MESH_INBOUND ") != 2 {
		t.Errorf("one flavour touched the other:\n%s", out)
	}
}

func TestOthers(t *testing.T) {
	for _, tc := range []struct {
		name, setup string
		nft, legacy int
	}{
		{"none", "true", 0, 0},
		{"legacy only", "iptables-legacy -A INPUT -p icmp -j ACCEPT", 0, 1},
		{"both", "iptables-legacy -A INPUT -p icmp -j ACCEPT; iptables-nft -A INPUT -p icmp -j ACCEPT", 1, 1},
		{"docker in legacy", "iptables-legacy -t nat -N DOCKER_OUTPUT; iptables-nft -A INPUT -p icmp -j ACCEPT", 1, 2},
		{"ours", "iptables-nft -t nat -N KUMA_MESH_INBOUND", 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := redirectlab.NewHosts(t, "tp-others", "mesh")[0]
			redirectlab.Shell(t, h, "", tc.setup)
			for flavour, want := range map[Flavour]int{NFT: tc.nft, Legacy: tc.legacy} {
				b := newBackend(t, flavour)
				var got int
				if err := h.Do(func() (err error) { got, err = b.Others(t.Context()); return err }); err != nil {
					t.Fatal(err)
				}
				if got != want {
					t.Errorf("%s: %d, want %d", flavour, got, want)
				}
			}
		})
	}
}
