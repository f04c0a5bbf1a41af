//go:build linux

package verify_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/verify"
)

// TestEverythingHolds verifies what each backend makes of each way to redirect DNS, before anybody listens and beside
// listeners, and looks for traces.
func TestEverythingHolds(t *testing.T) {
	for _, backend := range everyBackend {
		t.Run(backend, func(t *testing.T) {
			l := newLab(t, "vf-holds", backend)
			try := func(t *testing.T) {
				for name, set := range map[string]func(*tp.Config){
					"no DNS":      nil,
					"servers":     func(c *tp.Config) { c.DNS.Enabled = true },
					"all":         func(c *tp.Config) { c.DNS.CaptureAll = true },
					"no zones":    func(c *tp.Config) { c.DNS.CaptureAll, c.DNS.SkipZoneSplit = true, true },
					"IPv4 alone":  func(c *tp.Config) { c.DNS.CaptureAll, c.IPFamilyMode = true, tp.IPv4Only },
					"no inbound":  func(c *tp.Config) { c.Inbound.Enabled = false },
					"no outbound": func(c *tp.Config) { c.Outbound.Enabled = false },
					"only some": func(c *tp.Config) {
						c.Inbound.IncludePorts, c.Inbound.ExcludePorts = redirectlab.ParsePorts(t, "80,8000-8100"), nil
						c.Outbound.IncludePorts, c.Outbound.ExcludePorts = redirectlab.ParsePorts(t, "80,443"), nil
					},
					"sources": func(c *tp.Config) {
						var err error
						if c.Inbound.ExcludeIPs, err = tp.ParseIPs("10.9.0.0/16,fd00:9::/64"); err != nil {
							t.Fatal(err)
						}
					},
				} {
					t.Run(name, func(t *testing.T) {
						l.install(t, set)
						before := l.traces(t)
						r := l.verify(t)
						for _, c := range r.Checks {
							if c.Result != verify.Holds {
								t.Errorf("%s (%s) is %s: %s; %s", c.ID, c.Promise, c.Result, c.Seen, c.Remedy)
							}
						}
						if r.Result != verify.Holds {
							t.Errorf("the result is %s", r.Result)
						}
						if diff := cmp.Diff(before, l.traces(t)); diff != "" {
							t.Errorf("traces are left:\n%s", diff)
						}
					})
				}
			}
			t.Run("nobody listens", try)
			redirectlab.StartServers(t, l.Host, l.remote)
			t.Run("somebody listens", try)
			l.remove(t)
		})
	}
}

// TestNobodyHearsOfIt has listeners that take everything, as Envoy does, and fail when a connection gets to them.
func TestNobodyHearsOfIt(t *testing.T) {
	l := newLab(t, "vf-quiet", "nftables")
	l.install(t, nil)
	for _, port := range []string{"15001", "15006", "9"} {
		ln, err := l.Listen("tcp", "[::]:"+port)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if c, err := ln.Accept(); err == nil {
				t.Errorf("port %s was connected to from %v", port, c.RemoteAddr())
				_ = c.Close()
			}
		}()
		defer func() {
			_ = ln.Close() // ends the wait
			<-done
		}()
	}
	if c := find(t, l.verify(t), "outbound.ipv4"); c.Result != verify.Holds {
		t.Errorf("%+v", c)
	}
}

// TestLinkLocalAlone has the only IPv6 addresses that most hosts have; IPv6 is redirected there too.
func TestLinkLocalAlone(t *testing.T) {
	l := newLab(t, "vf-local", "nftables")
	l.shell(t, "ip -6 addr flush dev eth0 scope global; ip -6 route flush dev eth0; ip -6 addr add fe80::7/64 dev eth0 nodad")
	l.install(t, func(c *tp.Config) { c.DNS.CaptureAll = true })
	r := l.verify(t)
	if got := notHolding(r); len(got) > 0 {
		t.Errorf("do not hold: %v", got)
	}
	find(t, r, "inbound.ipv6")
	find(t, r, "loopback.proxy.self.ipv6")
}
