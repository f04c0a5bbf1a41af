//go:build linux

package redirect_test

import (
	"errors"
	"os"
	"slices"
	"testing"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
)

func TestInstallation(t *testing.T) {
	l := newLab(t, "rd-inst", "nftables")
	get := func(cfg *tp.Config) (i *redirect.Installation, err error) {
		l.do(t, func() error { i, err = l.m.Installation(t.Context(), cfg); return nil })
		return i, err
	}
	if _, err := get(nil); !errors.Is(err, redirect.ErrNothing) {
		t.Errorf("nothing is installed: %v", err)
	}
	given := config(func(c *tp.Config) { c.Inbound.Port = 25006 })
	if i, err := get(&given); err != nil || i.Config.Inbound.Port != 25006 || i.Host.UID != dpUID {
		t.Errorf("of what was given: %+v, %v", i, err)
	}
	l.apply(t, l.m, config(func(c *tp.Config) { c.DNS.CaptureAll = true }))
	i, err := get(nil)
	if err != nil || i.Backend != "nftables" || !i.Config.DNS.CaptureAll || !i.Host.IPv6 || !i.Host.ConntrackZones || len(i.Leftovers) > 0 {
		t.Errorf("of what is installed: %+v, %v", i, err)
	}
	l.shell(t, "iptables-nft -t nat -N KUMA_MESH_OUTBOUND; iptables-legacy -w 30 -t nat -A OUTPUT -p tcp --dport 1 -j ACCEPT")
	if i, err = get(nil); err != nil || len(i.Leftovers) != 1 || i.Leftovers[0].Backend != "iptables-nft" {
		t.Errorf("with leftovers of another backend: %+v, %v", i, err)
	}
	var rules []tp.NATRule
	l.do(t, func() (err error) { rules, err = l.m.LegacyNAT(t.Context()); return err })
	if !slices.Contains(rules, tp.NATRule{Family: tp.IPv4, Chain: "OUTPUT", Target: "ACCEPT", Text: "-p tcp -m tcp --dport 1 -j ACCEPT"}) {
		t.Errorf("legacy rules are %+v", rules)
	}
	if err := os.RemoveAll(l.dir); err != nil {
		t.Fatal(err)
	}
	l.m = l.manager(t, "nftables", nil)
	if _, err := get(nil); !errors.Is(err, redirect.ErrUnknown) {
		t.Errorf("without a record: %v", err)
	}
}
