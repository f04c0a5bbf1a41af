//go:build linux

package planmodel_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// connection is what the kernel says of a connection when its first packet has passed all rules.
type connection struct {
	protocol        string
	original, reply tuple
	zone            uint16
}

type tuple struct{ from, to netip.AddrPort }

// Numbers of linux/netfilter/nfnetlink_conntrack.h.
const (
	groupNew = 1 << 0

	ctaTupleOrig, ctaTupleReply, ctaZone = 1, 2, 18
	ctaTupleIP, ctaTupleProto            = 1, 2
	ctaProtoNum, ctaSourcePort, ctaPort  = 1, 2, 3
)

// watchConnections opens a socket that hears of new connections in the calling thread's namespace.
func watchConnections() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return -1, err
	}
	return fd, errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groupNew}))
}

// nextConnection returns the next one, false when none comes in time. The kernel tells of a packet while it is sent, so that
// after that nothing needs to be waited for, unless a machine is odder than those known.
func nextConnection(fd int, wait time.Duration) (connection, bool, error) {
	buf := make([]byte, 4096)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case err == nil:
			c, known := parseConnection(buf[:n])
			if known {
				return c, true, nil
			}
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EAGAIN):
			return connection{}, false, fmt.Errorf("hear of connections: %w", err)
		case wait == 0:
			return connection{}, false, nil
		default:
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(wait.Milliseconds()))
			if err != nil && !errors.Is(err, unix.EINTR) {
				return connection{}, false, fmt.Errorf("wait for connections: %w", err)
			}
			if n == 0 {
				wait = 0
			}
		}
	}
}

// parseConnection reads a message of which only TCP and UDP are known.
func parseConnection(b []byte) (connection, bool) {
	const headers = unix.SizeofNlMsghdr + 4
	if len(b) < headers {
		return connection{}, false
	}
	a := attributes(b[headers:])
	protocols := map[byte]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp"}
	orig := attributes(a[ctaTupleOrig])
	num := attributes(orig[ctaTupleProto])[ctaProtoNum]
	if len(num) != 1 || protocols[num[0]] == "" {
		return connection{}, false
	}
	c := connection{protocol: protocols[num[0]], original: parseTuple(orig), reply: parseTuple(attributes(a[ctaTupleReply]))}
	if z := a[ctaZone]; len(z) == 2 {
		c.zone = binary.BigEndian.Uint16(z)
	}
	return c, true
}

func parseTuple(a map[uint16][]byte) tuple {
	ip, proto := attributes(a[ctaTupleIP]), attributes(a[ctaTupleProto])
	end := func(v4, v6, port uint16) netip.AddrPort {
		b := ip[v4]
		if b == nil {
			b = ip[v6]
		}
		addr, _ := netip.AddrFromSlice(b)
		return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(proto[port]))
	}
	return tuple{end(1, 3, ctaSourcePort), end(2, 4, ctaPort)}
}

// attributes cuts a netlink message's attributes apart.
func attributes(b []byte) map[uint16][]byte {
	out := map[uint16][]byte{}
	for len(b) >= 4 {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			break
		}
		out[binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER)] = b[4:size]
		b = b[min(len(b), (size+3)&^3):]
	}
	return out
}
