package dns

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Trace is how a name was resolved.
type Trace struct {
	Name    string      `json:"name"`
	Type    string      `json:"type"`
	Steps   []TraceStep `json:"steps"` // in the order they were taken
	Code    string      `json:"code"`  // NOERROR, NXDOMAIN, …; empty when the question cannot be asked
	Records []string    `json:"records"`
	TookMS  float64     `json:"tookMs"`
	Error   string      `json:"error,omitempty"` // why the question cannot be asked
}

// TraceStep is one place that was asked.
type TraceStep struct {
	Step     string  `json:"step"` // table, search, cache, or upstream
	Result   string  `json:"result"`
	Upstream string  `json:"upstream,omitempty"`
	Proto    string  `json:"proto,omitempty"`
	TookMS   float64 `json:"tookMs,omitempty"`
}

// Trace resolves a name as for a client without EDNS and tells how. The answer may come from the cache, but changes nothing
// in it, and upstreams are asked even when another client waits for the same answer.
func (s *Server) Trace(ctx context.Context, name string, qtype uint16) Trace {
	start := time.Now()
	t := Trace{Name: name, Type: string(appendType(nil, qtype)), Steps: []TraceStep{}, Records: []string{}}
	msg, err := newQuery(name, qtype)
	if err != nil {
		t.Error = err.Error()
		return t
	}
	var q query
	answer, v := s.responder.respond(nil, msg, &q, true)
	if v == answered {
		t.Steps = append(t.Steps, TraceStep{Step: "table", Result: "known"})
	} else {
		answer = s.forward(ctx, nil, msg, &q, true)
	}
	t.Code, t.Records = rcodeName(int(answer[3]&rcodeMask)), recordTexts(answer, q.end)
	t.TookMS = milliseconds(time.Since(start))
	return t
}

// newQuery makes the query that a resolver library sends.
func newQuery(name string, qtype uint16) ([]byte, error) {
	packed := "\x00"
	if strings.TrimSpace(name) != "." {
		var err error
		if packed, err = packName(strings.TrimSpace(name)); err != nil {
			return nil, fmt.Errorf("make query: %w", err)
		}
	}
	msg := make([]byte, headerLen, headerLen+len(packed)+4)
	_, _ = rand.Read(msg[:2]) // never fails
	msg[2], msg[5] = flagRD>>8, 1
	msg = append(msg, packed...)
	msg = binary.BigEndian.AppendUint16(msg, qtype)
	return binary.BigEndian.AppendUint16(msg, classIN), nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// recorder notes what upstreams say. A nil one does not.
type recorder struct {
	mu    sync.Mutex
	steps []TraceStep
}

// begin returns the number of the step.
func (r *recorder) begin(x *exchange) int {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = append(r.steps, TraceStep{Step: "upstream", Result: "no answer before another upstream's", Upstream: x.u.addr.String(), Proto: x.network()})
	return len(r.steps) - 1
}

func (r *recorder) end(x *exchange, took time.Duration, resp []byte, err error) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.steps[x.step]
	s.TookMS = milliseconds(took)
	if s.Proto != x.network() {
		s.Proto += ", " + x.network()
	}
	switch {
	case resp != nil:
		s.Result = rcodeName(int(resp[3] & rcodeMask))
	case err != nil:
		s.Result = err.Error()
	}
}
