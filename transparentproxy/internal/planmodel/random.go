package planmodel

import (
	"fmt"
	"net/netip"
	"slices"

	"pgregory.net/rapid"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// apart leaves out what the other list holds too, which no configuration may have.
func apart(list, other tp.Ports) tp.Ports {
	return slices.DeleteFunc(list, func(p tp.PortRange) bool {
		return slices.ContainsFunc(other, func(o tp.PortRange) bool { return p.First <= o.Last && o.First <= p.Last })
	})
}

// AnyPlan is the plan of any configuration on any host.
func AnyPlan(t *rapid.T) *tp.Plan {
	port := rapid.OneOf(rapid.SampledFrom([]uint16{1, 22, 53, 54, 80, 81, 443, 15001, 65534, 65535}), rapid.Uint16Range(1, 65535))
	ports := func(name string, atLeast int) tp.Ports {
		var out tp.Ports
		for range rapid.IntRange(atLeast, 20).Draw(t, name) {
			p := port.Draw(t, "first")
			size := rapid.SampledFrom([]uint16{0, 0, 0, 1, 100}).Draw(t, "size")
			out = append(out, tp.PortRange{First: p, Last: p + min(size, 65535-p)})
		}
		return out
	}
	prefix := func() netip.Prefix {
		a := netip.MustParseAddr(rapid.SampledFrom([]string{
			"10.0.0.0", "10.0.0.1", "10.0.0.2", "10.1.0.0", "172.16.0.0", "192.168.255.255", "255.255.255.255", "0.0.0.0", "10.255.0.53",
			"10.77.0.2", "127.0.0.1", "127.0.0.6", "127.0.0.11",
			"fd00::", "fd00::1", "fe80::1", "fd00:77:0::2", "::1", "::6", "::1.2.3.4", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::", "fd00:53::53",
		}).Draw(t, "address"))
		bits := a.BitLen() - rapid.SampledFrom([]int{0, 0, 0, 0, 0, 1, 7, 8, 8, 16, 20, 32}).Draw(t, "host bits")
		return netip.PrefixFrom(a, bits).Masked()
	}
	prefixes := func(name string) []netip.Prefix {
		var out []netip.Prefix
		for range rapid.SampledFrom([]int{0, 0, 1, 1, 2, 3, 8}).Draw(t, name) {
			out = append(out, prefix())
		}
		return out
	}
	flag := rapid.Bool()
	cfg := tp.DefaultConfig()
	cfg.IPFamilyMode = rapid.SampledFrom([]tp.FamilyMode{tp.DualStack, tp.IPv4Only}).Draw(t, "mode")
	cfg.Inbound.Enabled, cfg.Outbound.Enabled = rapid.IntRange(0, 4).Draw(t, "inbound") > 0, rapid.IntRange(0, 4).Draw(t, "outbound") > 0
	cfg.Inbound.Port = rapid.SampledFrom([]uint16{tp.DefaultInboundPort, 25006}).Draw(t, "inbound port")
	cfg.Outbound.Port = rapid.SampledFrom([]uint16{tp.DefaultOutboundPort, 25001}).Draw(t, "outbound port")
	cfg.DNS.Port = rapid.SampledFrom([]uint16{tp.DefaultDNSPort, 15054}).Draw(t, "dns port")
	cfg.Inbound.Insert, cfg.Outbound.Insert = flag.Draw(t, "insert inbound"), flag.Draw(t, "insert outbound")
	if flag.Draw(t, "include") {
		cfg.Inbound.IncludePorts, cfg.Outbound.IncludePorts = ports("include inbound", 0), ports("include outbound", 0)
	}
	cfg.Inbound.ExcludePorts = apart(ports("exclude inbound", 0), cfg.Inbound.IncludePorts)
	cfg.Outbound.ExcludePorts = apart(ports("exclude outbound", 0), cfg.Outbound.IncludePorts)
	cfg.Inbound.ExcludeIPs, cfg.Outbound.ExcludeIPs = prefixes("sources"), prefixes("destinations")
	for range rapid.IntRange(0, 6).Draw(t, "uids") {
		first := rapid.SampledFrom([]uint32{0, 1000, 1001, 1002, 2000, 5678, 100000, 4294967290}).Draw(t, "uid")
		e := tp.UIDExclusion{UIDs: tp.UIDRange{First: first, Last: first + rapid.SampledFrom([]uint32{0, 0, 1, 4}).Draw(t, "more uids")}, Ports: tp.Ports{{First: 1, Last: 65535}}}
		switch rapid.IntRange(0, 2).Draw(t, "protocols") {
		case 0:
			e.TCP = true
		case 1:
			e.UDP = true
		default:
			e.TCP, e.UDP = true, true
		}
		if flag.Draw(t, "some ports") {
			e.Ports = ports("uid ports", 1)
		}
		cfg.Outbound.ExcludeUIDs = append(cfg.Outbound.ExcludeUIDs, e)
	}
	cfg.DNS.Enabled, cfg.DNS.CaptureAll, cfg.DNS.SkipZoneSplit = flag.Draw(t, "dns"), flag.Draw(t, "all dns"), rapid.IntRange(0, 3).Draw(t, "skip zones") == 0
	for range rapid.IntRange(0, 3).Draw(t, "vnets") {
		name := rapid.SampledFrom([]string{"eth0", "docker0", "br+", "+", "a.b@c-d_e", "fifteen-letters", "fourteen-char+"}).Draw(t, "interface")
		cfg.VNets = append(cfg.VNets, tp.VNet{Interface: name, Network: prefix()})
	}
	cfg.DropInvalid, cfg.Log = flag.Draw(t, "drop invalid"), flag.Draw(t, "log")
	cfg.LogLevel = rapid.Uint8Range(0, 7).Draw(t, "log level")
	host := tp.Host{
		UID: rapid.SampledFrom([]uint32{5678, 0, 100000}).Draw(t, "dp"), IPv6: rapid.IntRange(0, 3).Draw(t, "ipv6") > 0,
		ConntrackZones: rapid.IntRange(0, 3).Draw(t, "zones") > 0, Docker4: flag.Draw(t, "docker"), Docker6: flag.Draw(t, "docker6"),
	}
	for _, s := range []string{"10.255.0.53", "127.0.0.11", "fd00:53::53", "::1", "10.255.0.54"} {
		if flag.Draw(t, s) {
			host.Nameservers = append(host.Nameservers, netip.MustParseAddr(s))
		}
	}
	plan, err := tp.NewPlan(cfg, host)
	if err != nil {
		panic(fmt.Sprintf("%v: %+v", err, cfg))
	}
	return plan
}

// Edges are the values that a plan asks about, and their neighbours.
type Edges struct {
	Ports     []uint16
	UIDs      []uint32
	Addresses map[tp.Family][]netip.Addr
}

// EdgesOf finds them.
func EdgesOf(plan *tp.Plan) Edges {
	e := Edges{Addresses: map[tp.Family][]netip.Addr{}}
	for _, f := range plan.Families {
		for _, t := range f.Tables {
			for _, c := range t.Chains {
				for _, r := range c.Rules {
					for _, m := range r.Match {
						e.add(f.Family, m)
					}
				}
			}
		}
	}
	return e
}

func (e *Edges) add(f tp.Family, m tp.Match) {
	span := func(r tp.PortRange) { e.Ports = append(e.Ports, r.First-1, r.First, r.Last, r.Last+1) }
	address := func(p netip.Prefix) {
		last := lastOf(p)
		for _, a := range []netip.Addr{p.Addr(), p.Addr().Prev(), last, last.Next()} {
			if a.IsValid() {
				e.Addresses[f] = append(e.Addresses[f], a)
			}
		}
	}
	switch m := m.(type) {
	case tp.Source:
		address(m.Prefix)
	case tp.Destination:
		address(m.Prefix)
	case tp.DestinationPort:
		span(m.Range)
	case tp.Multiport:
		for _, r := range m.Ports {
			span(r)
		}
	case tp.Owner:
		e.UIDs = append(e.UIDs, m.UIDs.First-1, m.UIDs.First, m.UIDs.Last, m.UIDs.Last+1)
	}
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// AnyPacket is made of values that the plan asks about, and their neighbours, whether or not a network would let it through.
func AnyPacket(t *rapid.T, plan *tp.Plan) Packet {
	e := EdgesOf(plan)
	fixed := map[tp.Family][]netip.Addr{
		tp.IPv4: {netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.6"), netip.MustParseAddr("10.77.0.1")},
		tp.IPv6: {netip.MustParseAddr("::1"), netip.MustParseAddr("::6"), netip.MustParseAddr("fd77::1")},
	}
	p := Packet{Family: rapid.SampledFrom([]tp.Family{tp.IPv4, tp.IPv6}).Draw(t, "family")}
	interfaces := rapid.SampledFrom([]string{"lo", "eth0", "docker0", "br1", "a.b@c-d_e", "fifteen-letters", "fourteen-char1"})
	port := rapid.SampledFrom(append([]uint16{0, 53, 8080, 15053, 65535}, e.Ports...))
	addr := rapid.SampledFrom(append(fixed[p.Family], e.Addresses[p.Family]...))
	p.From = netip.AddrPortFrom(addr.Draw(t, "from"), port.Draw(t, "source port"))
	p.To = netip.AddrPortFrom(addr.Draw(t, "to"), port.Draw(t, "destination port"))
	p.In, p.Out = interfaces.Draw(t, "in"), interfaces.Draw(t, "out")
	p.Protocol = rapid.SampledFrom([]string{"tcp", "udp", "icmp"}).Draw(t, "protocol")
	p.UID = rapid.SampledFrom(append([]uint32{0, 5678, 1003}, e.UIDs...)).Draw(t, "uid")
	p.Nobody = rapid.IntRange(0, 4).Draw(t, "nobody") == 0
	p.Invalid = rapid.Bool().Draw(t, "invalid")
	return p
}
