//go:build linux

package verify

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// promise is something that the configuration says of traffic.
type promise struct {
	id, words string
	probes    []probe
	// untried says why no packet can tell; there are no probes then.
	untried string
}

// probe is a packet and what has to become of it.
type probe struct {
	flow
	// want is the port it is to be redirected to, 0 for none.
	want uint16
	// zone is the conntrack zone it belongs in, 0 when that does not matter.
	zone uint16
	// excluded says that it is left alone because a setting says so.
	excluded bool
	// answer says that kuma-dp has to answer it.
	answer bool
}

// site is what packets of one family can be sent to and from.
type site struct {
	family tp.Family
	// self is an address of this host, far one that is not, and peer the one that packets from outside come from. They are the
	// zero Addr when there is none.
	self, far, peer netip.Addr
	// noPeer says why nothing can come from outside.
	noPeer string
}

// promiser lists the promises of one family.
type promiser struct {
	model
	site
	app   uint32 // a user that is neither the proxy's nor excluded
	noApp bool
	zones bool
	out   []promise
}

func (b *promiser) add(id, words string, probes ...probe) {
	if len(probes) > 0 {
		b.put(promise{id: id, words: words, probes: probes})
	}
}

func (b *promiser) cannot(id, words, why string) { b.put(promise{id: id, words: words, untried: why}) }

// put leaves out what was said already: lists of a configuration may have the same twice.
func (b *promiser) put(p promise) {
	p.id, p.words = p.id+"."+familyID(b.family), b.family.String()+": "+p.words
	if !slices.ContainsFunc(b.out, func(o promise) bool { return o.id == p.id }) {
		b.out = append(b.out, p)
	}
}

func (b *promiser) tcp(uid uint32, to netip.Addr, port uint16) flow {
	return flow{protocol: "tcp", uid: uid, to: netip.AddrPortFrom(to, port)}
}

func (b *promiser) udp(uid uint32, to netip.Addr, port uint16) flow {
	return flow{protocol: "udp", uid: uid, to: netip.AddrPortFrom(to, port)}
}

// expected are the probes whose packets have to go to want by the configuration as a whole: of two settings that speak of the
// same packet, only that one is promised which wins.
func (b *promiser) expected(want uint16, list ...flow) []probe {
	var out []probe
	for _, f := range list {
		if b.port(f) == want && f.to.Addr().IsValid() {
			out = append(out, probe{flow: f, want: want})
		}
	}
	return out
}

// samplePorts are those that a connection to "anywhere" is tried with: ones that hardly anything listens on.
var samplePorts = []uint16{9, 47808, 2, 33333, 60001, 8080, 443, 80}

// anyPort finds one of the flows that go to want, trying ports that are named nowhere first.
func (b *promiser) anyPort(want uint16, of func(port uint16) flow) []probe {
	for _, p := range samplePorts {
		if f := of(p); b.port(f) == want && f.to.Addr().IsValid() {
			return []probe{{flow: f, want: want}}
		}
	}
	return nil
}

// ends are the first and the last of a range.
func ends(r tp.PortRange) []uint16 { return slices.Compact([]uint16{r.First, r.Last}) }

// words is a range as people write it.
func words(r tp.PortRange) string { return strings.Replace(r.String(), ":", "-", 1) }

func (b *promiser) promises() []promise {
	b.outbound()
	b.loopback()
	b.inbound()
	b.dns()
	for _, v := range b.cfg.VNets {
		if familyOf(v.Network.Addr()) == b.family {
			b.cannot("vnet."+v.Interface, fmt.Sprintf("what enters by %s goes to port %d", v.Interface, b.cfg.Outbound.Port),
				"only a container or machine behind that interface can send such a packet")
		}
	}
	return b.out
}

func (b *promiser) outbound() {
	out := b.cfg.Outbound
	toFar := func(port uint16) flow { return b.tcp(b.app, b.far, port) }
	redirected := fmt.Sprintf("goes to Envoy, port %d", out.Port)
	switch {
	case b.noApp:
		b.cannot("outbound", "TCP of an application "+redirected, "every user is excluded, so that no application is redirected")
	case !out.Enabled:
		b.add("outbound", "TCP of an application is left alone, as outbound redirection is off", b.anyPort(0, toFar)...)
	case len(out.IncludePorts) > 0:
		for _, r := range out.IncludePorts {
			b.add("outbound.include.port."+words(r), "TCP of an application to port "+words(r)+" "+redirected, b.each(out.Port, r, toFar)...)
		}
		b.add("outbound.others", "TCP of an application to other ports is left alone", b.anyPort(0, toFar)...)
	default:
		b.add("outbound", "TCP of an application "+redirected, b.anyPort(out.Port, toFar)...)
		for _, r := range out.ExcludePorts {
			b.add("outbound.exclude.port."+words(r), "TCP to port "+words(r)+" is left alone", b.each(0, r, toFar)...)
		}
	}
	b.add("outbound.proxy", "TCP of kuma-dp and Envoy is left alone, so that they never meet themselves",
		b.anyPort(0, func(port uint16) flow { return b.tcp(b.proxy, b.far, port) })...)
	b.add("outbound.udp", "UDP other than DNS is left alone", b.expected(0, b.udp(b.app, b.far, 54))...)
	for _, p := range out.ExcludeIPs {
		if familyOf(p.Addr()) == b.family && !b.local(inside(p)) {
			f := func(port uint16) flow { return b.tcp(b.app, inside(p), port) }
			b.add("outbound.exclude.ip."+p.String(), "TCP to "+p.String()+" is left alone", b.anyPort(0, f)...)
		}
	}
	for _, e := range out.ExcludeUIDs {
		b.excludedUsers(e)
	}
}

