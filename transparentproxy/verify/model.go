//go:build linux

package verify

import (
	"net/netip"
	"slices"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// flow is the packet with which a connection begins.
type flow struct {
	protocol string // tcp or udp
	// uid is whose socket sends it.
	uid uint32
	// from may be the zero Addr, for what the kernel chooses.
	from netip.Addr
	to   netip.AddrPort
	// outside says that it arrives from another host.
	outside bool
}

// Addresses with a meaning of their own (contract transparentproxy.md §2).
var (
	localhost   = map[tp.Family]netip.Addr{tp.IPv4: netip.MustParseAddr("127.0.0.1"), tp.IPv6: netip.MustParseAddr("::1")}
	passthrough = map[tp.Family]netip.Addr{tp.IPv4: netip.MustParseAddr("127.0.0.6"), tp.IPv6: netip.MustParseAddr("::6")}
)

const dnsPort = 53

// model says where the configuration sends a packet. It is what the settings mean in words, on purpose without the plan: a plan
// that is wrong must not prove itself right.
type model struct {
	cfg tp.Config
	// proxy is the user whose traffic is left alone.
	proxy   uint32
	servers []netip.Addr
	local   func(netip.Addr) bool // addresses of this host
}

// port is the one that a packet is redirected to, 0 when it is left alone.
func (m model) port(f flow) uint16 {
	switch {
	case f.outside:
		return m.inbound(f)
	case m.excluded(f):
		return 0
	case f.protocol == "udp":
		if m.captured(f) && f.uid != m.proxy {
			return m.cfg.DNS.Port
		}
		return 0
	default:
		return m.outbound(f)
	}
}

func (m model) inbound(f flow) uint16 {
	in := m.cfg.Inbound
	switch {
	case !in.Enabled, f.protocol != "tcp", within(in.ExcludeIPs, f.from):
		return 0
	case len(in.IncludePorts) > 0 && !has(in.IncludePorts, f.to.Port()), len(in.IncludePorts) == 0 && has(in.ExcludePorts, f.to.Port()):
		return 0
	}
	return in.Port
}

// excluded is what is left alone before anything else is asked.
func (m model) excluded(f flow) bool {
	return within(m.cfg.Outbound.ExcludeIPs, f.to.Addr()) || slices.ContainsFunc(m.cfg.Outbound.ExcludeUIDs, func(e tp.UIDExclusion) bool {
		return e.UIDs.First <= f.uid && f.uid <= e.UIDs.Last && has(e.Ports, f.to.Port()) && (f.protocol == "tcp" && e.TCP || f.protocol == "udp" && e.UDP)
	})
}

// captured reports whether it is a query that kuma-dp answers.
func (m model) captured(f flow) bool {
	dns := m.cfg.DNS
	return dns.On() && f.to.Port() == dnsPort && (dns.CaptureAll || slices.Contains(m.servers, f.to.Addr()))
}

func (m model) outbound(f flow) uint16 {
	out := m.cfg.Outbound
	self := m.local(f.to.Addr())
	family := familyOf(f.to.Addr())
	// With DNS redirected, a query to a server on this host is no traffic of the host to itself.
	query := f.to.Port() == dnsPort && m.dnsIn(family)
	switch {
	case !out.Enabled, len(out.IncludePorts) == 0 && has(out.ExcludePorts, f.to.Port()):
		return 0
	case self && f.from == passthrough[family]:
		return 0
	case self && !query && f.uid == m.proxy && f.to.Addr() != localhost[family]:
		return m.cfg.Inbound.Port
	case self && !query, f.uid == m.proxy:
		return 0
	case m.captured(f):
		return m.cfg.DNS.Port
	case f.to.Addr() == localhost[family], len(out.IncludePorts) > 0 && !has(out.IncludePorts, f.to.Port()):
		return 0
	}
	return out.Port
}

// dnsIn reports whether queries of a family are redirected at all.
func (m model) dnsIn(f tp.Family) bool {
	return m.cfg.DNS.CaptureAll || m.cfg.DNS.Enabled && slices.ContainsFunc(m.servers, func(a netip.Addr) bool { return familyOf(a) == f })
}

func has(list tp.Ports, port uint16) bool {
	return slices.ContainsFunc(list, func(r tp.PortRange) bool { return r.Contains(port) })
}

func within(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

func familyOf(a netip.Addr) tp.Family {
	if a.Is4() {
		return tp.IPv4
	}
	return tp.IPv6
}
