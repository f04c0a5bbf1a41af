//go:build linux

package redirect

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The kernel decides about redirection at the first packet of a connection that it tracks. On a host that tracked nothing
// before, that is the next packet of every connection that exists: what a server sends on one, such as the SSH session of
// whoever installs, looks like a connection that begins, is redirected, and resets the real one. So the kernel is told of
// all connections before the first rule. They go on as they are, redirected or not, until they end.

// Numbers of the kernel.
const (
	tcpEstablished = 1 // of a socket
	tcpCloseWait   = 8
	tcpListen      = 10
	ctEstablished  = 3 // of conntrack
	// ctTimeout is the kernel's own for established connections; the first packet replaces it.
	ctTimeout = 5 * 24 * 60 * 60
)

// track tells the kernel of the connections that exist. When it cannot be told, they may break, which must be no reason not
// to redirect.
func (m *Manager) track() {
	n, err := trackConnections()
	if err != nil {
		m.cfg.Log.Warn("connections that exist may break: conntrack cannot be told of them", "error", err)
		return
	}
	m.cfg.Log.Debug("conntrack knows the connections that exist", "new", n)
}

func trackConnections() (n int, err error) {
	var errs []error
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := netlink.SocketDiagTCP(family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			errs = append(errs, fmt.Errorf("list connections: %w", err))
			continue
		}
		listening := map[uint16]bool{}
		for _, s := range sockets {
			listening[s.ID.SourcePort] = listening[s.ID.SourcePort] || s.State == tcpListen
		}
		for _, s := range sockets {
			local, ok := netip.AddrFromSlice(s.ID.Source)
			remote, rok := netip.AddrFromSlice(s.ID.Destination)
			local, remote = local.Unmap(), remote.Unmap()
			if s.State != tcpEstablished && s.State != tcpCloseWait || !ok || !rok || local.IsLoopback() || remote == local {
				continue
			}
			from, to := netip.AddrPortFrom(local, s.ID.SourcePort), netip.AddrPortFrom(remote, s.ID.DestinationPort)
			if listening[s.ID.SourcePort] {
				from, to = to, from
			}
			switch err := trackConnection(from, to); {
			case err == nil:
				n++
			case errors.Is(err, unix.EEXIST): // known, perhaps under other addresses
			default:
				return n, errors.Join(append(errs, fmt.Errorf("track %v to %v: %w", from, to, err))...)
			}
		}
	}
	return n, errors.Join(errs...)
}

func trackConnection(from, to netip.AddrPort) error {
	family := netlink.InetFamily(unix.AF_INET)
	if from.Addr().Is6() {
		family = unix.AF_INET6
	}
	tuple := func(a, b netip.AddrPort) netlink.IPTuple {
		return netlink.IPTuple{Protocol: unix.IPPROTO_TCP, SrcIP: a.Addr().AsSlice(), SrcPort: a.Port(), DstIP: b.Addr().AsSlice(), DstPort: b.Port()}
	}
	return netlink.ConntrackCreate(netlink.ConntrackTable, family, &netlink.ConntrackFlow{
		FamilyType: uint8(family), Forward: tuple(from, to), Reverse: tuple(to, from),
		TimeOut: ctTimeout, ProtoInfo: &netlink.ProtoInfoTCP{State: ctEstablished},
	})
}
