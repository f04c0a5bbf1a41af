package dns

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
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
