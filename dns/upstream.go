package dns

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// How an upstream is judged. A lost packet is no reason to give a server up, two in a row without an answer between are; one
// that refuses packets is not there.
const (
	maxFailures  = 2
	probeFirst   = 500 * time.Millisecond
	probeLast    = 30 * time.Second
	probeTimeout = time.Second
)

// errRefused is an answer that says nothing about the name: another upstream may know.
var errRefused = errors.New("upstream cannot answer")

// errLoop means that the upstream sent our query back to us.
var errLoop = errors.New("query came back to the resolver")

// upstream is one server and what is known about it.
type upstream struct {
	addr   netip.AddrPort
	looped atomic.Bool // for good: until resolv.conf names other servers

	mu        sync.Mutex
	failures  int
	lastGood  time.Time
	down      bool
	probing   bool // somebody asks whether it is back
	lastProbe time.Time
	kick      chan struct{} // asks for a probe now
}

func newUpstream(addr netip.AddrPort) *upstream {
	return &upstream{addr: addr, kick: make(chan struct{}, 1)}
}

// usable says whether the upstream should be asked.
func (u *upstream) usable() bool {
	if u.looped.Load() {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.down
}

// good notes an answer, whatever it said. It returns whether the upstream had been down.
func (u *upstream) good() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	was := u.down
	u.failures, u.down, u.lastGood = 0, false, time.Now()
	return was
}

// failed notes that a query sent at start got no answer. It returns whether the upstream went down, and whether nobody is
// probing it yet. Silence does not count when another query was answered meanwhile: then the name is slow, not the server.
func (u *upstream) failed(start time.Time, err error) (wentDown, probe bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.down || u.lastGood.After(start) {
		return false, false
	}
	u.failures++
	if u.failures < maxFailures && !unreachable(err) {
		return false, false
	}
	probe = !u.probing
	u.down, u.probing, u.lastProbe = true, true, time.Now()
	return true, probe
}

// needsProbe says whether the one who probes has to go on.
func (u *upstream) needsProbe() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lastProbe = time.Now()
	u.probing = u.down && !u.looped.Load()
	return u.probing
}

// wake asks for a probe of a server that is down, unless there has just been one. So a client that waits for names to
// resolve again does not wait for the longest pause between probes.
func (u *upstream) wake() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.down && time.Since(u.lastProbe) >= probeFirst {
		select {
		case u.kick <- struct{}{}:
		default:
		}
	}
}

func unreachable(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) ||
		errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

// sockets knows the local addresses of the queries on their way to upstreams. A query that arrives from one of them is our
// own, coming back.
type sockets struct{ open sync.Map } // netip.AddrPort → openSocket

type openSocket struct {
	u    *upstream
	conn net.Conn
}

func (s *sockets) add(u *upstream, conn net.Conn) (remove func()) {
	local := addrPort(conn.LocalAddr())
	s.open.Store(local, openSocket{u, conn})
	return func() { s.open.Delete(local) }
}

// looped returns the upstream that a query from src came through, nil when the query is somebody else's. The query under
// way is ended, as no answer can come.
func (s *sockets) looped(src netip.AddrPort) *upstream {
	v, ok := s.open.Load(src)
	if !ok {
		return nil
	}
	o := v.(openSocket)
	o.u.looped.Store(true)
	_ = o.conn.SetDeadline(time.Unix(1, 0)) // fails only when closed already
	return o.u
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

// exchange sends a well-formed query whose question ends at end and returns the answer with the client's id. errRefused
// comes with the answer. A truncated answer over UDP is asked for again over TCP when retryTC is set.
func (u *upstream) exchange(ctx context.Context, s *sockets, msg []byte, end int, tcp, retryTC bool) ([]byte, error) {
	id := [2]byte{}
	_, _ = rand.Read(id[:]) // never fails
	req := append([]byte(nil), msg...)
	copy(req, id[:])
	network := "udp"
	if tcp {
		network = "tcp"
	}
	resp, err := u.roundTrip(ctx, s, network, req, end)
	if err == nil && !tcp && retryTC && resp[2]&(flagTC>>8) != 0 {
		// The cut answer is better than none.
		if whole, err := u.roundTrip(ctx, s, "tcp", req, end); err == nil {
			resp = whole
		}
	}
	if err != nil {
		if u.looped.Load() {
			err = errLoop
		}
		return nil, fmt.Errorf("ask %s over %s: %w", u.addr, network, err)
	}
	copy(resp, msg[:2])
	switch rcode := resp[3] & rcodeMask; {
	case rcode == rcodeServFail, rcode == rcodeRefused, rcode == rcodeNotImp:
		return resp, fmt.Errorf("ask %s over %s: %w: response code %d", u.addr, network, errRefused, rcode)
	case resp[2]&(flagTC>>8) == 0 && !wellFormed(resp, end):
		return nil, fmt.Errorf("ask %s over %s: answer is cut off", u.addr, network)
	}
	return resp, nil
}

// roundTrip opens a socket of its own for each query: a random port and a random id are what makes answers hard to forge.
func (u *upstream) roundTrip(ctx context.Context, s *sockets, network string, req []byte, end int) ([]byte, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, u.addr.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer s.add(u, conn)()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if network == "tcp" {
		return tcpRoundTrip(conn, req, end)
	}
	return udpRoundTrip(conn, req, end)
}

func udpRoundTrip(conn net.Conn, req []byte, end int) ([]byte, error) {
	if _, err := conn.Write(req); err != nil {
		return nil, err
	}
	// One byte more than the client can have asked for tells an answer that was cut by us from one that fits.
	buf := make([]byte, max(maxUDP, requestedSize(req, end))+1)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		resp := buf[:n]
		if !answers(resp, req, end) {
			continue // forged, or late for an earlier query: wait on for the true one
		}
		if n == len(buf) {
			resp[2] |= flagTC >> 8
		}
		return resp, nil
	}
}

// requestedSize is how large an answer the client has allowed.
func requestedSize(req []byte, end int) int {
	var q query
	if rcode, ok := q.parse(req); !ok || rcode != rcodeOK || q.end != end {
		return minUDP
	}
	return int(q.udpSize)
}

func tcpRoundTrip(conn net.Conn, req []byte, end int) ([]byte, error) {
	frame := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(req)), uint16(len(req)))
	if _, err := conn.Write(append(frame, req...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	resp := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, resp); err != nil {
		return nil, err
	}
	if !answers(resp, req, end) {
		return nil, errors.New("answer is for another question")
	}
	return resp, nil
}

// answers says whether resp can be the answer to req: a response with the same id and the same question, letter case
// included (contract dns.md §4.3). Servers that could not read a question may leave it out.
func answers(resp, req []byte, end int) bool {
	if len(resp) < headerLen || !bytes.Equal(resp[:2], req[:2]) {
		return false
	}
	flags := binary.BigEndian.Uint16(resp[2:])
	if flags&flagQR == 0 || flags&opcodeMask != 0 {
		return false
	}
	switch binary.BigEndian.Uint16(resp[4:]) {
	case 0:
		switch flags & rcodeMask {
		case rcodeFormErr, rcodeServFail, rcodeNotImp, rcodeRefused:
			return true
		}
		return false
	case 1:
		return len(resp) >= end && bytes.Equal(resp[headerLen:end], req[headerLen:end])
	}
	return false
}
