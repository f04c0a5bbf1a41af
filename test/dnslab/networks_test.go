//go:build linux

package dnslab

import (
	"context"
	"net/netip"
	"strings"
	"testing"
)

// TestNetworks has a host with containers behind it, whose queries arrive at the address of an interface: they are answered,
// and so is the host, and nobody else.
func TestNetworks(t *testing.T) {
	l := newLab(t)
	stranger := l.address(t, 66)
	if err := l.app.AddAddress(netip.MustParseAddr("10.99.0.1")); err != nil { // so that strangers could be answered
		t.Fatal(err)
	}
	l.start(t, config{"Listen": []string{"0.0.0.0:53", "[::]:53"}, "Networks": []string{l.up.Addr.String() + "/32", l.up.Addr6.String() + "/128"}})
	for _, proto := range []string{"+notcp", "+tcp"} {
		for _, at := range []netip.Addr{l.app.Addr, l.app.Addr6} {
			out := shell(t, l.up, "", "dig", "-r", proto, "+short", "+tries=1", "+timeout=5", "@"+at.String(), "one.svc.mesh.local", "A")
			if strings.TrimSpace(out) != "241.0.0.2" {
				t.Errorf("%s, from its containers at %s: %q", proto, at, out)
			}
		}
		for _, at := range []string{"127.0.0.1", "::1"} {
			out := shell(t, l.app, "", "dig", "-r", proto, "+short", "+tries=1", "+timeout=5", "@"+at, "one.svc.mesh.local", "A")
			if strings.TrimSpace(out) != "241.0.0.2" {
				t.Errorf("%s, from the host at %s: %q", proto, at, out)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		out, err := l.up.Command(ctx, 0, "dig", "-r", proto, "+short", "+tries=1", "+timeout=1", "-b", stranger.String(), "@10.99.0.1", "one.svc.mesh.local", "A").CombinedOutput()
		if err == nil || strings.Contains(string(out), "241.0.0.2") {
			t.Errorf("%s, from elsewhere: %s, %v", proto, out, err)
		}
	}
	// It is not for want of a way: a resolver without networks answers the stranger.
	l.start(t, config{"Listen": []string{"0.0.0.0:5353"}})
	out := shell(t, l.up, "", "dig", "-r", "+short", "+tries=1", "+timeout=5", "-p", "5353", "-b", stranger.String(), "@10.99.0.1", "one.svc.mesh.local", "A")
	if strings.TrimSpace(out) != "241.0.0.2" {
		t.Errorf("from elsewhere, without networks: %q", out)
	}
}
