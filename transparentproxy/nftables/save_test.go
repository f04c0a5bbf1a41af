//go:build linux

package nftables

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

func TestRestoreGoesBackToWhatWasSaved(t *testing.T) {
	full := redirectlab.NewFullPlan(t)
	other := redirectlab.NewPlan(t, func(c *tp.Config) { c.Inbound.Port, c.DNS.CaptureAll = 25006, true })
	install := func(p *tp.Plan) func(*testing.T, *netlab.Host, *Backend) {
		return func(t *testing.T, h *netlab.Host, b *Backend) { redirectlab.Apply(t, h, b, p) }
	}
	byHand := func(script string) func(*testing.T, *netlab.Host, *Backend) {
		return func(t *testing.T, h *netlab.Host, b *Backend) {
			redirectlab.Apply(t, h, b, full)
			redirectlab.Shell(t, h, "", script)
		}
	}
	remove := func(t *testing.T, h *netlab.Host, b *Backend) {
		redirectlab.Remove(t, h, b)
		redirectlab.Shell(t, h, "", "ip addr add ::6/128 dev lo nodad") // bringing that back is not the backend's
	}
	nothing := func(*testing.T, *netlab.Host, *Backend) {}
	for _, tc := range []struct {
		name           string
		before, change func(*testing.T, *netlab.Host, *Backend)
		joint          uint8
	}{
		{"nothing, then installed", nothing, install(full), unix.NFPROTO_INET},
		{"installed, then another", install(full), install(other), unix.NFPROTO_INET},
		{"installed, then more", install(other), install(full), unix.NFPROTO_INET},
		{"installed, then removed", install(full), remove, unix.NFPROTO_INET},
		{"long lists, then another", install(longPlan(t)), install(other), unix.NFPROTO_INET},
		{"a table for each family, then another", install(full), install(other), unix.NFPROTO_BRIDGE},
		{"a rule less", byHand("nft flush chain inet kuma_mesh KUMA_MESH_INBOUND_REDIRECT"), install(other), unix.NFPROTO_INET},
		{"a chain at another place", byHand("nft flush chain inet kuma_mesh raw_output; nft delete chain inet kuma_mesh raw_output; " +
			"nft add chain inet kuma_mesh raw_output '{ type filter hook output priority -301; }'"), install(other), unix.NFPROTO_INET},
		{"switched off", byHand("nft add table inet kuma_mesh '{ flags dormant; }'"), install(other), unix.NFPROTO_INET},
		{"things that only others make", byHand("nft add set inet kuma_mesh s '{ type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 11.0.0.0/8 } }'; " +
			"nft add rule inet kuma_mesh KUMA_MESH_INBOUND ip saddr @s counter packets 3 bytes 33 return; nft add chain inet kuma_mesh mine; " +
			"nft add rule inet kuma_mesh KUMA_MESH_INBOUND tcp dport vmap '{ 1-3 : jump mine, 7 : accept }'"), install(other), unix.NFPROTO_INET},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := redirectlab.NewHosts(t, "tp-nftsave", "mesh")[0]
			addHostile(t, h)
			b := newBackend(t)
			b.joint = tc.joint
			tc.before(t, h, b)
			want := redirectlab.Snapshot(t, h)
			var data []byte
			if err := h.Do(func() (err error) { data, err = b.Save(t.Context()); return err }); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, redirectlab.Snapshot(t, h)); diff != "" {
				t.Fatalf("saving changed something:\n%s", diff)
			}
			tc.change(t, h, b)
			if redirectlab.Snapshot(t, h) == want {
				t.Fatal("nothing changed, so this shows nothing")
			}
			if err := h.Do(func() error { return b.Restore(t.Context(), data) }); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, redirectlab.Snapshot(t, h)); diff != "" {
				t.Errorf("not as saved:\n%s", diff)
			}
			// What was restored can still be removed exactly.
			remove(t, h, b)
			if _, err := os.Stat(b.cfg.StateDir); err == nil {
				t.Error("the journal is left")
			}
		})
	}
}
