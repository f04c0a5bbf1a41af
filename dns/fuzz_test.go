package dns

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// seeds are queries of every kind, and the classic ways to break them.
func seeds() [][]byte {
	var out [][]byte
	for _, q := range []struct {
		name  string
		qtype uint16
	}{
		{"backend.svc.mesh.local", mdns.TypeA},
		{"many.svc.mesh.local", mdns.TypeANY},
		{"x.example.com", mdns.TypeTXT},
		{"0.0.0.241.in-addr.arpa", mdns.TypePTR},
		{"1.2.3.255.in-addr.arpa", mdns.TypePTR},
		{strings.Repeat("0.", 32) + "ip6.arpa", mdns.TypePTR},
		{".", mdns.TypeNS},
	} {
		m := question(q.name, q.qtype)
		out = append(out, wire(m))
		m.SetEdns0(1232, true)
		m.IsEdns0().Option = append(m.IsEdns0().Option, &mdns.EDNS0_LOCAL{Code: 65001, Data: []byte("x")})
		out = append(out, wire(m))
	}
	header := func(counts ...byte) []byte {
		h := []byte{1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
		for i, c := range counts {
			h[5+2*i] = c
		}
		return h
	}
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	name := []byte("\x01a\x00\x00\x01\x00\x01")
	return append(out,
		nil, []byte("x"), header(), header(0), header(2),
		cat(header(), []byte("\xc0\x0c\x00\x01\x00\x01")),                                      // a name that points at itself
		cat(header(), []byte("\x40a\x00\x00\x01\x00\x01")),                                     // a label type that does not exist
		cat(header(), bytes.Repeat([]byte("\x3f"+strings.Repeat("a", 63)), 5), []byte("\x00")), // a name too long
		cat(header(), name, []byte("rest")),
		cat(header(1, 0, 0, 1), name), // a record that is not there
		cat(header(1, 0, 0, 1), name, []byte("\xc0\x0c\x00\x29\x10\x00\x00\x00\x00\x00\xff\xff")),
		cat(header(1, 0, 0, 1), name, []byte("\xc0\xff\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00")), // a pointer forward
		cat(header(1, 0, 0, 1), name, []byte("\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x03\x00\x01\x00")),
		cat(header(1, 0, 0, 2), name, bytes.Repeat([]byte("\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00"), 2)), // two OPT
		cat([]byte{0, 0, 0x81}, header()[3:], name),                                                            // a response
		bytes.Repeat([]byte{0xff}, 512),
	)
}

// Whatever comes in: no panic, no answer to what is no query, no answer larger than allowed, and what is answered reads
// well and belongs to the query.
func FuzzRespond(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s, false)
		f.Add(s, true)
	}
	var r responder
	table := NewTable(records(), DefaultTTL)
	f.Fuzz(func(t *testing.T, msg []byte, tcp bool) {
		r.table.Store(table)
		var q query
		out, v := r.respond(nil, msg, &q, tcp)
		switch v {
		case ignored:
			if len(out) > 0 {
				t.Fatal("answer to what was ignored")
			}
		case forwarded:
			checkForwarded(t, msg, &q)
		case answered:
			checkAnswer(t, msg, out, &q, tcp)
		}
	})
}

// The whole server over UDP: each packet gets its answer, or none, and the server goes on.
func FuzzAnswerOverUDP(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	s := startMesh(f, Config{})
	conn, err := net.Dial("udp", s.Addrs()[0].String())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { conn.Close() })
	after := question("v4only.mesh", mdns.TypeA)
	after.Id = 0xfffe
	afterwards := wire(after)
	f.Fuzz(func(t *testing.T, msg []byte) {
		msg = msg[:min(len(msg), 60_000)] // what a packet holds
		seen := msg[:min(len(msg), queryRoom)]
		var q query
		_, answerable := q.parse(seen)
		for _, m := range [][]byte{msg, afterwards} {
			if _, err := conn.Write(m); err != nil {
				t.Fatal(err)
			}
		}
		want := 1
		if answerable {
			want = 2
		}
		conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		buf, done := make([]byte, 65535), false
		for range want {
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("answer to %x: %v", msg, err)
			}
			if !done && n > headerLen && bytes.HasPrefix(buf[:n], afterwards[:2]) && buf[7] == 1 && bytes.Equal(buf[headerLen:len(afterwards)], afterwards[headerLen:]) {
				done = true
				continue
			}
			checkAnswer(t, seen, buf[:n], &q, false)
		}
		if !done {
			t.Fatalf("no answer after %x", msg)
		}
	})
}

