package transparentproxy

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// contractHost is the machine on which the payloads of contract transparentproxy.md Appendix A were made.
func contractHost() Host {
	return Host{UID: 5678, IPv6: true, ConntrackZones: true, Nameservers: []netip.Addr{
		netip.MustParseAddr("10.255.0.53"), netip.MustParseAddr("127.0.0.11"), netip.MustParseAddr("fd00:53::53"),
	}}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func readGolden(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestPlanEqualsKuma compares with what Kuma 2.9.13 printed. ours are lines we have besides, each with its reason.
func TestPlanEqualsKuma(t *testing.T) {
	v4 := func(f func(*Config)) func(*Config) {
		return func(c *Config) { c.IPFamilyMode = IPv4Only; f(c) }
	}
	for _, tc := range []struct {
		name string
		set  func(*Config)
		host func(*Host)
		text TextOptions
		ours []string
	}{
		{name: "default"},
		{name: "comments", text: TextOptions{}},
		{name: "dns", set: func(c *Config) { c.DNS.Enabled = true }},
		{name: "dns_all", set: func(c *Config) { c.DNS.CaptureAll = true }},
		{name: "dns_no_zones_port", set: v4(func(c *Config) { c.DNS.Enabled, c.DNS.SkipZoneSplit, c.DNS.Port = true, true, 15054 })},
		{name: "exclude_ports", set: v4(func(c *Config) {
			c.Inbound.ExcludePorts, c.Outbound.ExcludePorts = must(ParsePorts("22,1234")), must(ParsePorts("443,8080"))
		})},
		{name: "exclude_ips", set: func(c *Config) {
			c.Inbound.ExcludeIPs = must(ParseIPs("10.0.0.1,192.168.0.0/24,fe80::1"))
			c.Outbound.ExcludeIPs = must(ParseIPs("172.16.0.0/16,fd00::/8"))
		}},
		{name: "exclude_uids", set: v4(func(c *Config) {
			for _, s := range []string{"1000", "tcp:22,3000-5000:106-108", "53:1001"} {
				c.Outbound.ExcludeUIDs = append(c.Outbound.ExcludeUIDs, must(ParseUIDExclusion(s)))
			}
		})},
		{name: "no_inbound", set: v4(func(c *Config) { c.Inbound.Enabled = false })},
		{name: "vnet", set: func(c *Config) {
			c.DNS.Enabled = true
			for _, s := range []string{"docker0:172.17.0.0/16", "br+:172.18.0.0/16", "iface:fd01::/64"} {
				c.VNets = append(c.VNets, must(ParseVNet(s)))
			}
		}},
		{
			name: "insert",
			set: v4(func(c *Config) {
				c.Inbound.Insert, c.Outbound.Insert, c.DNS.CaptureAll = true, true, true
				c.Outbound.ExcludeIPs = must(ParseIPs("10.1.0.0/16"))
			}),
			// Excluded queries belong into the zone of the answers (contract transparentproxy.md §2).
			ours: []string{"-A OUTPUT -d 10.1.0.0/16 -p udp --dport 53 -j CT --zone 1"},
		},
		{
			name: "log",
			set: v4(func(c *Config) {
				c.Log, c.DNS.CaptureAll = true, true
				c.Outbound.ExcludeUIDs = []UIDExclusion{must(ParseUIDExclusion("1000"))}
			}),
			ours: []string{"-A OUTPUT -p udp --dport 53 -m owner --uid-owner 1000 -j CT --zone 1"},
		},
		{name: "drop_invalid", set: v4(func(c *Config) { c.DropInvalid = true })},
		{name: "verbose", set: v4(func(c *Config) { c.DNS.Enabled = true }), text: TextOptions{Verbose: true, NoComments: true}},
		{name: "ports_user", set: v4(func(c *Config) { c.Inbound.Port, c.Outbound.Port = 25006, 25001 }), host: func(h *Host) { h.UID = 65534 }},
		{name: "include_ports", set: v4(func(c *Config) {
			c.Inbound.IncludePorts, c.Outbound.IncludePorts = must(ParsePorts("80,8080")), must(ParsePorts("443,5432"))
			c.Inbound.ExcludePorts, c.Outbound.ExcludePorts = must(ParsePorts("81")), must(ParsePorts("444")) // nothing to add
		})},
		{name: "no_outbound", set: v4(func(c *Config) { c.Outbound.Enabled = false })},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg, host := DefaultConfig(), contractHost()
			if tc.set != nil {
				tc.set(&cfg)
			}
			if tc.host != nil {
				tc.host(&host)
			}
			plan, err := NewPlan(cfg, host)
			if err != nil {
				t.Fatal(err)
			}
			if err := plan.Check(); err != nil {
				t.Error(err)
			}
			if tc.name != "comments" && !tc.text.Verbose {
				tc.text.NoComments = true
			}
			got := plan.Text(tc.text)
			for _, line := range tc.ours {
				if !strings.Contains(got, line+"\n") {
					t.Errorf("the plan lacks %q", line)
				}
				got = strings.Replace(got, line+"\n", "", 1)
			}
			if diff := cmp.Diff(readGolden(t, tc.name), got); diff != "" {
				t.Errorf("the plan differs from Kuma's (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlanOfHostFacts(t *testing.T) {
	for _, tc := range []struct {
		name          string
		set           func(*Config)
		host          func(*Host)
		families      int
		warning       string
		has, hasNot   string
		addressesWant int
	}{
		{name: "no IPv6 on the host", host: func(h *Host) { h.IPv6 = false }, families: 1},
		{name: "dual stack", families: 2, addressesWant: 1},
		{
			name: "no IPv6 server", set: func(c *Config) { c.DNS.Enabled = true },
			host:     func(h *Host) { h.Nameservers = h.Nameservers[:1] },
			families: 2, warning: "no IPv6 DNS server", addressesWant: 1,
		},
		{
			name: "no zones", set: func(c *Config) { c.DNS.CaptureAll = true },
			host:     func(h *Host) { h.ConntrackZones, h.IPv6 = false, false },
			families: 1, warning: "zone splitting is disabled", hasNot: "* raw",
		},
		{
			name: "docker, all", set: func(c *Config) { c.DNS.CaptureAll = true },
			host:     func(h *Host) { h.Docker4, h.IPv6 = true, false },
			families: 1, warning: "zone splitting is unsupported", hasNot: "* raw",
			has: "-I OUTPUT 1 -p udp --dport 53 -m owner --uid-owner 5678 -j DOCKER_OUTPUT\n",
		},
		{
			name: "docker, servers", set: func(c *Config) { c.DNS.Enabled = true },
			host:     func(h *Host) { h.Docker4, h.IPv6 = true, false },
			families: 1, has: "* raw",
		},
		{
			name: "all wins over servers", set: func(c *Config) { c.DNS.Enabled, c.DNS.CaptureAll = true, true },
			host: func(h *Host) { h.IPv6 = false }, families: 1, has: "-I OUTPUT 2 -p udp --dport 53 -j REDIRECT --to-ports 15053\n",
		},
		{name: "more ports than a rule holds", families: 2, addressesWant: 1, set: func(c *Config) {
			c.Outbound.ExcludeUIDs = []UIDExclusion{must(ParseUIDExclusion("tcp:1-2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17:1000"))}
		}, has: "-I OUTPUT 2 -m multiport -p tcp --dport 16,17 -m owner --uid-owner 1000 -j RETURN\n"},
		{name: "uid of 32 bits", families: 2, addressesWant: 1, host: func(h *Host) { h.UID = 100000 }, has: "--uid-owner 100000 "},
		{
			name: "ranges", families: 2, addressesWant: 1, set: func(c *Config) { c.Inbound.ExcludePorts = must(ParsePorts("3000-3010")) },
			has: "-A KUMA_MESH_INBOUND -p tcp --dport 3000:3010 -j RETURN\n",
		},
		{
			name: "a virtual network of all addresses", families: 2, addressesWant: 1, set: func(c *Config) {
				c.DNS.Enabled, c.VNets = true, []VNet{must(ParseVNet("a:0.0.0.0/0")), must(ParseVNet("a:::/0"))}
			},
			has: "-I PREROUTING 1 -i a -m udp -p udp --dport 53 -j REDIRECT --to-ports 15053\n-I PREROUTING 2 -p tcp -j KUMA_MESH_INBOUND\n", hasNot: "! -d ::/0",
		},
		{name: "things named twice", families: 2, addressesWant: 1, set: func(c *Config) {
			c.DNS.Enabled = true
			c.Inbound.ExcludePorts, c.Outbound.ExcludePorts = must(ParsePorts("1,1")), must(ParsePorts("1,1"))
			c.Outbound.ExcludeIPs = must(ParseIPs("10.0.0.1,10.0.0.1"))
			c.VNets = []VNet{must(ParseVNet("a:10.0.0.0/8")), must(ParseVNet("a:11.0.0.0/8")), must(ParseVNet("a:10.0.0.0/8"))}
			e := must(ParseUIDExclusion("1000"))
			c.Outbound.ExcludeUIDs = []UIDExclusion{e, e}
		}, host: func(h *Host) { h.Nameservers = append(h.Nameservers, h.Nameservers...) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg, host := DefaultConfig(), contractHost()
			if tc.set != nil {
				tc.set(&cfg)
			}
			if tc.host != nil {
				tc.host(&host)
			}
			plan, err := NewPlan(cfg, host)
			if err != nil {
				t.Fatal(err)
			}
			if err := plan.Check(); err != nil {
				t.Error(err)
			}
			if got := len(plan.Families); got != tc.families {
				t.Errorf("got %d families, want %d", got, tc.families)
			}
			if got := len(plan.Addresses); got != tc.addressesWant {
				t.Errorf("got %d addresses, want %d", got, tc.addressesWant)
			}
			if got := strings.Join(plan.Warnings, "\n"); (tc.warning == "") != (got == "") || !strings.Contains(got, tc.warning) {
				t.Errorf("got warnings %q, want %q", got, tc.warning)
			}
			text := plan.Text(TextOptions{NoComments: true})
			if !strings.Contains(text, tc.has) || tc.hasNot != "" && strings.Contains(text, tc.hasNot) {
				t.Errorf("the plan should have %q and not %q:\n%s", tc.has, tc.hasNot, text)
			}
		})
	}
}

func TestWrongConfigIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  func(*Config)
		want string
	}{
		{"mode", func(c *Config) { c.IPFamilyMode = "ipv6" }, "ipFamilyMode"},
		{"inbound port", func(c *Config) { c.Inbound.Port = 0 }, "redirect.inbound.port"},
		{"outbound port", func(c *Config) { c.Outbound.Port = 0 }, "redirect.outbound.port"},
		{"dns port", func(c *Config) { c.DNS.Port = 0 }, "redirect.dns.port"},
		{"same ports", func(c *Config) { c.Inbound.Port = c.Outbound.Port }, "two different ports"},
		{"range", func(c *Config) { c.Inbound.ExcludePorts = Ports{{5, 4}} }, "redirect.inbound.excludePorts"},
		{"inbound port in and out", func(c *Config) {
			c.Inbound.IncludePorts, c.Inbound.ExcludePorts = must(ParsePorts("1,80-90")), must(ParsePorts("85-100"))
		}, "redirect.inbound: port 85-90 is in includePorts and in excludePorts"},
		{"outbound port in and out", func(c *Config) {
			c.Outbound.IncludePorts, c.Outbound.ExcludePorts = must(ParsePorts("443")), must(ParsePorts("443"))
		}, "redirect.outbound: port 443 is in includePorts and in excludePorts"},
		{"no protocol", func(c *Config) { c.Outbound.ExcludeUIDs = []UIDExclusion{{Ports: Ports{{1, 1}}}} }, "excludePortsForUIDs[0]"},
		{"address", func(c *Config) { c.Inbound.ExcludeIPs = []netip.Prefix{{}} }, "redirect.inbound.excludePortsForIPs[0]"},
		{"vnet", func(c *Config) { c.VNets = []VNet{{"a b", netip.MustParsePrefix("10.0.0.0/8")}} }, "redirect.vnet.networks[0]"},
		{"log level", func(c *Config) { c.LogLevel = 8 }, "log.level"},
		{"resolv.conf", func(c *Config) { c.DNS.ResolvConfPath = "" }, "resolvConfigPath"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := DefaultConfig()
			tc.set(&cfg)
			if _, err := NewPlan(cfg, contractHost()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error about %s", err, tc.want)
			}
		})
	}
	if _, err := NewPlan(Config{}, contractHost()); err == nil || strings.Count(err.Error(), "\n") < 4 {
		t.Errorf("the zero config: got %v, want all problems", err)
	}
}

func TestDiffNamesWhatChanges(t *testing.T) {
	cfg := DefaultConfig()
	cfg.IPFamilyMode = IPv4Only
	a := must(NewPlan(cfg, contractHost()))
	cfg.Inbound.Port = 25006
	cfg.Outbound.ExcludePorts = must(ParsePorts("443"))
	b := must(NewPlan(cfg, contractHost()))
	want := []Change{
		{IPv4, TableNAT, ChainOutbound, "exclude.port.443", "added"},
		{IPv4, TableNAT, ChainInboundRedirect, "envoy", "changed"},
	}
	if diff := cmp.Diff(want, Diff(a, b)); diff != "" {
		t.Error(diff)
	}
	if got := Diff(b, b); len(got) != 0 {
		t.Errorf("a plan differs from itself: %v", got)
	}
	if got := Diff(b, nil); len(got) != 12 || got[0].Kind != "removed" {
		t.Errorf("from a plan to none: %v", got)
	}
}
