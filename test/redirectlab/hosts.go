//go:build linux

// Package redirectlab is what tests of redirection have in common: hosts with servers that say who they are, probes that
// say who answered, and the checks that every backend must pass.
package redirectlab

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// Users: who runs the agent, an application, and an application that is excluded.
const (
	DPUID   = 5678
	AppUID  = 1000
	FreeUID = 2000
)

// Patience bounds every wait for a packet.
const Patience = 5 * time.Second

// silence is how long to wait before deciding that no answer comes, where none may be what is right.
const silence = 300 * time.Millisecond

// NewHosts makes hosts on one segment, with IPv4 and IPv6, until the test ends.
func NewHosts(t testing.TB, prefix string, names ...string) []*netlab.Host {
	t.Helper()
	netlab.RequireRoot(t)
	lab, err := netlab.New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	var hosts []*netlab.Host
	for _, n := range names {
		h, err := lab.AddHost(n, netlab.IPv6())
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	return hosts
}

// Facts are what a plan is told of a host with the resolvers of StartServers.
func Facts() tp.Host {
	return tp.Host{UID: DPUID, IPv6: true, ConntrackZones: true, Nameservers: []netip.Addr{
		netip.MustParseAddr("10.255.0.53"), netip.MustParseAddr("127.0.0.11"), netip.MustParseAddr("fd00:53::53"),
	}}
}

// NewPlan is the plan of a default configuration that set has changed.
func NewPlan(t testing.TB, set func(*tp.Config)) *tp.Plan {
	t.Helper()
	cfg := tp.DefaultConfig()
	if set != nil {
		set(&cfg)
	}
	p, err := tp.NewPlan(cfg, Facts())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ParsePorts reads a list of ports.
func ParsePorts(t testing.TB, s string) tp.Ports {
	t.Helper()
	p, err := tp.ParsePorts(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Shell runs a script on a host and returns what it prints.
func Shell(t testing.TB, h *netlab.Host, input, script string) string {
	t.Helper()
	cmd := h.Command(context.WithoutCancel(t.Context()), 0, "sh", "-ec", script)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// Snapshot is everything an installation could change.
func Snapshot(t testing.TB, h *netlab.Host) string {
	t.Helper()
	out := Shell(t, h, "", `for f in nft legacy; do iptables-$f-save -c; ip6tables-$f-save -c; done 2>/dev/null
nft list ruleset 2>/dev/null; ip -o addr; ip rule; ip -6 rule; ip route; ip -6 route`)
	var lines []string
	for line := range strings.Lines(out) {
		// Dates; and link-local addresses, which the kernel makes by itself, some time after a link is up.
		if strings.HasPrefix(line, "#") || strings.Contains(line, "inet6 fe80:") {
			continue
		}
		// The built-in chains of the legacy flavour count whatever the kernel sends by itself, such as neighbour discovery.
		if f := strings.Fields(line); len(f) == 3 && line[0] == ':' {
			line = f[0] + " " + f[1] + "\n"
		}
		lines = append(lines, strings.ReplaceAll(line, " tentative ", " ")) // while the kernel looks for duplicates of its own addresses
	}
	return strings.Join(lines, "")
}
