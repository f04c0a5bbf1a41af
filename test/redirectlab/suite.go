//go:build linux

package redirectlab

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// TestBackend runs what every backend must do to packets. prefix begins the names of the hosts, which must be no other
// running test's.
func TestBackend(t *testing.T, prefix string, newBackend func(t testing.TB) Backend) {
	t.Run("packets", func(t *testing.T) { testPackets(t, prefix+"-packets", newBackend) })
	t.Run("shared source port", func(t *testing.T) { testSharedSourcePort(t, prefix+"-zones", newBackend) })
	t.Run("nothing escapes during reapply", func(t *testing.T) { testReapply(t, prefix+"-again", newBackend) })
}

func testPackets(t *testing.T, prefix string, newBackend func(t testing.TB) Backend) {
	b := newBackend(t)
	TestPackets(t, prefix, func(t testing.TB, mesh *netlab.Host, c tp.Config) {
		plan := NewPlan(t, func(to *tp.Config) { *to = c })
		Apply(t, mesh, b, plan)
		if d := Check(t, mesh, b, plan); len(d) > 0 {
			t.Errorf("after apply: %v", d)
		}
		before := Snapshot(t, mesh)
		Apply(t, mesh, b, plan)
		if after := Snapshot(t, mesh); after != before {
			t.Error("applying again changed something")
		}
	}, func(t testing.TB, mesh *netlab.Host) { Remove(t, mesh, b) })
}

// TestPackets tries the table of contract transparentproxy.md §3 before, with each family mode and each way to redirect DNS,
// one after the other, and after. A host is that of Facts.
func TestPackets(t *testing.T, prefix string, install func(t testing.TB, mesh *netlab.Host, c tp.Config), remove func(t testing.TB, mesh *netlab.Host)) {
	hosts := NewHosts(t, prefix, "mesh", "remote")
	mesh, remote := hosts[0], hosts[1]
	StartServers(t, mesh, remote)
	t.Run("before", func(t *testing.T) { TryRows(t, mesh, remote, Direct) })
	for _, mode := range []tp.FamilyMode{tp.DualStack, tp.IPv4Only} {
		for name, dns := range map[string]tp.DNS{"none": {}, "servers": {Enabled: true}, "all": {CaptureAll: true}} {
			t.Run(fmt.Sprintf("%v, DNS %s", mode, name), func(t *testing.T) {
				c := tp.DefaultConfig()
				Exclude(t, &c)
				c.IPFamilyMode, c.DNS.Enabled, c.DNS.CaptureAll = mode, dns.Enabled, dns.CaptureAll
				install(t, mesh, c)
				TryRows(t, mesh, remote, Redirected(c))
			})
		}
	}
	remove(t, mesh)
	t.Run("after", func(t *testing.T) { TryRows(t, mesh, remote, Direct) })
}

// testSharedSourcePort has an application and the agent send from the same port to the same server in turn: without zones
// the kernel takes both for one connection.
func testSharedSourcePort(t *testing.T, prefix string, newBackend func(t testing.TB) Backend) {
	hosts := NewHosts(t, prefix, "mesh", "remote")
	mesh, remote := hosts[0], hosts[1]
	StartServers(t, mesh, remote)
	b := newBackend(t)
	wrong := func(skip bool) int {
		Apply(t, mesh, b, NewPlan(t, func(c *tp.Config) { c.DNS.Enabled, c.DNS.SkipZoneSplit = true, skip }))
		n := 0
		from := netip.AddrPortFrom(mesh.Addr, 40053).String()
		for range 3 {
			if probe(t.Context(), mesh, AppUID, "udp", "10.255.0.53:53", from, silence) != "mesh dns" {
				n++
			}
			if probe(t.Context(), mesh, DPUID, "udp", "10.255.0.53:53", from, silence) != "real dns" {
				n++
			}
		}
		Remove(t, mesh, b)
		return n
	}
	if n := wrong(false); n != 0 {
		t.Errorf("with zones %d of 6 answers came from the wrong side", n)
	}
	if n := wrong(true); n == 0 {
		t.Error("without zones everything works: the test does not show what it should")
	}
}

// testReapply connects all the time while the rules are exchanged.
func testReapply(t *testing.T, prefix string, newBackend func(t testing.TB) Backend) {
	hosts := NewHosts(t, prefix, "mesh", "remote")
	mesh, remote := hosts[0], hosts[1]
	s := NewServers(t)
	s.TCP(mesh, DPUID, "0.0.0.0:15001", "OUT", true)
	s.TCP(remote, 0, "0.0.0.0:9000", "remote", false)
	b := newBackend(t)
	plans := []*tp.Plan{
		NewPlan(t, func(c *tp.Config) { c.DNS.Enabled = true }),
		NewPlan(t, func(c *tp.Config) { c.DNS.CaptureAll = true; c.Inbound.ExcludePorts = ParsePorts(t, "22") }),
	}
	Apply(t, mesh, b, plans[0])
	stop := make(chan struct{})
	var wg sync.WaitGroup
	connections := 0
	to := netip.AddrPortFrom(remote.Addr, 9000).String()
	wg.Go(func() {
		for {
			if got := Probe(t.Context(), mesh, AppUID, "tcp", to, ""); got != "OUT "+to {
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
		Apply(t, mesh, b, plans[(i+1)%2])
	}
	close(stop)
	wg.Wait()
	if connections < 20 {
		t.Errorf("only %d connections were made", connections)
	}
}

// Exclude sets the exclusions of the rows.
func Exclude(t testing.TB, c *tp.Config) {
	t.Helper()
	c.Inbound.ExcludePorts, c.Outbound.ExcludePorts = ParsePorts(t, "22"), ParsePorts(t, "443")
	e, err := tp.ParseUIDExclusion("2000")
	if err != nil {
		t.Fatal(err)
	}
	c.Outbound.ExcludeUIDs = []tp.UIDExclusion{e}
	if c.Outbound.ExcludeIPs, err = tp.ParseIPs("10.255.1.0/24"); err != nil {
		t.Fatal(err)
	}
}
