package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
)

// portTries is how often a free port is looked for: one that is free over UDP may be taken over TCP.
const portTries = 16

// socket is one address that is served.
type socket struct {
	udp  *net.UDPConn
	more []*net.UDPConn // share the port of udp
	tcp  *net.TCPListener
	any  bool // bound to all addresses: answers must say which one they come from
}

// Listen binds all addresses, each over UDP and TCP. When one cannot be bound none is. Calling it again does nothing.
func (s *Server) Listen() error {
	if s.socks != nil {
		return nil
	}
	addrs, optional := s.cfg.Listen, map[netip.AddrPort]bool{}
	if len(addrs) == 0 {
		v6 := netip.AddrPortFrom(netip.IPv6Loopback(), DefaultPort)
		addrs = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), DefaultPort), v6}
		optional[v6] = true
	}
	for _, a := range addrs {
		so, err := bind(a)
		if err != nil && optional[a] && (errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)) {
			continue
		}
		if err != nil {
			s.closeSockets()
			s.socks = nil
			return fmt.Errorf("listen for dns queries: %w", err)
		}
		if so.more, err = share(so, s.cfg.Workers-1); err != nil {
			s.cfg.Log.Warn("resolver cannot use as many processors as it should", slog.String("address", a.String()), slog.Any("error", err))
		}
		s.socks = append(s.socks, so)
		for _, conn := range so.readers() {
			s.drops.watch(conn)
		}
	}
	return nil
}

// readers returns the sockets that queries arrive at over UDP.
func (so *socket) readers() []*net.UDPConn { return append([]*net.UDPConn{so.udp}, so.more...) }

// Addrs returns the addresses that are served, with the ports that were taken. It is empty before Listen.
func (s *Server) Addrs() []netip.AddrPort {
	out := make([]netip.AddrPort, 0, len(s.socks))
	for _, so := range s.socks {
		out = append(out, addrPort(so.udp.LocalAddr()))
	}
	return out
}

func (s *Server) closeSockets() {
	for _, so := range s.socks {
		for _, conn := range so.readers() {
			s.drops.close(conn)
		}
		_ = so.tcp.Close() // nothing is written late through it
	}
}

func (s *Server) closeListeners() {
	for _, so := range s.socks {
		_ = so.tcp.Close() // a connection that nobody has accepted has sent nothing that was read
	}
}

func bind(addr netip.AddrPort) (socket, error) {
	var err error
	for range portTries {
		var so socket
		if so, err = bindBoth(addr); err == nil || addr.Port() != 0 {
			return so, err
		}
	}
	return socket{}, err
}

func bindBoth(addr netip.AddrPort) (socket, error) {
	family := "6"
	if addr.Addr().Unmap().Is4() {
		family = "4"
	}
	// Each address is bound in its own family only, so that 0.0.0.0 and [::] can be served side by side.
	udp, err := net.ListenUDP("udp"+family, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return socket{}, err
	}
	if addr.Addr().IsUnspecified() {
		err = receiveDestination(udp, family == "6")
	}
	var tcp *net.TCPListener
	if err == nil {
		bound := netip.AddrPortFrom(addr.Addr(), addrPort(udp.LocalAddr()).Port())
		tcp, err = net.ListenTCP("tcp"+family, net.TCPAddrFromAddrPort(bound))
	}
	if err != nil {
		_ = udp.Close() // it has not been used
		return socket{}, err
	}
	return socket{udp: udp, tcp: tcp, any: addr.Addr().IsUnspecified()}, nil
}
