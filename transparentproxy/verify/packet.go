//go:build linux

package verify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// hops is how far a packet gets that nothing redirects: the next router throws it away.
const hops = 1

// errUser is why no packet of a user can be sent.
var errUser = errors.New("this process may not send as another user: it lacks CAP_SETUID")

// asUser runs f so that sockets that it makes belong to a user. For firewalls the owner of a socket is the user that the thread
// made it as for the file system, which is all that changes.
func asUser(uid uint32, f func() error) error {
	before, err := unix.SetfsuidRetUid(int(uid))
	if err != nil {
		return fmt.Errorf("become uid %d: %w", uid, err)
	}
	defer func() { _, _ = unix.SetfsuidRetUid(before) }()                      // back to what the thread had cannot fail
	if now, err := unix.SetfsuidRetUid(-1); err != nil || uint32(now) != uid { // the call itself does not tell
		return errUser
	}
	return f()
}

// packet is one that was sent, or why not.
type packet struct {
	probe
	tuple tuple
	err   error
	// conn is where an answer arrives, nil when none can.
	conn *net.UDPConn
	// arrivals is where answers to a packet from outside are seen, 0 when it is none.
	arrivals int
	held     int // keeps its port from everybody else
}

func (p *packet) close() {
	for _, fd := range []int{p.arrivals, p.held} {
		if fd > 0 {
			_ = unix.Close(fd) // nothing is written
		}
	}
	if p.conn != nil {
		_ = p.conn.Close()
	}
}

// send sends the packet and has the tracker look out for it.
func send(t *tracker, p probe) *packet {
	out := &packet{probe: p}
	switch {
	case !p.to.Addr().IsValid() || p.outside && !p.from.IsValid():
		out.err = errors.New("there is no address for it")
	case p.protocol == "udp":
		out.err = asUser(p.uid, func() error { return out.query(t) })
	case p.outside:
		out.err = out.syn(t)
	default:
		out.err = asUser(p.uid, func() error { return out.syn(t) })
	}
	return out
}

// syn begins a TCP connection that nobody goes on with: this host's own kernel refuses the answer. So a listener never hears of
// it, be it Envoy or whoever has the address when nothing is redirected.
func (p *packet) syn(t *tracker) error {
	from := p.from
	if !from.IsValid() {
		var err error
		if from, err = source(p.to); err != nil {
			return err
		}
	}
	fd, port, err := hold(from)
	if err != nil {
		return err
	}
	p.held = fd
	src := netip.AddrPortFrom(from, port)
	p.tuple = tuple{unix.IPPROTO_TCP, src, p.to}
	t.want(p.tuple)
	return p.raw(src)
}

// source is the address from which this host would send.
func source(to netip.AddrPort) (netip.Addr, error) {
	c, err := net.Dial("udp", to.String()) //nolint:noctx // sends nothing
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// hold takes a port, without ever listening there.
func hold(from netip.Addr) (fd int, port uint16, err error) {
	if fd, err = unix.Socket(domain(from), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, 0, fmt.Errorf("open a socket: %w", err)
	}
	err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(from, 0)))
	var sa unix.Sockaddr
	if err == nil {
		sa, err = unix.Getsockname(fd)
	}
	if err != nil {
		return 0, 0, errors.Join(fmt.Errorf("use the address %v: %w", from, err), unix.Close(fd))
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		port = uint16(sa.Port)
	case *unix.SockaddrInet6:
		port = uint16(sa.Port)
	}
	return fd, port, nil
}

func (p *packet) raw(src netip.AddrPort) error {
	fd, err := unix.Socket(domain(src.Addr()), unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return fmt.Errorf("open a raw socket: %w", err)
	}
	if p.outside {
		p.arrivals = fd
	} else {
		defer unix.Close(fd)
	}
	if !p.outside {
		err = setHops(fd, src.Addr())
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(src.Addr(), 0)))
	}
	if err == nil {
		err = unix.Sendto(fd, segment(src, p.to), 0, sockaddr(netip.AddrPortFrom(p.to.Addr(), 0)))
	}
	return err
}

func setHops(fd int, a netip.Addr) error {
	if a.Is4() {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, hops)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, hops)
}

// Layout of a TCP header without options.
const (
	tcpHeader = 20
	tcpOffset = tcpHeader / 4 << 4
	tcpSYN    = 2
)

// segment is the first one of a connection.
func segment(from, to netip.AddrPort) []byte {
	b := make([]byte, tcpHeader)
	binary.BigEndian.PutUint16(b, from.Port())
	binary.BigEndian.PutUint16(b[2:], to.Port())
	binary.BigEndian.PutUint32(b[4:], 1)
	b[12], b[13] = tcpOffset, tcpSYN
	binary.BigEndian.PutUint16(b[14:], 1024)
	binary.BigEndian.PutUint16(b[16:], checksum(from.Addr(), to.Addr(), b))
	return b
}

// checksum is that of TCP, which includes the addresses.
func checksum(from, to netip.Addr, segment []byte) uint16 {
	sum := uint32(unix.IPPROTO_TCP) + uint32(len(segment))
	for _, part := range [][]byte{from.AsSlice(), to.AsSlice(), segment} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// query sends a question. That of a user whose queries are redirected is one that kuma-dp answers.
func (p *packet) query(t *tracker) error {
	network := "udp4"
	if p.to.Addr().Is6() {
		network = "udp6"
	}
	var set error
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return errors.Join(c.Control(func(fd uintptr) { set = setHops(int(fd), p.to.Addr()) }), set)
	}}
	c, err := d.Dial(network, p.to.String())
	if err != nil {
		return err
	}
	udp := c.(*net.UDPConn)
	local := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	p.conn = udp
	p.tuple = tuple{unix.IPPROTO_UDP, netip.AddrPortFrom(local.Addr().Unmap(), local.Port()), p.to}
	t.want(p.tuple)
	_, err = udp.Write(question())
	return err
}

// arrived reports whether something answered a packet from outside.
func (p *packet) arrived() bool {
	if p.arrivals == 0 {
		return false
	}
	buf := make([]byte, 2048)
	for {
		n, _, err := unix.Recvfrom(p.arrivals, buf, 0)
		if err != nil {
			return false
		}
		b := buf[:n]
		if familyOf(p.to.Addr()) == tp.IPv4 && n > 0 { // with the header
			b = b[min(n, int(b[0]&15)*4):]
		}
		if len(b) >= 4 && binary.BigEndian.Uint16(b) == p.to.Port() && binary.BigEndian.Uint16(b[2:]) == p.tuple.from.Port() {
			return true
		}
	}
}

func domain(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}
