package transparentproxy

import (
	"fmt"
	"net/netip"
	"strings"
)

// maxMultiport is how many slots a port list of one rule has; a range takes two. Kuma writes longer lists into one rule,
// which the kernel then refuses (contract transparentproxy.md §1.1); here they become several rules.
const maxMultiport = 15

// serverMatch is the condition on a server's address, none for all servers, and how comments and rule ids name it.
type serverMatch struct {
	id, name string
	to, from []Match
	addr     netip.Addr
}

func (b *builder) serverMatches() []serverMatch {
	if len(b.servers) == 0 {
		return []serverMatch{{id: "all"}}
	}
	var out []serverMatch
	seen := map[netip.Addr]bool{}
	for _, a := range b.servers {
		if seen[a] {
			continue
		}
		seen[a] = true
		p := netip.PrefixFrom(a, a.BitLen())
		out = append(out, serverMatch{
			id: a.String(), name: a.String(), addr: a,
			to: []Match{Destination{Prefix: p}}, from: []Match{Source{Prefix: p}},
		})
	}
	return out
}

func with(m []Match, more ...Match) []Match { return append(append([]Match(nil), m...), more...) }

func (b *builder) rawPrerouting() Chain {
	c := Chain{Name: ChainPrerouting}
	for _, s := range b.serverMatches() {
		comment := "assign connection tracking zone 1 to all DNS responses"
		if s.name != "" {
			comment = "assign connection tracking zone 1 to DNS responses from " + s.name
		}
		c.add("dns.response."+s.id, comment, Zone{zoneUpstream}, with(s.from, udp, SourcePort{dnsPort})...)
	}
	return c
}

func (b *builder) rawOutput() Chain {
	c := Chain{Name: ChainOutput}
	c.add("dns.dp.query", "assign connection tracking zone 1 to DNS traffic from the "+b.dpUser(),
		Zone{zoneUpstream}, udp, toDNS(), b.dp)
	c.add("dns.dp.response", "assign connection tracking zone 2 to DNS responses from the kuma-dp DNS proxy",
		Zone{zoneMesh}, udp, SourcePort{b.cfg.DNS.Port}, b.dp)
	b.rawExclusions(&c)
	for _, s := range b.serverMatches() {
		comment := "assign connection tracking zone 2 to all DNS requests"
		if s.name != "" {
			comment = "assign connection tracking zone 2 to DNS requests destined for " + s.name
		}
		c.add("dns.query."+s.id, comment, Zone{zoneMesh}, with(s.to, udp, toDNS())...)
	}
	for _, s := range b.serverMatches() {
		if s.name == "" || !s.addr.IsLoopback() {
			continue
		}
		c.add("dns.local."+s.id, "assign conntrack zone 1 to DNS responses from the local DNS server to localhost, needed when the DNS "+
			"query port is altered by a DNAT iptables rule, such as with Docker containers in a custom network",
			Zone{zoneUpstream}, with(s.from, Destination{Prefix: b.localhost, Mask: true}, udp)...)
	}
	return c
}

// rawExclusions puts queries that are excluded from redirection into the zone in which the servers' answers arrive. Kuma
// does not, so that query and answer are two half connections, which a stateful firewall drops (contract
// transparentproxy.md §2, the consequence noticed).
func (b *builder) rawExclusions(c *Chain) {
	for _, e := range b.cfg.Outbound.uidExclusions() {
		if e.protocol == udp.Name && e.ports.contains(dnsPort) {
			c.add(e.id, "assign connection tracking zone 1 to DNS traffic of excluded UIDs",
				Zone{zoneUpstream}, udp, toDNS(), Owner{UIDs: e.uids})
		}
	}
	for _, p := range b.excluded(b.cfg.Outbound.ExcludeIPs) {
		c.add("exclude.ip."+p.String(), "assign connection tracking zone 1 to DNS traffic to excluded addresses",
			Zone{zoneUpstream}, Destination{Prefix: p}, udp, toDNS())
	}
}

