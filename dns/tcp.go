package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// connInflight is how many queries of one connection may wait for upstreams; then no more are read from it.
const connInflight = 32

// acceptPause is how long accepting rests after a failure, which is most often that files run out.
const acceptPause = 50 * time.Millisecond

// serveTCP accepts connections until the listener is closed.
func (s *Server) serveTCP(ctx context.Context, l *net.TCPListener) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	slots := make(chan struct{}, s.cfg.MaxConns)
	errs := 0
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errs++; errs >= maxReadErrors || errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accept on %s: %w", l.Addr(), err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		errs = 0
		select {
		case slots <- struct{}{}:
		default:
			_ = conn.Close() // too many: the client sees it at once
			continue
		}
		conns.Go(func() {
			defer func() { <-slots }()
			s.serveConn(ctx, conn)
		})
	}
}

// stream is one connection. Answers leave in the order they are ready (RFC 7766 §6.2.1.1).
type stream struct {
	conn *net.TCPConn
	mu   sync.Mutex // serialises answers
	wg   sync.WaitGroup
	busy chan struct{}
}

// serveConn answers the queries of one connection until it is closed, idle for too long, broken, or ctx ends. The deadline
// counts for a whole query, so sending it byte by byte keeps nothing alive.
func (s *Server) serveConn(ctx context.Context, conn *net.TCPConn) {
	st := &stream{conn: conn, busy: make(chan struct{}, connInflight)}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() { _ = conn.Close() }() // ctx may have closed it
	defer stop()
	defer st.wg.Wait()
	var (
		src = addrPort(conn.RemoteAddr())
		buf = make([]byte, 0, minUDP)
		out = make([]byte, 0, minUDP)
		q   query
	)
	for {
		if conn.SetReadDeadline(time.Now().Add(s.cfg.IdleTimeout)) != nil {
			return
		}
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(size[:]))
		if n > cap(buf) {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		if _, err := io.ReadFull(conn, buf); err != nil {
			return
		}
		start := time.Now()
		answer, v, from := s.quick(append(out[:0], 0, 0), buf, &q, true)
		switch v {
		case ignored:
			return // whoever sends this speaks no DNS
		case answered:
			out = answer
			sent := st.send(answer, s.cfg.IdleTimeout)
			s.finish(served{q: &q, answer: answer[2:], client: src, tcp: true, from: from, took: time.Since(start)})
			if !sent {
				return
			}
		case forwarded:
			if !s.forwardTCP(ctx, st, buf, &q, src, start) {
				return
			}
		}
	}
}

// forwardTCP answers in a goroutine of its own. It returns false when the connection is of no more use.
func (s *Server) forwardTCP(ctx context.Context, st *stream, msg []byte, q *query, src netip.AddrPort, start time.Time) bool {
	if s.fwd.looped(src) {
		return false
	}
	select {
	case st.busy <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	if !s.acquire() {
		<-st.busy
		answer := appendEmpty([]byte{0, 0}, msg, q, rcodeServFail, edeOther)
		s.finish(served{q: q, answer: answer[2:], client: src, tcp: true, took: time.Since(start)})
		return st.send(answer, s.cfg.IdleTimeout)
	}
	own, msg := *q, append([]byte(nil), msg...)
	st.wg.Go(func() {
		defer func() { s.release(); <-st.busy }()
		answer := s.forward(ctx, []byte{0, 0}, msg, &own, true)
		if ctx.Err() != nil {
			return
		}
		st.send(answer, s.cfg.IdleTimeout)
		s.finish(served{q: &own, answer: answer[2:], client: src, tcp: true, from: fromUpstream, took: time.Since(start)})
	})
	return true
}

// send writes an answer that has room for its length in front, in one piece. After a failure the connection is closed, which
// also ends reading from it.
func (st *stream) send(frame []byte, timeout time.Duration) bool {
	binary.BigEndian.PutUint16(frame, uint16(len(frame)-2))
	st.mu.Lock()
	defer st.mu.Unlock()
	err := st.conn.SetWriteDeadline(time.Now().Add(timeout))
	if err == nil {
		_, err = st.conn.Write(frame)
	}
	if err != nil {
		_ = st.conn.Close()
	}
	return err == nil
}
