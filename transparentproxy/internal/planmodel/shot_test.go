//go:build linux

package planmodel_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/planmodel"
)

// shot is a packet to try.
type shot struct {
	Family   tp.Family
	Protocol string
	// Via is the interface by which it comes in; empty when a process of UID sends it.
	Via string
	UID uint32
	// From has no address when the kernel is to choose one, and port 0 for one that no other packet has.
	From, To netip.AddrPort
	// Invalid makes it the answer to a connection that nobody opened.
	Invalid bool
}

func (s shot) String() string {
	who := fmt.Sprintf("of uid %d", s.UID)
	if s.Via != "" {
		who = "in by " + s.Via
	}
	if s.Invalid {
		who = "invalid, " + who
	}
	return fmt.Sprintf("%s %s from %v to %v", s.Protocol, who, s.From, s.To)
}

// link is an interface of a lab's host, with the host's address on it.
type link struct {
	name  string
	addrs map[tp.Family]netip.Prefix
}

func newLink(name, v4, v6 string) link {
	return link{name, map[tp.Family]netip.Prefix{tp.IPv4: netip.MustParsePrefix(v4), tp.IPv6: netip.MustParsePrefix(v6)}}
}

// links begin with the one to the world. Random plans know their names.
var links = []link{
	newLink("eth0", "10.77.0.2/24", "fd00:77:0::2/64"),
	newLink("docker0", "10.66.1.1/24", "fd66:1::1/64"),
	newLink("br1", "10.66.2.1/24", "fd66:2::1/64"),
	newLink("fourteen-char1", "10.66.3.1/24", "fd66:3::1/64"),
	newLink("fifteen-letters", "10.66.4.1/24", "fd66:4::1/64"),
	newLink("a.b@c-d_e", "10.66.5.1/24", "fd66:5::1/64"),
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

var (
	remotes = map[tp.Family][]netip.Addr{
		tp.IPv4: addrs("198.51.100.9", "10.255.0.53", "10.255.0.54"),
		tp.IPv6: addrs("2001:db8::9", "fd00:53::53", "fd00:53::54"),
	}
	loopbacks = map[tp.Family][]netip.Addr{
		tp.IPv4: addrs("127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.6", "127.0.0.11"),
		tp.IPv6: addrs("::1"),
	}
	localhost   = map[tp.Family]netip.Addr{tp.IPv4: loopbacks[tp.IPv4][0], tp.IPv6: loopbacks[tp.IPv6][0]}
	passthrough = map[tp.Family]netip.Addr{tp.IPv4: netip.MustParseAddr("127.0.0.6"), tp.IPv6: netip.MustParseAddr("::6")}
)

// compatible holds the addresses that once stood for those of IPv4. What comes in for them is dropped rather than redirected,
// since the kernel finds no address of their kind on the interface.
var compatible = netip.MustParsePrefix("::/96")

// isLocal reports whether the lab's host has the address.
func isLocal(a netip.Addr) bool {
	return a.IsLoopback() || a == passthrough[tp.IPv6] ||
		slices.ContainsFunc(links, func(l link) bool { return l.addrs[tp.IPv4].Addr() == a || l.addrs[tp.IPv6].Addr() == a })
}

// sendable reports whether packets to the address leave by the table of routes, as a connection's do.
func sendable(a netip.Addr) bool {
	if a.Is4() {
		b := a.As4()
		return b[0] > 0 && b[0] < 224 && !slices.Contains([]string{"127.0.0.0", "127.255.255.255"}, a.String()) &&
			!slices.ContainsFunc(links, func(l link) bool {
				return l.addrs[tp.IPv4].Masked().Addr() == a || b[3] == 255 && l.addrs[tp.IPv4].Contains(a)
			})
	}
	return !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast() && !a.Is4In6() &&
		!slices.ContainsFunc(links, func(l link) bool { return l.addrs[tp.IPv6].Masked().Addr() == a }) // of every router
}

// anyShot makes packets of what the plan asks about that can be sent to a host, or come to it.
func anyShot(plan *tp.Plan) *rapid.Generator[shot] {
	e := planmodel.EdgesOf(plan)
	ports := rapid.SampledFrom(slices.DeleteFunc(append([]uint16{53, 80, 8080, 15001, 15006, 15053}, e.Ports...), func(p uint16) bool { return p == 0 }))
	tcpPort := rapid.OneOf(ports, rapid.SampledFrom([]uint16{53, 80, 8080}))
	uids := rapid.OneOf(rapid.SampledFrom([]uint32{1000, 2000, 5678}),
		rapid.SampledFrom(slices.DeleteFunc(append([]uint32{0}, e.UIDs...), func(u uint32) bool { return u == 1<<32-1 }))) // which is nobody
	families := rapid.SampledFrom([]tp.Family{tp.IPv4, tp.IPv6})
	own, far, edges := map[tp.Family]*rapid.Generator[netip.Addr]{}, map[tp.Family]*rapid.Generator[netip.Addr]{}, map[tp.Family][]netip.Addr{}
	for _, f := range []tp.Family{tp.IPv4, tp.IPv6} {
		var mine []netip.Addr
		for _, l := range links {
			mine = append(mine, l.addrs[f].Addr())
		}
		for _, a := range e.Addresses[f] {
			if sendable(a) {
				edges[f] = append(edges[f], a)
			}
		}
		own[f] = rapid.SampledFrom(mine)
		far[f] = rapid.OneOf(rapid.SampledFrom(remotes[f]), rapid.SampledFrom(slices.DeleteFunc(append(slices.Clone(remotes[f]), edges[f]...), isLocal)))
	}
	return rapid.Custom(func(t *rapid.T) shot {
		s := shot{Family: families.Draw(t, "family"), Protocol: "tcp"}
		f := s.Family
		if rapid.IntRange(0, 2).Draw(t, "incoming") == 0 {
			l := rapid.SampledFrom(links).Draw(t, "link")
			s.Via = l.name
			from, to := far[f].Draw(t, "from"), l.addrs[f].Addr()
			switch rapid.IntRange(0, 3).Draw(t, "whose") {
			case 0:
				to = own[f].Draw(t, "own")
			case 1: // a virtual network's to the world
				to = far[f].Draw(t, "to")
			}
			if to == from || compatible.Contains(to) {
				to = l.addrs[f].Addr()
			}
			port, source := tcpPort.Draw(t, "port"), uint16(0)
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0:
				s.Protocol, port = "udp", 53
			case 1: // a resolver's answer
				s.Protocol, source = "udp", 53
			case 2:
				s.Invalid = true
			}
			s.From, s.To = netip.AddrPortFrom(from, source), netip.AddrPortFrom(to, port)
			return s
		}
		s.UID = uids.Draw(t, "uid")
		to := rapid.OneOf(far[f], far[f], own[f], rapid.SampledFrom(append(slices.Clone(loopbacks[f]), edges[f]...))).Draw(t, "to")
		var from netip.Addr
		if isLocal(to) {
			switch rapid.IntRange(0, 3).Draw(t, "from") {
			case 0:
				from = passthrough[f]
			case 1:
				from = rapid.SampledFrom(loopbacks[f]).Draw(t, "loopback")
			}
		}
		port, source := tcpPort.Draw(t, "port"), uint16(0)
		if rapid.IntRange(0, 2).Draw(t, "udp") == 0 {
			s.Protocol = "udp"
			if rapid.IntRange(0, 4).Draw(t, "query") > 0 {
				port = 53
			}
			source = rapid.SampledFrom([]uint16{0, 0, 0, 53, 15053, 15054}).Draw(t, "source port")
		}
		s.From, s.To = netip.AddrPortFrom(from, source), netip.AddrPortFrom(to, port)
		return s
	})
}