// each tries the ends of a range.
func (b *promiser) each(want uint16, r tp.PortRange, of func(port uint16) flow) []probe {
	var out []probe
	for _, p := range ends(r) {
		out = append(out, b.expected(want, of(p))...)
	}
	return out
}

// excludedUsers tries the ends of the range of users, with TCP and with queries that would be redirected otherwise.
func (b *promiser) excludedUsers(e tp.UIDExclusion) {
	who := strconv.FormatUint(uint64(e.UIDs.First), 10)
	if e.UIDs.Last != e.UIDs.First {
		who += fmt.Sprintf("-%d", e.UIDs.Last)
	}
	what := strings.ReplaceAll(e.Ports.String(), ":", "-")
	var tcp, udp []probe
	for _, uid := range slices.Compact([]uint32{e.UIDs.First, e.UIDs.Last}) {
		if e.TCP && len(e.Ports) > 0 {
			port := e.Ports[0].First
			if has(e.Ports, samplePorts[0]) {
				port = samplePorts[0]
			}
			tcp = append(tcp, b.expected(0, b.tcp(uid, b.far, port))...)
		}
		if server := b.server(); e.UDP && has(e.Ports, dnsPort) && server.IsValid() {
			for _, p := range b.expected(0, b.udp(uid, server, dnsPort)) {
				if b.zones {
					p.zone, p.excluded = 1, true
				}
				udp = append(udp, p)
			}
		}
	}
	b.add("outbound.exclude.uid."+who+".tcp."+what, "TCP of user "+who+" to port "+what+" is left alone", tcp...)
	b.add("outbound.exclude.uid."+who+".udp."+what, "DNS of user "+who+" is left alone", udp...)
}

func (b *promiser) loopback() {
	lo := localhost[b.family]
	b.add("loopback.localhost", "what an application sends to "+lo.String()+" is left alone",
		b.anyPort(0, func(port uint16) flow { return b.tcp(b.app, lo, port) })...)
	b.add("loopback.proxy.localhost", "what kuma-dp and Envoy send to "+lo.String()+" is left alone",
		b.anyPort(0, func(port uint16) flow { return b.tcp(b.proxy, lo, port) })...)
	alone := "what an application sends to this host itself is left alone"
	if !b.self.IsValid() {
		b.cannot("loopback.self", alone, "this host has only addresses of loopback and of its links")
		return
	}
	b.add("loopback.self", alone, b.anyPort(0, func(port uint16) flow { return b.tcp(b.app, b.self, port) })...)
	if b.cfg.Outbound.Enabled {
		b.add("loopback.proxy.self", fmt.Sprintf("what Envoy sends to this host's own address goes to port %d", b.cfg.Inbound.Port),
			b.anyPort(b.cfg.Inbound.Port, func(port uint16) flow { return b.tcp(b.proxy, b.self, port) })...)
	}
	b.add("loopback.passthrough", "what Envoy hands to an application, from "+passthrough[b.family].String()+", is left alone",
		b.anyPort(0, func(port uint16) flow {
			f := b.tcp(b.proxy, b.self, port)
			f.from = passthrough[b.family]
			return f
		})...)
}

func (b *promiser) inbound() {
	in := b.cfg.Inbound
	arriving := func(port uint16) flow {
		return flow{protocol: "tcp", from: b.peer, to: netip.AddrPortFrom(b.self, port), outside: true}
	}
	redirected := fmt.Sprintf("goes to Envoy, port %d", in.Port)
	add := b.add
	if b.noPeer != "" {
		add = func(id, words string, _ ...probe) { b.cannot(id, words, b.noPeer) }
	}
	switch {
	case !in.Enabled:
		add("inbound", "TCP from others is left alone, as inbound redirection is off", b.anyPort(0, arriving)...)
	case len(in.IncludePorts) > 0:
		for _, r := range in.IncludePorts {
			add("inbound.include.port."+words(r), "TCP from others to port "+words(r)+" "+redirected, b.each(in.Port, r, arriving)...)
		}
		add("inbound.others", "TCP from others to other ports is left alone", b.anyPort(0, arriving)...)
	default:
		add("inbound", "TCP from others "+redirected, b.anyPort(in.Port, arriving)...)
		for _, r := range in.ExcludePorts {
			add("inbound.exclude.port."+words(r), "TCP from others to port "+words(r)+" is left alone", b.each(0, r, arriving)...)
		}
	}
	for _, p := range in.ExcludeIPs {
		if familyOf(p.Addr()) == b.family && in.Enabled {
			from := func(port uint16) flow {
				f := arriving(port)
				f.from = inside(p)
				return f
			}
			add("inbound.exclude.ip."+p.String(), "TCP from "+p.String()+" is left alone", b.anyPort(0, from)...)
		}
	}
}

// inside is an address of a range that is not the network's own.
func inside(p netip.Prefix) netip.Addr {
	if a := p.Masked().Addr().Next(); p.Contains(a) {
		return a
	}
	return p.Addr()
}