// However a stream is cut into segments, the same queries come out of it, and nothing is kept of those that are done.
func FuzzInbox(f *testing.F) {
	f.Add([]byte("\x00\x01a\x00\x00\x00\x02bc\x00"), uint8(1))
	f.Add(append([]byte{8, 0}, make([]byte, 3000)...), uint8(200))
	f.Fuzz(func(t *testing.T, stream []byte, segment uint8) {
		var in inbox
		r := &segments{stream, int(segment) + 1}
		rest := stream
		for in.fill(r) {
			for msg, ok := in.next(); ok; msg, ok = in.next() {
				n := int(binary.BigEndian.Uint16(rest))
				if !bytes.Equal(msg, rest[2:2+n]) {
					t.Fatalf("got %x, want %x", msg, rest[2:2+n])
				}
				rest = rest[2+n:]
			}
		}
		if len(rest) == 0 && cap(in.buf) != streamRoom {
			t.Fatalf("%d bytes are kept", cap(in.buf))
		}
		if len(rest) >= 2 && len(rest) >= 2+int(binary.BigEndian.Uint16(rest)) {
			t.Fatalf("a whole query was not taken: %x", rest)
		}
	})
}

// segments reads like a connection whose peer sends so many bytes at a time.
type segments struct {
	rest []byte
	size int
}

func (s *segments) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.rest[:min(s.size, len(s.rest))])
	s.rest = s.rest[n:]
	return n, nil
}

// checkForwarded compares our reading of a query with another library's.
func checkForwarded(t *testing.T, msg []byte, q *query) {
	t.Helper()
	if q.end < headerLen+5 || q.end > len(msg) {
		t.Fatalf("question ends at %d of %d", q.end, len(msg))
	}
	m := new(mdns.Msg)
	if m.Unpack(msg) != nil {
		return // it looks into the data of records, which is not ours to judge
	}
	if m.Id != q.id || m.Question[0].Qtype != q.qtype || m.Question[0].Qclass != q.qclass {
		t.Fatalf("read %+v, want %v", q, m)
	}
	if opt := m.IsEdns0(); (opt != nil) != q.edns || (opt != nil && (opt.Do() != q.do || opt.Version() != q.version)) {
		t.Fatalf("read edns %v do %v version %d, want %v", q.edns, q.do, q.version, opt)
	}
}

func checkAnswer(t *testing.T, msg, out []byte, q *query, tcp bool) {
	t.Helper()
	if len(out) > q.limit(tcp) {
		t.Fatalf("%d bytes, allowed are %d", len(out), q.limit(tcp))
	}
	m := new(mdns.Msg)
	if err := m.Unpack(out); err != nil {
		t.Fatalf("answer %x: %v", out, err)
	}
	if !m.Response || !bytes.Equal(out[:2], msg[:2]) {
		t.Fatalf("answer %v to %x", m, msg)
	}
	if m.Rcode == rcodeFormErr && len(out) > len(msg) {
		t.Fatal("malformed query was amplified")
	}
	if len(m.Question) == 1 && !bytes.Equal(out[headerLen:q.end], msg[headerLen:q.end]) {
		t.Fatal("question was changed")
	}
}

// Whatever an upstream sends: no panic, and nothing is taken for an answer that does not repeat the question.
func FuzzUpstreamAnswer(f *testing.F) {
	req := question("example.com", mdns.TypeA)
	req.Id = 0x0102
	msg := wire(req)
	f.Add(wire(answerA(req, "192.0.2.1")))
	for _, s := range seeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, resp []byte) {
		if !answers(resp, [2]byte(msg), msg, len(msg)) {
			return
		}
		_ = wellFormed(resp, len(msg))
		var q query
		q.parse(msg)
		cut := appendCut(nil, msg, &q, resp)
		m := new(mdns.Msg)
		if err := m.Unpack(cut); err != nil || !m.Truncated || m.Question[0] != req.Question[0] {
			t.Fatalf("cut answer %x: %v, %v", cut, m, err)
		}
	})
}

// The whole server, over its sockets: it answers each malformed packet with FORMERR, NOTIMP or not at all, and afterwards
// a good one.
func TestMalformedPackets(t *testing.T) {
	s := startMesh(t, Config{Upstreams: []netip.AddrPort{dead(t)}})
	good := question("v4only.mesh", mdns.TypeA)
	for _, msg := range seeds() {
		for cut := range len(msg) {
			var q query
			if rcode, ok := q.parse(msg[:cut]); ok && rcode == rcodeOK {
				continue
			} else if !ok {
				sendOnly(t, s, msg[:cut])
				continue
			}
			resp := raw(t, s, msg[:cut])
			if code := resp[3] & rcodeMask; (code != rcodeFormErr && code != rcodeNotImp) || len(resp) > cut {
				t.Fatalf("%x: got %x", msg[:cut], resp)
			}
		}
	}
	for _, network := range []string{"udp", "tcp"} {
		if resp := ask(t, s, network, good); len(resp.Answer) != 1 {
			t.Errorf("afterwards over %s: got %v", network, resp)
		}
	}
}