// bytes is the packet as it comes in by a link.
func (s shot) bytes() []byte {
	var l4 []byte
	number, at := byte(unix.IPPROTO_TCP), 16
	if s.Protocol == "tcp" {
		l4 = make([]byte, 20)
		l4[12], l4[13] = 5<<4, 0x02 // SYN
		if s.Invalid {
			l4[13] |= 0x10
		}
		binary.BigEndian.PutUint16(l4[14:], 1000) // window
	} else {
		l4 = make([]byte, 9)
		number, at = unix.IPPROTO_UDP, 6
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
	}
	binary.BigEndian.PutUint16(l4, s.From.Port())
	binary.BigEndian.PutUint16(l4[2:], s.To.Port())
	from, to := s.From.Addr().AsSlice(), s.To.Addr().AsSlice()
	pseudo := slices.Concat(from, to, []byte{0, number, 0, byte(len(l4))}, l4)
	binary.BigEndian.PutUint16(l4[at:], checksum(pseudo))
	if s.Family == tp.IPv6 {
		h := make([]byte, 8)
		h[0], h[6], h[7] = 6<<4, number, 64
		binary.BigEndian.PutUint16(h[4:], uint16(len(l4)))
		return slices.Concat(h, from, to, l4)
	}
	h := slices.Concat(make([]byte, 12), from, to)
	h[0], h[8], h[9] = 4<<4|5, 64, number
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(l4)))
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(h, l4...)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
