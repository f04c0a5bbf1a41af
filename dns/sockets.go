package dns

import (
	"net"
	"net/netip"
	"sync"
)

// sockets knows the local addresses of the queries on their way to upstreams. A query that arrives from one of them is our
// own, coming back.
type sockets struct {
	mu      sync.Mutex
	open    map[netip.AddrPort]openSocket
	stopped bool
}

type openSocket struct {
	u    *upstream
	conn net.Conn
}

func (s *sockets) add(x *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[netip.AddrPort]openSocket{}
	}
	s.open[x.local] = openSocket{x.u, x.conn}
}

func (s *sockets) remove(local netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, local)
}

// from returns the upstream that a query from src came through, nil when the query is somebody else's.
func (s *sockets) from(src netip.AddrPort) *upstream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[src].u
}

// interrupt ends the queries on their way to u, as no answer can come; with u nil all of them, and later ones too.
func (s *sockets) interrupt(u *upstream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = s.stopped || u == nil
	for _, o := range s.open {
		if u == nil || o.u == u {
			interrupt(o.conn)
		}
	}
}

// interrupted says whether waiting for u is of no use.
func (s *sockets) interrupted(u *upstream) bool {
	if u.looped.Load() {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