// excluded returns the ranges of this family, each once.
func (b *builder) excluded(list []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	seen := map[netip.Prefix]bool{}
	for _, p := range list {
		if b.family.has(p) && !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

func (b *builder) dpUser() string { return fmt.Sprintf("kuma-dp user (UID %d)", b.dp.UIDs.First) }

func (b *builder) prerouting() Chain {
	c := Chain{Name: ChainPrerouting}
	vnets := b.vnets()
	put := c.add
	if len(vnets) > 0 || b.cfg.Inbound.Insert {
		put = c.insert
	}
	if b.cfg.Log {
		put("log", "log matching packets using the kernel log", Log{"PREROUTING:", b.cfg.LogLevel})
	}
	for _, v := range vnets {
		id := "vnet." + v.Interface + "." + v.Network.String()
		// Kuma captures these queries even when nobody answers them (contract transparentproxy.md §2); here only with DNS on.
		if b.dns {
			put(id+".dns", fmt.Sprintf("redirect DNS requests on interface %s to the kuma-dp DNS proxy (listening on port %d)", v.Interface, b.cfg.DNS.Port),
				Redirect{b.cfg.DNS.Port}, InInterface{v.Interface}, Protocol{Name: "udp", Module: true}, toDNS())
		}
		if v.Network.Bits() > 0 { // no packet is destined for elsewhere, and iptables-nft refuses a rule that says so
			put(id, fmt.Sprintf("redirect TCP traffic on interface %s not destined for %s to envoy (port %d)", v.Interface, v.Network, b.cfg.Outbound.Port),
				Redirect{b.cfg.Outbound.Port}, Destination{Not: true, Prefix: v.Network}, InInterface{v.Interface}, tcp)
		}
	}
	put("inbound", "redirect inbound TCP traffic to our custom chain for processing", Jump{ChainInbound}, tcp)
	return c
}

func (b *builder) output() Chain {
	c := Chain{Name: ChainOutput}
	if b.cfg.Log {
		c.insert("log", "log matching packets using the kernel log", Log{"OUTPUT:", b.cfg.LogLevel})
	}
	for _, e := range b.cfg.Outbound.uidExclusions() {
		c.insert(e.id, fmt.Sprintf("skip further processing for configured %s ports and UIDs", strings.ToUpper(e.protocol)),
			Return{}, Multiport{e.protocol, e.ports}, Owner{UIDs: e.uids})
	}
	for _, p := range b.excluded(b.cfg.Outbound.ExcludeIPs) {
		c.insert("exclude.ip."+p.String(), "skip further processing for configured IP address", Return{}, Destination{Prefix: p})
	}
	if b.dns {
		var early Verdict = Return{}
		if b.docker { // returning from a built-in chain would pass by Docker's own redirection
			early = Jump{ChainDocker}
		}
		c.insert("dns.dp", "return early for DNS traffic from kuma-dp", early, udp, toDNS(), b.dp)
		for _, s := range b.serverMatches() {
			c.insert("dns.udp."+s.id, fmt.Sprintf("redirect %s to the kuma-dp DNS proxy (listening on port %d)", s.requests(), b.cfg.DNS.Port),
				Redirect{b.cfg.DNS.Port}, with(s.to, udp, toDNS())...)
		}
	}
	put := c.add
	if b.cfg.Outbound.Insert {
		put = c.insert
	}
	put("outbound", "redirect outbound TCP traffic to our custom chain for processing", Jump{ChainOutbound}, tcp)
	return c
}

func (s serverMatch) requests() string {
	if s.name == "" {
		return "all DNS requests"
	}
	return "DNS requests to " + s.name
}

func (b *builder) inbound() Chain {
	c := Chain{Name: ChainInbound, Owned: true}
	in := b.cfg.Inbound
	if !in.Enabled {
		c.add("disabled", "inbound traffic is not redirected", Return{}, tcp)
		return c
	}
	for _, p := range b.excluded(in.ExcludeIPs) {
		c.add("exclude.ip."+p.String(), "skip further processing for configured IP address", Return{}, Source{Prefix: p})
	}
	if len(in.IncludePorts) > 0 {
		for _, p := range in.IncludePorts.unique() {
			c.add("include.port."+p.String(), "redirect inbound traffic from included port to the custom chain for processing",
				Jump{ChainInboundRedirect}, tcp, DestinationPort{Range: p})
		}
		return c
	}
	for _, p := range in.ExcludePorts.unique() {
		c.add("exclude.port."+p.String(), "exclude inbound traffic from redirection on port "+p.String(), Return{}, tcp, DestinationPort{Range: p})
	}
	c.add("all", "redirect all inbound traffic to the custom chain for processing", Jump{ChainInboundRedirect}, tcp)
	return c
}

func (b *builder) outbound() Chain {
	c := Chain{Name: ChainOutbound, Owned: true}
	out := b.cfg.Outbound
	if !out.Enabled {
		c.add("disabled", "outbound traffic is not redirected", Return{}, tcp)
		return c
	}
	if len(out.IncludePorts) == 0 {
		for _, p := range out.ExcludePorts.unique() {
			c.add("exclude.port."+p.String(), "exclude outbound traffic from redirection on port "+p.String(), Return{}, tcp, DestinationPort{Range: p})
		}
	}
	c.add("passthrough", fmt.Sprintf("prevent traffic loops by ensuring traffic from the sidecar proxy (using %s) to loopback interface is not redirected again", b.passthrough),
		Return{}, Source{Prefix: b.passthrough, Mask: true}, loopback)
	// A query to a server on this host has to reach the rules below.
	notDNS := []Match{tcp}
	if b.dns {
		notDNS = append(notDNS, DestinationPort{Not: true, Range: PortRange{dnsPort, dnsPort}})
	}
	c.add("self.dp", fmt.Sprintf("redirect outbound TCP traffic (except to DNS port 53) destined for loopback interface, but not targeting address %s, and owned by %s to %s chain for proper handling",
		b.localhost, b.dpName, ChainInboundRedirect),
		Jump{ChainInboundRedirect}, with(notDNS, loopback, Destination{Not: true, Prefix: b.localhost, Mask: true}, b.dp)...)
	c.add("self.app", fmt.Sprintf("return outbound TCP traffic (except to DNS port 53) destined for loopback interface, owned by any UID other than %d (kuma-dp user)", b.dp.UIDs.First),
		Return{}, with(notDNS, loopback, b.others)...)
	c.add("dp", "return outbound traffic owned by "+b.dpName, Return{}, b.dp)
	if b.dns {
		for _, s := range b.serverMatches() {
			requests := "all DNS requests sent via TCP"
			if s.name != "" {
				requests = "DNS requests sent via TCP to " + s.name
			}
			c.add("dns.tcp."+s.id, fmt.Sprintf("redirect %s to kuma-dp DNS proxy (listening on port %d)", requests, b.cfg.DNS.Port),
				Redirect{b.cfg.DNS.Port}, with(s.to, tcp, toDNS())...)
		}
	}
	c.add("localhost", fmt.Sprintf("return traffic destined for localhost (%s) to avoid redirection", b.localhost),
		Return{}, Destination{Prefix: b.localhost, Mask: true})
	if len(out.IncludePorts) > 0 {
		for _, p := range out.IncludePorts.unique() {
			c.add("include.port."+p.String(), "redirect outbound traffic from included port to the custom chain for further processing",
				Jump{ChainOutboundRedirect}, tcp, DestinationPort{Range: p})
		}
		return c
	}
	c.add("all", "redirect all other outbound traffic to our custom chain for further processing", Jump{ChainOutboundRedirect})
	return c
}
