package mtls

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/agent/authn"
	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
)

const (
	// soon is the least time between reports when somebody new has come, and later when only numbers have grown.
	soon  = time.Second
	later = 15 * time.Second

	callTimeout = 10 * time.Second
	longestWait = time.Minute
)

// Run tells the control plane what has been counted, each time that it changes, until ctx ends. A control plane that takes no
// reports is asked again when it is there anew.
func (m *Monitor) Run(ctx context.Context) error {
	wait := soon
	told := ""
	for {
		select {
		case <-m.wake:
		case <-ctx.Done():
			return nil
		}
		drain(m.hurry)
		drain(m.anew)
		err := m.send(ctx)
		pause := soon
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end of ctx is no error
		case status.Code(err) == codes.Unimplemented: // Kuma's
			select {
			case <-m.anew:
			case <-ctx.Done():
				return nil
			}
			m.poke(true)
			wait, told = soon, ""
		case err != nil:
			level := slog.LevelWarn
			if c := status.Code(err); c == codes.Unavailable || c == codes.DeadlineExceeded {
				level = slog.LevelDebug // the relay tells that the control plane is away
			}
			if text := err.Error(); text != told {
				m.log.Log(ctx, level, "the control plane was not told of connections without mTLS", "reason", text)
				told = text
			}
			pause = wait/2 + rand.N(wait)
			wait = min(2*wait, longestWait)
			m.poke(true) // it is still to be told
		default:
			wait, told = soon, ""
		}
		if !m.rest(ctx, pause) {
			return nil
		}
	}
}

// rest waits for the pause, and then until there is news or numbers are old enough. It tells whether to go on.
func (m *Monitor) rest(ctx context.Context, pause time.Duration) bool {
	for _, w := range []struct {
		d     time.Duration
		hurry <-chan struct{}
	}{{pause, nil}, {later - pause, m.hurry}} {
		if w.d <= 0 {
			continue
		}
		timer := time.NewTimer(w.d)
		select {
		case <-timer.C:
		case <-w.hurry:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
	return true
}

func drain(c <-chan struct{}) {
	select {
	case <-c:
	default:
	}
}

// send makes a report that is small enough and sends it.
func (m *Monitor) send(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ctx, err := authn.Outgoing(ctx, m.cfg.Token, authn.NodeID, m.cfg.Node)
	if err != nil {
		return err
	}
	// Without Envoy's numbers the report still names who came without mTLS.
	counts, err := m.counts(ctx)
	if err != nil {
		m.log.Debug("report without envoy's numbers", "reason", err.Error())
	}
	body, err := m.fitting(counts)
	if err != nil {
		return err
	}
	return m.cfg.Conn.Invoke(ctx, "/"+mtlsreport.Service+"/"+mtlsreport.Method,
		wrapperspb.Bytes(body), &wrapperspb.BytesValue{}, grpc.WaitForReady(true))
}

// fitting is a report within its bounds: of too many peers the ones that matter least are left out.
func (m *Monitor) fitting(counts map[netip.AddrPort]mtlsreport.Count) (body []byte, err error) {
	for peers := mtlsreport.MaxPeers; peers > 0; peers /= 2 {
		report := m.report(counts, peers)
		report.Inbounds = report.Inbounds[:min(len(report.Inbounds), mtlsreport.MaxInbounds)]
		if body, err = report.Encode(); err != nil || len(body) <= mtlsreport.MaxBytes {
			break
		}
	}
	return body, err
}
