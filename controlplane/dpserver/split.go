package dpserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// handshakes bounds the TLS handshakes under way: whoever opens connections and says nothing takes a place for
// ReadHeaderTimeout at most, and no memory beyond these.
const handshakes = 512

// preface is how every HTTP/2 connection begins.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// split takes connections of one port apart: those that chose HTTP/2 go to gRPC's own transport, which does keepalive
// and flow control much cheaper than gRPC inside of net/http; the others are plain HTTP/1.1. A client that offers both,
// as the HTTP client of a 2.9 agent does, is given HTTP/1.1; a gRPC client offers only h2, and Envoy h2 or nothing.
type split struct {
	listener net.Listener
	tls      *tls.Config
	timeout  time.Duration
	log      *slog.Logger
	places   chan struct{}
	plain    *queue
	grpc     *queue

	mu      sync.Mutex
	closed  bool
	pending map[net.Conn]struct{}
	wg      sync.WaitGroup
}

func newSplit(l net.Listener, conf *tls.Config, timeout time.Duration, log *slog.Logger) *split {
	conf.NextProtos = []string{"http/1.1", "h2"} // in the server's order of preference
	done := make(chan struct{})
	once := sync.OnceFunc(func() { close(done) })
	q := func() *queue {
		return &queue{conns: make(chan net.Conn), done: done, close: once, addr: l.Addr()}
	}
	return &split{
		listener: l, tls: conf, timeout: timeout, log: log, places: make(chan struct{}, handshakes),
		plain: q(), grpc: q(), pending: map[net.Conn]struct{}{},
	}
}

// run accepts until close, and waits for all handshakes.
func (s *split) run() error {
	defer s.wg.Wait()
	var wait time.Duration
	for {
		s.places <- struct{}{}
		c, err := s.listener.Accept()
		if err != nil {
			<-s.places
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			// Out of file descriptors: others will be closed. To spin would only make it worse.
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			s.log.Warn("could not accept a connection", "error", err, "again in", wait)
			select {
			case <-time.After(wait):
			case <-s.plain.done:
				return nil
			}
			continue
		}
		wait = 0
		if !s.add(c) {
			<-s.places
			_ = c.Close() // we are stopping
			continue
		}
		s.wg.Go(func() {
			defer func() { <-s.places }()
			s.dispatch(c)
		})
	}
}

func (s *split) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.pending[c] = struct{}{}
	}
	return !s.closed
}

func (s *split) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, c)
}

// close stops accepting and cuts the handshakes under way; connections already handed on are their servers' business.
func (s *split) close() {
	_ = s.listener.Close() // the only error is that it is closed
	s.plain.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.pending {
		_ = c.Close() // it is cut on purpose
	}
}

// dispatch makes the handshake and hands the connection to its server. It does not outlive timeout.
func (s *split) dispatch(raw net.Conn) {
	defer s.remove(raw)
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	_ = raw.SetDeadline(time.Now().Add(s.timeout)) // a connection that cannot take it fails at the first read
	c := tls.Server(raw, s.tls)
	if err := c.HandshakeContext(ctx); err != nil {
		s.refuse(raw, err)
		return
	}
	to, conn := s.plain, net.Conn(c)
	switch c.ConnectionState().NegotiatedProtocol {
	case "h2":
		to = s.grpc
	case "":
		head := make([]byte, len(preface))
		n, err := readPrefix(c, head)
		if err != nil {
			_ = c.Close() // nobody spoke
			return
		}
		conn = &peeked{Conn: c, head: head[:n]}
		if string(head[:n]) == preface {
			to = s.grpc
		}
	}
	_ = raw.SetDeadline(time.Time{})
	if !to.put(conn) {
		_ = conn.Close() // we are stopping
	}
}

// readPrefix reads until head is full or differs from the preface.
func readPrefix(r io.Reader, head []byte) (n int, err error) {
	for n < len(head) && bytes.HasPrefix([]byte(preface), head[:n]) {
		m, err := r.Read(head[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// refuse ends a failed handshake; to plain HTTP it says so, as Kuma does (contract controlplane.md §1.1).
func (s *split) refuse(raw net.Conn, err error) {
	if re, ok := errors.AsType[tls.RecordHeaderError](err); ok && re.Conn != nil && isHTTP(re.RecordHeader) {
		_, _ = io.WriteString(raw, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
	}
	s.log.Debug("tls handshake failed", "peer", raw.RemoteAddr(), "error", err)
	_ = raw.Close() // there is nothing to say
}

func isHTTP(head [5]byte) bool {
	switch string(head[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH":
		return true
	}
	return false
}

// peeked gives back what was read ahead.
type peeked struct {
	net.Conn
	head []byte
}

func (p *peeked) Read(b []byte) (int, error) {
	if len(p.head) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.head)
	p.head = p.head[n:]
	return n, nil
}

// queue is a net.Listener fed by split.
type queue struct {
	conns chan net.Conn
	done  chan struct{}
	close func()
	addr  net.Addr
}

func (q *queue) put(c net.Conn) bool {
	select {
	case q.conns <- c:
		return true
	case <-q.done:
		return false
	}
}

// Accept waits for a connection of this kind.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close ends both kinds: the port serves all or nothing.
func (q *queue) Close() error { q.close(); return nil }

// Addr is the address of the port.
func (q *queue) Addr() net.Addr { return q.addr }
