package dns

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
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

// Trace resolves a name as for a client without EDNS, and tells how. Nothing is kept of it: the cache is looked at but not
// changed, and upstreams are asked even when a client waits for the same answer. Like a client it asks again over TCP after
// a truncated answer.
func (s *Server) Trace(ctx context.Context, name string, qtype uint16) Trace {
	start := time.Now()
	t := Trace{Name: name, Type: string(appendType(nil, qtype)), Steps: []TraceStep{}, Records: []string{}}
	msg, err := newQuery(name, qtype)
	if err != nil {
		t.Error = err.Error()
		return t
	}
	answer, end := s.trace(ctx, &t, msg, false)
	if len(answer) > 2 && answer[2]&(flagTC>>8) != 0 {
		answer, end = s.trace(ctx, &t, msg, true)
	}
	t.Code = rcodeName(int(answer[3] & rcodeMask))
	t.Records = append(t.Records, recordTexts(answer, end)...)
	t.TookMS = milliseconds(time.Since(start))
	return t
}

// trace goes the way of quick and forward, step by step.
func (s *Server) trace(ctx context.Context, t *Trace, msg []byte, tcp bool) (answer []byte, end int) {
	step := func(name, format string, args ...any) {
		t.Steps = append(t.Steps, TraceStep{Step: name, Result: fmt.Sprintf(format, args...)})
	}
	var q query
	answer, v := s.responder.respond(nil, msg, &q, tcp)
	table := s.Table()
	switch {
	case v == answered && table == nil && s.responder.held(q.name()):
		step("table", "not loaded yet: the name may be the mesh's, so no upstream is asked")
		return answer, q.end
	case v == answered && answer[3]&rcodeMask == rcodeRefused:
		step("table", "refused: type %s is not resolved", appendType(nil, q.qtype))
		return answer, q.end
	case v == answered:
		step("table", "%s", tableResult(&q, answer))
		return answer, q.end
	case table == nil:
		step("table", "not loaded yet")
	default:
		step("table", "not a name of the mesh")
	}
	if at := s.searched(q.name()); at > 0 {
		step("search", "%s is a name of the mesh, the rest a search domain", appendDotted(nil, append(q.name()[:at:at], 0)))
		return appendNoName(nil, msg, &q, at, table.ttl), q.end
	}
	if answer := s.traceCache(msg, &q, tcp, step); answer != nil {
		return answer, q.end
	}
	j := newJob(msg, &q, tcp)
	j.trace = &recorder{}
	resp, err := s.fwd.resolve(ctx, j)
	asked := j.trace.close()
	t.Steps = append(t.Steps, asked...)
	if err != nil {
		if len(asked) == 0 {
			step("upstream", "none is known or all are down")
		}
		return appendEmpty(nil, msg, &q, rcodeServFail, edeNone), q.end
	}
	if len(resp) > q.limit(tcp) {
		resp = appendCut(nil, msg, &q, resp)
	}
	return resp, q.end
}

func tableResult(q *query, answer []byte) string {
	switch {
	case binary.BigEndian.Uint16(answer[6:]) > 0 && q.qtype == typePTR:
		return "address of the mesh"
	case binary.BigEndian.Uint16(answer[6:]) > 0 || answer[2]&(flagTC>>8) != 0:
		return "name of the mesh"
	case answer[3]&rcodeMask == rcodeNXDomain:
		return "an address that only a mesh can have, and this one does not"
	}
	return "name of the mesh without records of this type"
}

// traceCache returns the answer that a client would get from the cache, nil when it would get none.
func (s *Server) traceCache(msg []byte, q *query, tcp bool, step func(string, string, ...any)) []byte {
	c := s.fwd.cache
	if c.room == 0 {
		return nil
	}
	var buf [keyMax]byte
	key, ok := cacheKey(&buf, msg, q)
	if !ok {
		step("cache", "answers to this type are not kept")
		return nil
	}
	now := time.Now()
	switch k := c.get(key, now, true); {
	case k == nil:
		step("cache", "no answer is kept")
	case !now.Before(k.expires):
		step("cache", "answer of %s ago is past its time: given only when no upstream answers", now.Sub(k.stored).Round(time.Second))
	default:
		step("cache", "answer of %s ago, good for %s more", now.Sub(k.stored).Round(time.Second), k.expires.Sub(now).Round(time.Second))
		return k.answerFor(nil, msg, q, tcp, now)
	}
	return nil
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
	r.steps = append(r.steps, TraceStep{Step: "upstream", Result: "no answer yet when another answered", Upstream: x.u.addr.String(), Proto: x.network()})
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
		s.Proto = "udp, then tcp"
	}
	switch {
	case resp != nil:
		s.Result = rcodeName(int(resp[3] & rcodeMask))
		if resp[2]&(flagTC>>8) != 0 {
			s.Result += ", truncated"
		}
	case err != nil:
		s.Result = err.Error()
	}
}

// close returns the steps. What comes later is nobody's.
func (r *recorder) close() []TraceStep {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.steps)
}
