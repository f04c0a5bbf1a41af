package dns

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"
)

// lines collects the messages of a log.
type lines struct {
	mu   sync.Mutex
	all  []string
	hold chan struct{} // when not nil, writing waits for it
}

func (l *lines) Enabled(context.Context, slog.Level) bool { return true }
func (l *lines) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *lines) WithGroup(string) slog.Handler            { return l }

func (l *lines) Handle(_ context.Context, r slog.Record) error {
	if l.hold != nil {
		<-l.hold
	}
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, text)
	return nil
}

func (l *lines) matching(re string) (out []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if regexp.MustCompile(re).MatchString(line) {
			out = append(out, line)
		}
	}
	return out
}

func TestLinesOfTheQueryLog(t *testing.T) {
	client := netip.MustParseAddrPort("127.0.0.1:50759")
	for _, tt := range []struct {
		name   string
		msg    []byte
		answer string // flags
		line   logLine
		want   string
	}{
		{
			"as CoreDNS", wire(question("Example.org", mdns.TypeA).SetEdns0(4096, true)), "\x81\xa0",
			logLine{size: 68, took: 37990251},
			`127.0.0.1:50759 - 7 "A IN example.org. udp 40 true 4096" NOERROR qr,rd,ra,ad 68 0.037990251s`,
		},
		{
			"over tcp, unknown", wire(question("x.example", 65280)), "\x87\x83",
			logLine{size: 68, tcp: true, took: 1000},
			`127.0.0.1:50759 - 7 "TYPE65280 IN x.example. tcp 27 false 512" NXDOMAIN qr,aa,tc,rd,ra 68 0.000001000s`,
		},
		{
			"root", wire(question(".", mdns.TypeNS)), "\x80\x02",
			logLine{},
			`127.0.0.1:50759 - 7 "NS IN . udp 17 false 512" SERVFAIL qr 0 0.000000000s`,
		},
		{
			"a name that wants to be two lines", []byte("\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09a\n\" .\\b\x1b\xff\x00\x00\x01\x00\x01"), "\x80\x05",
			logLine{},
			`127.0.0.1:50759 - 7 "A IN a\010\"\032\.\\b\027\255. udp 27 false 512" REFUSED qr 0 0.000000000s`,
		},
		{
			"no question", []byte("\x00\x07\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"), "\x80\x01",
			logLine{size: 12},
			`127.0.0.1:50759 - 7 "- - - udp 12 false 512" FORMERR qr 12 0.000000000s`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			binary.BigEndian.PutUint16(tt.msg, 7)
			l := tt.line
			l.q.qtype = mdns.TypeMX // of the query before
			l.q.parse(tt.msg)
			l.q.size, l.client, l.flags = len(tt.msg), client, binary.BigEndian.Uint16([]byte(tt.answer))
			if got := string(l.append(nil)); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

// What is answered is logged, whoever knew, and all of it is written when Run returns.
func TestQueryLog(t *testing.T) {
	log := &lines{}
	s, err := New(Config{
		Listen: []netip.AddrPort{loopback0}, Upstreams: []netip.AddrPort{fake(t, nil).addr}, QueryLog: QueryLogAll, Log: slog.New(log),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	<-s.Ready()
	s.SetTable(NewTable(records(), DefaultTTL))
	for _, network := range []string{"udp", "tcp"} {
		for _, name := range []string{"v4only.mesh", "asked-over-" + network + ".example", "asked-over-" + network + ".example"} {
			ask(t, s, network, question(name, mdns.TypeA))
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for re, want := range map[string]int{
		`^127\.0\.0\.1:\d+ - \d+ "A IN v4only\.mesh\. udp 29 false 512" NOERROR qr,aa,rd,ra 45 0\.\d{9}s$`: 1,
		`^127\.0\.0\.1:\d+ - \d+ "A IN v4only\.mesh\. tcp 29 false 512" NOERROR qr,aa,rd,ra 45 0\.\d{9}s$`: 1,
		`"A IN asked-over-udp\.example\. udp 40 false 512" NOERROR qr,rd,ra `:                              2,
		`"A IN asked-over-tcp\.example\. tcp 40 false 512" NOERROR qr,rd,ra `:                              2,
	} {
		if got := log.matching(re); len(got) != want {
			t.Errorf("%d lines match %s, want %d; all:\n%s", len(got), re, want, strings.Join(log.all, "\n"))
		}
	}
}

// A log that is stuck costs lines, not answers, and no memory beyond its queue.
func TestStuckQueryLog(t *testing.T) {
	log := &lines{hold: make(chan struct{})}
	s, err := New(Config{Upstreams: []netip.AddrPort{dead(t)}, QueryLog: QueryLogAll, Log: slog.New(log)})
	if err != nil {
		t.Fatal(err)
	}
	stop := s.startLog()
	msg := wire(question("x.example", mdns.TypeA))
	q := parsed(t, msg)
	const n = 10_000
	allocs := testing.AllocsPerRun(n-1, func() { s.finish(served{q: q, answer: msg}) })
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	dropped := s.Status().QueryLog.Dropped
	if dropped < n-logQueue-1 || dropped >= n {
		t.Errorf("%d of %d dropped", dropped, n)
	}
	close(log.hold)
	stop()
	if got := len(log.all); uint64(got) != n-dropped {
		t.Errorf("%d lines written, %d of %d dropped", got, dropped, n)
	}
}

func TestSampleOfQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		s, err := New(Config{QueryLog: QueryLogSample, Log: slog.New(log)})
		if err != nil {
			t.Fatal(err)
		}
		stop := s.startLog()
		q := parsed(t, wire(question("x.example", mdns.TypeA)))
		for second := range 3 {
			for i := range 50 {
				s.finish(served{q: q, answer: make([]byte, 12), took: time.Duration(second*50 + i)})
			}
			synctest.Wait()
			<-time.After(time.Second)
		}
		stop()
		if got := len(log.matching("x.example")); got != 3*logSample {
			t.Errorf("%d lines, want %d a second for 3 seconds", got, logSample)
		}
		// Told before the next line, or at the end.
		if got := log.matching("left out"); len(got) < 3 {
			t.Errorf("left out: %v", got)
		}
		total := 0
		for _, l := range log.matching("left out") {
			var n int
			fmt.Sscanf(l, "queries left out of the log count=%d", &n)
			total += n
		}
		if total != 3*(50-logSample) {
			t.Errorf("%d left out, want %d", total, 3*(50-logSample))
		}
	})
}

func TestQueryLogByName(t *testing.T) {
	for _, l := range []QueryLog{QueryLogOff, QueryLogSample, QueryLogAll} {
		text, err := l.MarshalText()
		var got QueryLog
		if err != nil || got.UnmarshalText(text) != nil || got != l {
			t.Errorf("%v became %v", l, got)
		}
	}
	var l QueryLog
	if err := l.UnmarshalText([]byte("loud")); err == nil {
		t.Error("loud is none")
	}
}

// Whatever a record holds: its text is printable and one line.
func FuzzRecordTexts(f *testing.F) {
	f.Add([]byte("\x00\x00\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x01a\x00\x00\x10\x00\x01\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x05\x00\x04\x03\n\"\xff"), uint8(19))
	f.Add([]byte("\x00\x00\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x01a\x00\x00\x06\x00\x01\xc0\x0c\x00\x06\x00\x01\x00\x00\x00\x05\x00\x18\xc0\x0c\xc0\x0c\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x04\x00\x00\x00\x05"), uint8(19))
	f.Add(wire(answerA(question("x.example", mdns.TypeA), "192.0.2.1")), uint8(27))
	f.Fuzz(func(t *testing.T, resp []byte, end uint8) {
		if len(resp) < headerLen || int(end) < headerLen {
			return
		}
		for _, line := range recordTexts(resp, int(end)) {
			if i := bytes.IndexFunc([]byte(line), func(r rune) bool { return (r < ' ' && r != '\t') || r > '~' }); i >= 0 {
				t.Fatalf("%q holds %q", line, line[i])
			}
		}
	})
}
