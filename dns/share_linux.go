package dns

import (
	"context"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of what SO_MEMINFO tells (sock_diag(7)); x/sys does not name it.
const (
	memInfoDrops = 8
	memInfoVars  = 9
)

// share opens n more sockets on the address of so, among which the kernel spreads the clients. The first one was bound
// alone, so that it fails when anybody has the port, also another agent of the same user; only then it is made shareable. The
// kernel lets nobody in but processes of our own user.
func share(so socket, n int) ([]*net.UDPConn, error) {
	if n <= 0 {
		return nil, nil
	}
	raw, err := so.udp.SyscallConn()
	if err != nil {
		return nil, err
	}
	if err := reusePort(raw); err != nil {
		return nil, err
	}
	network, addr := "udp4", addrPort(so.udp.LocalAddr())
	if addr.Addr().Is6() {
		network = "udp6"
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return reusePort(c) }}
	var more []*net.UDPConn
	for range n {
		c, err := lc.ListenPacket(context.Background(), network, addr.String())
		if err != nil {
			return more, err
		}
		conn := c.(*net.UDPConn) // what the networks of UDP give
		more = append(more, conn)
		if so.any {
			if err := receiveDestination(conn, addr.Addr().Is6()); err != nil {
				return more, err
			}
		}
	}
	return more, nil
}

func reusePort(raw syscall.RawConn) error {
	var serr error
	if err := raw.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); err != nil {
		return err
	}
	return os.NewSyscallError("setsockopt", serr)
}

// dropped returns how many packets the kernel has thrown away because the queue of the socket was full. The socket itself
// knows, so nothing has to be counted packet by packet.
func dropped(conn *net.UDPConn) uint32 {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	var info [memInfoVars]uint32
	// On failure, which is a kernel before 4.12 or a closed socket, nothing is known and info stays zero.
	_ = raw.Control(func(fd uintptr) {
		size := uint32(unsafe.Sizeof(info))
		_, _, _ = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO, uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // what the call writes to
	})
	return info[memInfoDrops]
}
