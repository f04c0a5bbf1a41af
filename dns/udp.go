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

// maxReadErrors is how many failures in a row mean that a socket is broken. Single ones happen: memory is short, a filter
// refused an answer.
const maxReadErrors = 100

// portDNS is where name servers answer from. What comes from there is an answer or forged: answering it makes loops between
// servers (contract dns.md §5.4).
const portDNS = 53

// serveUDP reads queries and answers those that the table can, until the socket is closed. Others get a goroutine.
func (s *Server) serveUDP(ctx context.Context, so socket) error {
	var (
		req  = make([]byte, maxUDP)
		out  = make([]byte, 0, maxUDP)
		oob  []byte
		q    query
		errs int
	)
	if so.any {
		oob = make([]byte, pktinfoSize)
	}
	for {
		n, oobn, _, src, err := so.udp.ReadMsgUDPAddrPort(req, oob)
		if err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // the end of ctx is no error
			}
			if errs++; errs >= maxReadErrors || errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("read from %s: %w", so.udp.LocalAddr(), err)
			}
			continue
		}
		errs = 0
		start := time.Now()
		if src.Port() == 0 || src.Port() == portDNS {
			continue
		}
		var control []byte
		if so.any {
			control = sourceControl(oob[:oobn])
		}
		answer, v, from := s.quick(out[:0], req[:n], &q, false)
		switch v {
		case answered:
			s.sendUDP(so.udp, answer, control, src)
			s.finish(served{q: &q, answer: answer, client: src, from: from, took: time.Since(start)})
		case forwarded:
			s.forwardUDP(ctx, so.udp, req[:n], &q, control, src, start)
		}
	}
}

// forwardUDP answers in a goroutine of its own. msg, q and control are the reader's: what outlives the call is copied.
func (s *Server) forwardUDP(ctx context.Context, conn *net.UDPConn, msg []byte, q *query, control []byte, src netip.AddrPort, start time.Time) {
	if s.fwd.looped(src) {
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
