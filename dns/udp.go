package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

const (
	// maxReadErrors is how many failures in a row mean that a socket is broken. Single ones happen: memory is short, a
	// filter refused an answer.
	maxReadErrors = 100
	// portDNS is where name servers answer from. What comes from there is an answer or forged: answering it makes loops
	// between servers (contract dns.md §5.4).
	portDNS = 53
	// queryRoom is the longest query taken over UDP, a little more than we offer. A longer one is cut and so malformed.
	queryRoom = 1280
	// answersRoom is how many bytes of answers are gathered before they are sent.
	answersRoom = 4 * maxUDP
	// drainTime bounds answering what has arrived before the server stops.
	drainTime = time.Second
)

// reader is what one goroutine needs to answer the queries of one socket.
type reader struct {
	*batch
	conn     *net.UDPConn
	wildcard bool
	queries  [batchSize]query
	pending  []served // answers queued
	out      []byte   // their bytes, one after the other
}

func newReader(conn *net.UDPConn, wildcard bool) (*reader, error) {
	b, err := newBatch(conn, wildcard)
	if err != nil {
		return nil, err
	}
	return &reader{batch: b, conn: conn, wildcard: wildcard, pending: make([]served, 0, batchSize), out: make([]byte, 0, answersRoom)}, nil
}

// serveUDP reads queries and answers those that need no waiting, until ctx ends or the socket breaks. Others get a goroutine.
// What has arrived before the end of ctx is answered: a queue that is closed with its socket would be lost.
func (s *Server) serveUDP(ctx context.Context, conn *net.UDPConn, wildcard bool) error {
	r, err := newReader(conn, wildcard)
	if err != nil {
		return fmt.Errorf("read from %s: %w", conn.LocalAddr(), err)
	}
	defer s.drops.close(conn) // at once: the kernel then gives packets to the sockets that share the port
	defer context.AfterFunc(ctx, func() {
		_ = conn.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
		_ = conn.SetWriteDeadline(time.Now().Add(drainTime))
	})()
	for errs := 0; ; {
		n, err := r.receive()
		switch {
		case ctx.Err() != nil:
			s.answerBatch(ctx, r, n)
			s.drain(ctx, r)
			return nil
		case err == nil:
			errs = 0
			s.answerBatch(ctx, r, n)
		default:
			if errs++; errs >= maxReadErrors || errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("read from %s: %w", conn.LocalAddr(), err)
			}
		}
	}
}

// drain answers what is in the queue of a socket that is about to be closed.
func (s *Server) drain(ctx context.Context, r *reader) {
	for end := time.Now().Add(drainTime); time.Now().Before(end); {
		n, err := r.poll()
		if err != nil || n == 0 {
			return
		}
		s.answerBatch(ctx, r, n)
	}
}

// answerBatch answers n packets. The clock is read when they have come and when the answers have left, which is what all of
// them took.
func (s *Server) answerBatch(ctx context.Context, r *reader, n int) {
	start := time.Now()
	for i := range n {
		msg, src := r.packet(i)
		if src.Port() == 0 || src.Port() == portDNS || (r.wildcard && !s.admits(src.Addr(), r.destination(i))) {
			continue
		}
		if cap(r.out)-len(r.out) < maxUDP {
			s.flush(r, start)
		}
		q := &r.queries[i]
		answer, v, from := s.quick(r.out[len(r.out):], msg, q, false)
		switch v {
		case answered:
			r.queue(i, answer)
			r.out = r.out[:len(r.out)+len(answer)]
			r.pending = append(r.pending, served{q: q, answer: answer, client: src, from: from})
		case forwarded:
			s.forwardUDP(ctx, r.conn, msg, q, r.control(i), r.source(i), start)
		}
	}
	s.flush(r, start)
}

// flush sends the answers gathered.
func (s *Server) flush(r *reader, start time.Time) {
	if len(r.pending) == 0 {
		return
	}
	if err := r.batch.flush(); err != nil {
		s.cfg.Log.Debug("answer could not be sent", slog.Any("error", err)) // the client asks again
	}
	took := time.Since(start)
	for i := range r.pending {
		r.pending[i].took = took
		s.finish(r.pending[i])
	}
	r.pending, r.out = r.pending[:0], r.out[:0]
}

// forwardUDP answers in a goroutine of its own. msg, q and control are the reader's: what outlives the call is copied.
func (s *Server) forwardUDP(ctx context.Context, conn *net.UDPConn, msg []byte, q *query, control []byte, src netip.AddrPort, start time.Time) {
	if ctx.Err() != nil || s.fwd.looped(src) {
		return
	}
	if !s.acquire() {
		answer := appendEmpty(nil, msg, q, rcodeServFail, edeOther)
		s.sendUDP(conn, answer, control, src)
		s.finish(served{q: q, answer: answer, client: src, took: time.Since(start)})
		return
	}
	own, msg, control := *q, append([]byte(nil), msg...), append([]byte(nil), control...)
	s.tasks.Go(func() {
		defer s.release()
		answer := s.forward(ctx, nil, msg, &own, false)
		if ctx.Err() != nil {
			return
		}
		s.sendUDP(conn, answer, control, src)
		s.finish(served{q: &own, answer: answer, client: src, from: fromUpstream, took: time.Since(start)})
	})
}

func (s *Server) sendUDP(conn *net.UDPConn, answer, control []byte, dst netip.AddrPort) {
	if _, _, err := conn.WriteMsgUDPAddrPort(answer, control, dst); err != nil {
		// The client asks again, as it does for a packet lost on the way.
		s.cfg.Log.Debug("answer could not be sent", slog.String("client", dst.String()), slog.Any("error", err))
	}
}
