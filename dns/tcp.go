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

const (
	// streamRoom is how many bytes are read from a connection at once. Most queries have some dozens.
	streamRoom = 1 << 10
	// streamBatch is how many answers leave with one write.
	streamBatch = 8
)

// acceptPause is how long accepting rests after a failure, which is most often that files run out.
const acceptPause = 50 * time.Millisecond

// serveTCP accepts connections until the listener is closed.
func (s *Server) serveTCP(ctx context.Context, l *net.TCPListener, wildcard bool) error {
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
		if wildcard && !s.admits(addrPort(conn.RemoteAddr()).Addr(), addrPort(conn.LocalAddr()).Addr()) {
			_ = conn.Close()
			continue
		}
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
	conn    *net.TCPConn
	client  netip.AddrPort
	timeout time.Duration
	in      inbox
	queries [streamBatch]query
	pending []served // answers gathered
	out     []byte   // their bytes

	mu   sync.Mutex // serialises writing
	wg   sync.WaitGroup
	busy chan struct{}
}

// serveConn answers the queries of one connection until it is closed, idle for too long, broken, or ctx ends. The deadline
// counts for a whole query, so sending it byte by byte keeps nothing alive.
func (s *Server) serveConn(ctx context.Context, conn *net.TCPConn) {
	st := &stream{
		conn: conn, client: addrPort(conn.RemoteAddr()), timeout: s.cfg.IdleTimeout, busy: make(chan struct{}, connInflight),
		pending: make([]served, 0, streamBatch),
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() { _ = conn.Close() }() // ctx may have closed it
	defer stop()
	defer st.wg.Wait()
	for {
		if conn.SetReadDeadline(time.Now().Add(st.timeout)) != nil || !st.in.fill(conn) || !s.answerStream(ctx, st) {
			return
		}
	}
}

// answerStream answers all queries that have come whole, those that need no waiting with one write. It returns false when the
// connection is of no more use.
func (s *Server) answerStream(ctx context.Context, st *stream) bool {
	start := time.Now()
	for msg, ok := st.in.next(); ok; msg, ok = st.in.next() {
		q, at := &st.queries[len(st.pending)], len(st.out)
		out, v, from := s.quick(append(st.out, 0, 0), msg, q, true)
		switch v {
		case ignored: // whoever sends this speaks no DNS
			s.flushStream(st, start)
			return false
		case answered:
			st.out = out
			putLength(out[at:])
			st.pending = append(st.pending, served{q: q, answer: out[at+2:], client: st.client, tcp: true, from: from})
			if len(st.pending) == streamBatch || len(st.out) >= answersRoom {
				if !s.flushStream(st, start) {
					return false
				}
			}
		case forwarded: // it may have to wait for a token: nothing waits with it
			if !s.flushStream(st, start) || !s.forwardTCP(ctx, st, msg, q, start) {
				return false
			}
		}
	}
	return s.flushStream(st, start)
}

// flushStream sends the answers gathered. It returns false when the connection is of no more use.
func (s *Server) flushStream(st *stream, start time.Time) bool {
	if len(st.pending) == 0 {
		return true
	}
	sent := st.send(st.out)
	took := time.Since(start)
	for i := range st.pending {
		st.pending[i].took = took
		s.finish(st.pending[i])
	}
	st.pending, st.out = st.pending[:0], st.out[:0]
	if cap(st.out) > 4*streamRoom {
		st.out = nil // a large answer is rare, an open connection is not
	}
	return sent
}

// forwardTCP answers in a goroutine of its own. It returns false when the connection is of no more use.
func (s *Server) forwardTCP(ctx context.Context, st *stream, msg []byte, q *query, start time.Time) bool {
	if s.fwd.looped(st.client) {
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
		putLength(answer)
		s.finish(served{q: q, answer: answer[2:], client: st.client, tcp: true, took: time.Since(start)})
		return st.send(answer)
	}
	own, msg := *q, append([]byte(nil), msg...)
	st.wg.Go(func() {
		defer func() { s.release(); <-st.busy }()
		answer := s.forward(ctx, []byte{0, 0}, msg, &own, true)
		if ctx.Err() != nil {
			return
		}
		putLength(answer)
		st.send(answer)
		s.finish(served{q: &own, answer: answer[2:], client: st.client, tcp: true, from: fromUpstream, took: time.Since(start)})
	})
	return true
}

// putLength fills in the two bytes in front of an answer.
func putLength(frame []byte) { binary.BigEndian.PutUint16(frame, uint16(len(frame)-2)) }

// send writes answers, their lengths in front, in one piece. After a failure the connection is closed, which also ends reading
// from it.
func (st *stream) send(frames []byte) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	err := st.conn.SetWriteDeadline(time.Now().Add(st.timeout))
	if err == nil {
		_, err = st.conn.Write(frames)
	}
	if err != nil {
		_ = st.conn.Close()
	}
	return err == nil
}

// inbox is what has been read from a connection and not been taken yet.
type inbox struct {
	buf []byte
	at  int // where the next query begins
}

// next takes a query. It stays as it is until fill. There is none when not even one has come whole.
func (in *inbox) next() ([]byte, bool) {
	rest := in.buf[in.at:]
	if len(rest) < 2 {
		return nil, false
	}
	end := 2 + int(binary.BigEndian.Uint16(rest))
	if len(rest) < end {
		return nil, false
	}
	in.at += end
	return rest[2:end], true
}

// fill reads until a query has come whole. It returns false when none will.
func (in *inbox) fill(r io.Reader) bool {
	rest := in.buf[in.at:]
	if len(rest) == 0 && cap(in.buf) != streamRoom {
		in.buf = make([]byte, 0, streamRoom) // at first, and after a query longer than they are
	}
	in.buf, in.at = in.buf[:copy(in.buf[:len(rest)], rest)], 0
	for {
		need := 2
		if len(in.buf) >= 2 {
			need += int(binary.BigEndian.Uint16(in.buf))
		}
		if len(in.buf) >= need {
			return true
		}
		if need > cap(in.buf) {
			in.buf = append(make([]byte, 0, need), in.buf...)
		}
		n, err := r.Read(in.buf[len(in.buf):cap(in.buf)])
		if err != nil {
			return false
		}
		in.buf = in.buf[:len(in.buf)+n]
	}
}
