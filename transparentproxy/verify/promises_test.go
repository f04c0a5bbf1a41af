//go:build linux

package verify

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// promised lists the ids of what a configuration promises of IPv4 on a host that packets reach from outside.
func promised(t *testing.T, set func(*tp.Config)) []string {
	t.Helper()
	cfg := tp.DefaultConfig()
	set(&cfg)
	self := netip.MustParseAddr("10.0.0.2")
	b := &promiser{
		model: model{cfg: cfg, proxy: 5678, servers: []netip.Addr{netip.MustParseAddr("10.0.0.53")}, local: func(a netip.Addr) bool { return a == self || a.IsLoopback() }},
		site:  site{family: tp.IPv4, self: self, far: netip.MustParseAddr("192.0.2.2"), peer: netip.MustParseAddr("192.0.2.2")},
		app:   1000,
	}
	var out []string
	for _, p := range b.promises() {
		out = append(out, strings.TrimSuffix(p.id, ".ipv4"))
	}
	return out
}

// TestWinningSettings has settings that speak of the same traffic: only what wins is promised.
func TestWinningSettings(t *testing.T) {
	prefix := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	ports := func(first, last uint16) tp.Ports { return tp.Ports{{First: first, Last: last}} }
	for _, tt := range []struct {
		name       string
		set        func(*tp.Config)
		has, lacks []string
	}{
		{"defaults", func(*tp.Config) {}, []string{"outbound", "inbound", "loopback.self", "loopback.proxy.self", "loopback.passthrough", "dns.udp"}, []string{"dns.zones.10.0.0.53"}},
		{"all destinations excluded", func(c *tp.Config) { c.Outbound.ExcludeIPs = prefix("0.0.0.0/0") }, []string{"outbound.exclude.ip.0.0.0.0/0"}, []string{"outbound", "loopback.proxy.self"}},
		{"all ports excluded", func(c *tp.Config) { c.Outbound.ExcludePorts = ports(1, 65535) }, []string{"outbound.exclude.port.1-65535"}, []string{"outbound"}},
		{"port of DNS excluded", func(c *tp.Config) {
			c.DNS.Enabled, c.Outbound.ExcludePorts = true, ports(53, 53)
		}, []string{"dns.udp.10.0.0.53", "outbound.exclude.port.53"}, []string{"dns.tcp.10.0.0.53"}},
		{"server of DNS excluded", func(c *tp.Config) {
			c.DNS.Enabled, c.Outbound.ExcludeIPs = true, prefix("10.0.0.0/24")
		}, []string{"outbound"}, []string{"dns.udp.10.0.0.53", "dns.tcp.10.0.0.53"}},
		{"included ports go before excluded ones", func(c *tp.Config) { c.Inbound.IncludePorts = ports(80, 80) }, []string{"inbound.include.port.80", "inbound.others"}, []string{"inbound"}},
		{"sources of a gateway", func(c *tp.Config) { c.Inbound.Enabled, c.Inbound.ExcludeIPs = false, prefix("10.9.0.0/16") }, []string{"inbound"}, []string{"inbound.exclude.ip.10.9.0.0/16"}},
		{"another family", func(c *tp.Config) { c.Outbound.ExcludeIPs = prefix("fd00::/8") }, []string{"outbound"}, []string{"outbound.exclude.ip.fd00::/8"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := promised(t, tt.set)
			for _, id := range tt.has {
				if !slices.Contains(got, id) {
					t.Errorf("lacks %s: %v", id, got)
				}
			}
			for _, id := range tt.lacks {
				if slices.Contains(got, id) {
					t.Errorf("promises %s", id)
				}
			}
		})
	}
}
