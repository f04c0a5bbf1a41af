//go:build linux

package iptables

import (
	"net/netip"
	"sync"
	"testing"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// row is a probe: what answers when nothing is redirected, and what with DNS of resolv.conf, and of all servers, redirected.
type row struct {
	name          string
	remote        bool // from the remote host
	uid           int
	proto, to     string
	from          string
	direct        string
	servers, alls string // alls empty: as servers
}

// rows is the table of contract transparentproxy.md §3.
func rows(mesh, remote *netlab.Host) []row {
	at := func(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }
	m4, m6, r4, r6 := mesh.Addr, mesh.Addr6, remote.Addr, remote.Addr6
	return []row{
		{name: "app to remote", uid: appUID, proto: "tcp", to: at(r4, 9000), direct: "remote", servers: "OUT " + at(r4, 9000)},
		{name: "app to remote v6", uid: appUID, proto: "tcp", to: at(r6, 9000), direct: "remote", servers: "OUT " + at(r6, 9000)},
		{name: "dp to remote", uid: dpUID, proto: "tcp", to: at(r4, 9000), direct: "remote", servers: "remote"},
		{name: "dp to remote v6", uid: dpUID, proto: "tcp", to: at(r6, 9000), direct: "remote", servers: "remote"},
		{name: "remote to app", remote: true, proto: "tcp", to: at(m4, 8080), direct: "app", servers: "IN " + at(m4, 8080)},
		{name: "remote to app v6", remote: true, proto: "tcp", to: at(m6, 8080), direct: "app", servers: "IN " + at(m6, 8080)},
		{name: "remote to excluded port", remote: true, proto: "tcp", to: at(m4, 22), direct: "app", servers: "app"},
		{name: "app to localhost", uid: appUID, proto: "tcp", to: "127.0.0.1:8080", direct: "app", servers: "app"},
		{name: "app to own address", uid: appUID, proto: "tcp", to: at(m4, 8080), direct: "app", servers: "app"},
		{name: "app to own address v6", uid: appUID, proto: "tcp", to: at(m6, 8080), direct: "app", servers: "app"},
		{name: "dp to own address", uid: dpUID, proto: "tcp", to: at(m4, 8080), direct: "app", servers: "IN " + at(m4, 8080)},
		{name: "dp to own address v6", uid: dpUID, proto: "tcp", to: at(m6, 8080), direct: "app", servers: "IN " + at(m6, 8080)},
		{name: "dp passthrough", uid: dpUID, proto: "tcp", from: "127.0.0.6:0", to: at(m4, 8080), direct: "app", servers: "app"},
		{name: "dp to localhost", uid: dpUID, proto: "tcp", to: "127.0.0.1:8080", direct: "app", servers: "app"},
		{name: "excluded outbound port", uid: appUID, proto: "tcp", to: at(r4, 443), direct: "remote", servers: "remote"},
		{name: "excluded uid", uid: freeUID, proto: "tcp", to: at(r4, 9000), direct: "remote", servers: "remote"},
		{name: "app query", uid: appUID, proto: "udp", to: "10.255.0.53:53", direct: "real dns", servers: "mesh dns"},
		{name: "app query v6", uid: appUID, proto: "udp", to: "[fd00:53::53]:53", direct: "real dns", servers: "mesh dns"},
		{name: "app tcp query", uid: appUID, proto: "tcp", to: "10.255.0.53:53", direct: "real dns", servers: "mesh dns"},
		{name: "app tcp query v6", uid: appUID, proto: "tcp", to: "[fd00:53::53]:53", direct: "real dns", servers: "mesh dns"},
		{name: "app query to local server", uid: appUID, proto: "udp", to: "127.0.0.11:53", direct: "real dns", servers: "mesh dns"},
		{name: "app query to another server", uid: appUID, proto: "udp", to: "10.255.0.54:53", direct: "real dns", servers: "real dns", alls: "mesh dns"},
		{name: "app tcp query to another server", uid: appUID, proto: "tcp", to: "10.255.0.54:53", direct: "real dns", servers: "OUT 10.255.0.54:53", alls: "mesh dns"},
		{name: "dp query", uid: dpUID, proto: "udp", to: "10.255.0.53:53", direct: "real dns", servers: "real dns"},
		{name: "dp query v6", uid: dpUID, proto: "udp", to: "[fd00:53::53]:53", direct: "real dns", servers: "real dns"},
		{name: "dp query to local server", uid: dpUID, proto: "udp", to: "127.0.0.11:53", direct: "real dns", servers: "real dns"},
		{name: "dp tcp query", uid: dpUID, proto: "tcp", to: "10.255.0.53:53", direct: "real dns", servers: "real dns"},
		{name: "app udp to another port", uid: appUID, proto: "udp", to: "10.255.0.53:54", direct: "real other", servers: "real other"},
		{name: "excluded uid query", uid: freeUID, proto: "udp", to: "10.255.0.53:53", direct: "real dns", servers: "real dns"},
		{name: "excluded address query", uid: appUID, proto: "udp", to: "10.255.1.53:53", direct: "real dns", servers: "real dns"},
	}
}

func startServers(t *testing.T, mesh, remote *netlab.Host) {
	t.Helper()
	s := newServers(t)
	for _, a := range []string{"0.0.0.0", "[::]"} {
		s.tcp(mesh, dpUID, a+":15001", "OUT", true)
		s.tcp(mesh, dpUID, a+":15006", "IN", true)
		s.tcp(mesh, appUID, a+":8080", "app", false)
		s.tcp(mesh, 0, a+":22", "app", false)
		s.tcp(remote, 0, a+":9000", "remote", false)
		s.tcp(remote, 0, a+":443", "remote", false)
	}
	for _, a := range []string{"127.0.0.1", "[::1]"} {
		s.udp(mesh, dpUID, a+":15053", "mesh dns")
		s.tcp(mesh, dpUID, a+":15053", "mesh dns", false)
	}
	s.udp(mesh, 0, "127.0.0.11:53", "real dns")
	for _, a := range []string{"10.255.0.53", "10.255.0.54", "10.255.1.53", "fd00:53::53"} {
		addr := netip.MustParseAddr(a)
		if err := remote.AddAddress(addr); err != nil {
			t.Fatal(err)
		}
		s.udp(remote, 0, netip.AddrPortFrom(addr, 53).String(), "real dns")
		s.tcp(remote, 0, netip.AddrPortFrom(addr, 53).String(), "real dns", false)
	}
	s.udp(remote, 0, "10.255.0.53:54", "real other")
}

func TestPacketsAreRedirected(t *testing.T) {
	for _, flavour := range flavours {
		t.Run(string(flavour), func(t *testing.T) {
			hosts := newHosts(t, "tp-packets", "mesh", "remote")
			mesh, remote := hosts[0], hosts[1]
			startServers(t, mesh, remote)
			b := newBackend(t, flavour)
			try := func(name string, want func(row) string) {
				t.Run(name, func(t *testing.T) {
					for _, r := range rows(mesh, remote) {
						h := mesh
						if r.remote {
							h = remote
						}
						if got := probe(t.Context(), h, r.uid, r.proto, r.to, r.from); got != want(r) {
							t.Errorf("%s: got %q, want %q", r.name, got, want(r))
						}
					}
				})
			}
			direct := func(r row) string { return r.direct }
			base := func(c *tp.Config) {
				c.Inbound.ExcludePorts, c.Outbound.ExcludePorts = ports(t, "22"), ports(t, "443")
				e, err := tp.ParseUIDExclusion("2000")
				if err != nil {
					t.Fatal(err)
				}
				c.Outbound.ExcludeUIDs = []tp.UIDExclusion{e}
				if c.Outbound.ExcludeIPs, err = tp.ParseIPs("10.255.1.0/24"); err != nil {
					t.Fatal(err)
				}
			}
			try("before", direct)
			for _, tc := range []struct {
				name string
				set  func(*tp.Config)
				want func(row) string
			}{
				{"servers", func(c *tp.Config) { c.DNS.Enabled = true }, func(r row) string { return r.servers }},
				{"all", func(c *tp.Config) { c.DNS.CaptureAll = true }, func(r row) string {
					if r.alls != "" {
						return r.alls
					}
					return r.servers
				}},
			} {
				plan := newPlan(t, func(c *tp.Config) { base(c); tc.set(c) })
				apply(t, mesh, b, plan)
				if d := check(t, mesh, b, plan); len(d) > 0 {
					t.Errorf("after apply: %v", d)
				}
				before := snapshot(t, mesh)
				apply(t, mesh, b, plan)
				if after := snapshot(t, mesh); after != before {
					t.Error("applying again changed something")
				}
				try(tc.name, tc.want)
			}
			remove(t, mesh, b)
			try("after", direct)
		})
	}
}

// TestSharedSourcePort has an application and the agent send from the same port to the same server in turn: without zones
// the kernel takes both for one connection.
func TestSharedSourcePort(t *testing.T) {
	hosts := newHosts(t, "tp-zones", "mesh", "remote")
	mesh, remote := hosts[0], hosts[1]
	startServers(t, mesh, remote)
	b := newBackend(t, NFT)
	wrong := func(skip bool) int {
		apply(t, mesh, b, newPlan(t, func(c *tp.Config) { c.DNS.Enabled, c.DNS.SkipZoneSplit = true, skip }))
		n := 0
		from := netip.AddrPortFrom(mesh.Addr, 40053).String()
		for range 3 {
			if probe(t.Context(), mesh, appUID, "udp", "10.255.0.53:53", from) != "mesh dns" {
				n++
			}
			if probe(t.Context(), mesh, dpUID, "udp", "10.255.0.53:53", from) != "real dns" {
				n++
			}
		}
		remove(t, mesh, b)
		return n
	}
	if n := wrong(false); n != 0 {
		t.Errorf("with zones %d of 6 answers came from the wrong side", n)
	}
	if n := wrong(true); n == 0 {
		t.Error("without zones everything works: the test does not show what it should")
	}
}

// TestNothingEscapesDuringReapply connects all the time while the rules are exchanged.
func TestNothingEscapesDuringReapply(t *testing.T) {
	for _, flavour := range flavours {
		t.Run(string(flavour), func(t *testing.T) {
			hosts := newHosts(t, "tp-again", "mesh", "remote")
			mesh, remote := hosts[0], hosts[1]
			s := newServers(t)
			s.tcp(mesh, dpUID, "0.0.0.0:15001", "OUT", true)
			s.tcp(remote, 0, "0.0.0.0:9000", "remote", false)
			b := newBackend(t, flavour)
			plans := []*tp.Plan{
				newPlan(t, func(c *tp.Config) { c.DNS.Enabled = true }),
				newPlan(t, func(c *tp.Config) { c.DNS.CaptureAll = true; c.Inbound.ExcludePorts = ports(t, "22") }),
			}
			apply(t, mesh, b, plans[0])
			stop := make(chan struct{})
			var wg sync.WaitGroup
			connections := 0
			to := netip.AddrPortFrom(remote.Addr, 9000).String()
			wg.Go(func() {
				for {
					if got := probe(t.Context(), mesh, appUID, "tcp", to, ""); got != "OUT "+to {
						t.Errorf("a connection escaped: %s", got)
					}
					connections++
					select {
					case <-stop:
						return
					default:
					}
				}
			})
			for i := range 20 {
				apply(t, mesh, b, plans[(i+1)%2])
			}
			close(stop)
			wg.Wait()
			if connections < 20 {
				t.Errorf("only %d connections were made", connections)
			}
		})
	}
}
