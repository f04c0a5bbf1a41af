package dns

import (
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// pktinfoSize has room for one control message of either family.
const pktinfoSize = 64

// receiveDestination makes the kernel tell with each packet where it was sent to. A socket bound to all addresses must
// answer from that one, or the client takes the answer for a stranger's (contract dns.md §3.3).
func receiveDestination(conn *net.UDPConn, v6 bool) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) {
		if v6 {
			serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		} else {
			serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
	})
	if err != nil {
		return err
	}
	return os.NewSyscallError("setsockopt", serr)
}

// destination is the address that a packet was sent to, by its control message; not valid when the message is none we know.
func destination(oob []byte) netip.Addr {
	hdr, data, _, err := unix.ParseOneSocketControlMessage(oob)
	switch {
	case err != nil:
	case hdr.Level == unix.IPPROTO_IP && hdr.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		return netip.AddrFrom4([4]byte(data[8:12])) // behind the interface and the local address
	case hdr.Level == unix.IPPROTO_IPV6 && hdr.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		return netip.AddrFrom16([16]byte(data[:16])).Unmap()
	}
	return netip.Addr{}
}

// sourceControl turns the control message of a packet received into that of its answer, in place. Nothing is left when the
// message is none we know; then the kernel chooses the source. The interface is not kept: with redirection a packet may
// come in by one and have to leave by another.
func sourceControl(oob []byte) []byte {
	hdr, data, rest, err := unix.ParseOneSocketControlMessage(oob)
	if err != nil || len(rest) > 0 {
		return nil
	}
	switch {
	case hdr.Level == unix.IPPROTO_IP && hdr.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
		clear(data[:4]) // interface; then comes the local address to send from
		return oob
	case hdr.Level == unix.IPPROTO_IPV6 && hdr.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
		if data[0] != 0xfe { // a link-local address means nothing without its interface
			clear(data[16:20])
		}
		return oob
	}
	return nil
}
