package dns

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	logQueue  = 256 // lines that may wait to be written
	logSample = 10  // lines each second
)

// QueryLog says which queries are written to the log.
type QueryLog uint8

// The query log is off unless asked for: names that a workload asks for are nobody else's business.
const (
	QueryLogOff    QueryLog = iota
	QueryLogSample          // some each second, and how many were left out
	QueryLogAll             // every one, as long as the log keeps up
)

var queryLogNames = []string{"off", "sample", "all"}

func (l QueryLog) String() string {
	if int(l) < len(queryLogNames) {
		return queryLogNames[l]
	}
	return fmt.Sprintf("QueryLog(%d)", uint8(l))
}

// MarshalText writes off, sample or all.
func (l QueryLog) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads off, sample or all.
func (l *QueryLog) UnmarshalText(text []byte) error {
	for i, name := range queryLogNames {
		if name == string(text) {
			*l = QueryLog(i)
			return nil
		}
	}
	return fmt.Errorf("query log %.32q: need off, sample or all", text)
}

// logLine is what a line of the query log tells. It is copied, as a query belongs to who reads it.
type logLine struct {
	q      query
	client netip.AddrPort
	flags  uint16 // of the answer
	size   int    // of the answer
	tcp    bool
	took   time.Duration
}

// queryLog writes lines off the path of queries, which never wait for it: what it cannot take is dropped and counted.
type queryLog struct {
	mode    QueryLog
	log     *slog.Logger
	m       *metrics
	lines   chan logLine
	dropped atomic.Uint64
	start   time.Time
	window  atomic.Int64 // the second that is counted, since start
	inside  atomic.Int64 // queries in it
	leftOut atomic.Int64 // by sampling, since the last line
}

// newQueryLog returns nil when queries are not logged.
func newQueryLog(cfg *Config, m *metrics) *queryLog {
	if cfg.QueryLog == QueryLogOff {
		return nil
	}
	return &queryLog{mode: cfg.QueryLog, log: cfg.Log, m: m, lines: make(chan logLine, logQueue), start: time.Now()}
}

// add notes an answer. It allocates nothing and does not wait.
func (l *queryLog) add(a *served) {
	if l == nil {
		return
	}
	if l.mode == QueryLogSample && !l.sampled() {
		l.leftOut.Add(1)
		return
	}
	line := logLine{
		q: *a.q, client: a.client, flags: uint16(a.answer[2])<<8 | uint16(a.answer[3]), size: len(a.answer), tcp: a.tcp, took: a.took,
	}
	select {
	case l.lines <- line:
	default:
		l.dropped.Add(1)
		l.m.logDropped.Inc()
	}
}

// sampled says whether a query is among the first of its second. Queries on the border of two may be miscounted.
func (l *queryLog) sampled() bool {
	second := int64(time.Since(l.start) / time.Second)
	if old := l.window.Load(); old != second && l.window.CompareAndSwap(old, second) {
		l.inside.Store(0)
	}
	return l.inside.Add(1) <= logSample
}

// run writes lines until stop is closed and nothing waits any more. Nothing may be added after that.
func (l *queryLog) run(stop <-chan struct{}) {
	buf := make([]byte, 0, 512)
	for {
		select {
		case line := <-l.lines:
			buf = l.write(buf, &line)
		case <-stop:
			if len(l.lines) == 0 {
				l.tellLeftOut()
				return
			}
		}
	}
}

func (l *queryLog) write(buf []byte, line *logLine) []byte {
	l.tellLeftOut()
	buf = line.append(buf[:0])
	l.log.Info(string(buf)) //nolint:sloglint // programs read the message
	return buf
}

func (l *queryLog) tellLeftOut() {
	if n := l.leftOut.Swap(0); n > 0 {
		l.log.Info("queries left out of the log", slog.Int64("count", n))
	}
}

// append writes a line in the form of CoreDNS's log plugin, which programs read (contract dns.md §4.9):
//
//	client:port - id "TYPE CLASS name. proto size do bufsize" RCODE flags rsize duration
func (l *logLine) append(b []byte) []byte {
	q := &l.q
	b = append(l.client.AppendTo(b), " - "...)
	b = append(strconv.AppendUint(b, uint64(q.id), 10), ` "`...)
	if q.end > 0 {
		b = append(appendType(b, q.qtype), ' ')
		b = append(appendClass(b, q.qclass), ' ')
		b = append(appendDotted(b, q.name()), ' ')
	} else {
		b = append(b, "- - - "...) // the question could not be read
	}
	if l.tcp {
		b = append(b, "tcp "...)
	} else {
		b = append(b, "udp "...)
	}
	b = append(strconv.AppendInt(b, int64(q.size), 10), ' ')
	b = append(strconv.AppendBool(b, q.do), ' ')
	b = append(strconv.AppendUint(b, uint64(q.udpSize), 10), `" `...)
	rcode := int(l.flags & rcodeMask)
	if q.version > 0 && rcode == rcodeOK {
		rcode = rcodeBadVers
	}
	b = append(append(b, rcodeName(rcode)...), ' ')
	for i, f := range [...]struct {
		bit  uint16
		name string
	}{{flagQR, "qr"}, {flagAA, "aa"}, {flagTC, "tc"}, {flagRD, "rd"}, {flagRA, "ra"}, {flagAD, "ad"}, {flagCD, "cd"}} {
		if l.flags&f.bit == 0 {
			continue
		}
		if i > 0 { // an answer has qr, which is the first
			b = append(b, ',')
		}
		b = append(b, f.name...)
	}
	b = append(strconv.AppendInt(append(b, ' '), int64(l.size), 10), ' ')
	return append(strconv.AppendFloat(b, l.took.Seconds(), 'f', 9, 64), 's')
}
