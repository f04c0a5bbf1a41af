//go:build linux

package verify

import (
	"fmt"
	"net/netip"
	"slices"
)

// queried are the servers whose queries are redirected in this family; with all of them, one that is no server.
func (b *promiser) queried() []netip.Addr {
	var out []netip.Addr
	if b.cfg.DNS.Enabled || b.cfg.DNS.CaptureAll {
		for _, a := range b.servers {
			if familyOf(a) == b.family && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	if b.cfg.DNS.CaptureAll && b.far.IsValid() {
		out = append(out, b.far)
	}
	return out
}

// server is one of them, the zero Addr when there is none.
func (b *promiser) server() netip.Addr {
	for _, a := range b.queried() {
		if !a.IsLinkLocalUnicast() {
			return a
		}
	}
	return netip.Addr{}
}

func (b *promiser) dns() {
	port := b.cfg.DNS.Port
	if !b.dnsIn(b.family) {
		b.add("dns.udp", "DNS queries over UDP are left alone, as they are not redirected", b.expected(0, b.udp(b.app, b.far, dnsPort))...)
		return
	}
	for _, server := range b.queried() {
		name, to := "."+server.String(), "to "+server.String()
		if b.cfg.DNS.CaptureAll && server == b.far {
			name, to = ".any", "to any server"
		}
		if server.IsLinkLocalUnicast() {
			b.cannot("dns"+name, "DNS queries "+to+" go to kuma-dp", "the server's address is one of a link, and resolv.conf does not say reliably of which")
			continue
		}
		udp := b.expected(port, b.udp(b.app, server, dnsPort))
		for i := range udp {
			udp[i].answer = true
		}
		b.add("dns.udp"+name, fmt.Sprintf("DNS queries over UDP %s go to kuma-dp, port %d, and are answered", to, port), udp...)
		b.add("dns.tcp"+name, fmt.Sprintf("DNS queries over TCP %s go to kuma-dp, port %d", to, port), b.expected(port, b.tcp(b.app, server, dnsPort))...)
		b.add("dns.proxy"+name, "DNS queries of kuma-dp "+to+" are left alone",
			b.expected(0, b.udp(b.proxy, server, dnsPort), b.tcp(b.proxy, server, dnsPort))...)
		if app, proxy := b.expected(port, b.udp(b.app, server, dnsPort)), b.expected(0, b.udp(b.proxy, server, dnsPort)); b.zones && len(app)+len(proxy) == 2 {
			app[0].zone, proxy[0].zone = 2, 1
			b.add("dns.zones"+name, "queries of applications and of kuma-dp "+to+" never share an entry of connection tracking", app[0], proxy[0])
		}
	}
}
