package dns

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// rrs reads records in the form of master files.
func rrs(t testing.TB, lines ...string) []mdns.RR {
	t.Helper()
	var out []mdns.RR
	for _, l := range lines {
		rr, err := mdns.NewRR(l)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rr)
	}
	return out
}

const soa = "example. %d IN SOA a. b. 1 2 3 4 %d"

// parsed reads a query that must be well-formed.
func parsed(t testing.TB, msg []byte) *query {
	t.Helper()
	q := new(query)
	if rcode, ok := q.parse(msg); !ok || rcode != rcodeOK {
		t.Fatalf("query %x: code %d", msg, rcode)
	}
	return q
}

func TestWhatIsKept(t *testing.T) {
	for _, tt := range []struct {
		name  string
		qtype uint16 // default A
		code  int
		an    []string
		ns    []string
		ar    []string
		edns  bool // of the query and, with ext, of the answer
		ext   int  // extended response code
		opts  bool
		tc    bool
		tail  string
		want  time.Duration // 0: not kept
	}{
		{name: "least TTL of all records", an: []string{"x.example. 20 IN A 192.0.2.1", "x.example. 9 IN A 192.0.2.2"}, ar: []string{"y.example. 11 IN A 192.0.2.3"}, want: 9 * time.Second},
		{name: "not longer than configured", an: []string{"x.example. 86400 IN A 192.0.2.1"}, want: 25 * time.Second},
		{name: "TTL 0", an: []string{"x.example. 0 IN A 192.0.2.1"}},
		{name: "TTL too large", an: []string{"x.example. 2147483648 IN A 192.0.2.1"}},
		{name: "alias and address", an: []string{"x.example. 20 IN CNAME y.example.", "y.example. 10 IN A 192.0.2.1"}, want: 10 * time.Second},
		{name: "alias that leads nowhere", an: []string{"x.example. 20 IN CNAME y.example."}},
		{name: "alias that was asked for", qtype: mdns.TypeCNAME, an: []string{"x.example. 20 IN CNAME y.example."}, want: 20 * time.Second},
		{name: "alias to a name without data", an: []string{"x.example. 20 IN CNAME y.example."}, ns: []string{fmt.Sprintf(soa, 60, 7)}, want: 7 * time.Second},
		{name: "unknown name, for the minimum", code: rcodeNXDomain, ns: []string{fmt.Sprintf(soa, 60, 5)}, want: 5 * time.Second},
		{name: "unknown name, for the TTL", code: rcodeNXDomain, ns: []string{fmt.Sprintf(soa, 4, 60)}, want: 4 * time.Second},
		{name: "unknown name without an SOA", code: rcodeNXDomain},
		{name: "no data", ns: []string{fmt.Sprintf(soa, 60, 6)}, want: 6 * time.Second},
		{name: "no data without an SOA"},
		{name: "referral", ns: []string{"example. 60 IN NS a.example."}},
		{name: "SERVFAIL", code: rcodeServFail, want: time.Second},
		{name: "REFUSED", code: rcodeRefused, want: time.Second},
		{name: "NOTIMP", code: rcodeNotImp},
		{name: "truncated", an: []string{"x.example. 20 IN A 192.0.2.1"}, tc: true},
		{name: "more than the header says", an: []string{"x.example. 20 IN A 192.0.2.1"}, tail: "x"},
		{name: "larger than may be kept", qtype: mdns.TypeTXT, an: slices.Repeat([]string{`x.example. 20 IN TXT "` + strings.Repeat("x", 250) + `"`}, 20)},
		{name: "EDNS", an: []string{"x.example. 20 IN A 192.0.2.1"}, edns: true, want: 20 * time.Second},
		{name: "EDNS with options", an: []string{"x.example. 20 IN A 192.0.2.1"}, edns: true, opts: true, want: 20 * time.Second},
		{name: "code that does not fit the header", edns: true, ext: mdns.RcodeBadVers, an: []string{"x.example. 20 IN A 192.0.2.1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			or(&tt.qtype, mdns.TypeA)
			req := question("x.example", tt.qtype)
			resp := new(mdns.Msg).SetRcode(req, tt.code)
			resp.Truncated, resp.Compress = tt.tc, true
			resp.Answer, resp.Ns, resp.Extra = rrs(t, tt.an...), rrs(t, tt.ns...), rrs(t, tt.ar...)
			if tt.edns {
				req.SetEdns0(1232, false)
				resp.SetEdns0(1400, false)
				if tt.opts {
					resp.IsEdns0().Option = []mdns.EDNS0{&mdns.EDNS0_COOKIE{Code: mdns.EDNS0COOKIE, Cookie: "0123456789abcdef"}}
				}
				resp.Rcode += tt.ext
			}
			msg, w := wire(req), append(wire(resp), tt.tail...)
			answer, ttl, ok := keepable(w, parsed(t, msg))
			if ttl = min(ttl, 25*time.Second); ok != (tt.want > 0) || ttl != tt.want {
				t.Fatalf("kept %v for %v, want %v", ok, ttl, tt.want)
			}
			if !ok {
				return
			}
			if tt.opts {
				resp.IsEdns0().Option = nil
				w = wire(resp)
			}
			if !bytes.Equal(answer[2:], w[2:]) {
				t.Errorf("kept\n%x of\n%x", answer, w)
			}
		})
	}
}

// What tells answers apart is in the key, and queries whose answer may be theirs alone have none.
func TestCacheKeys(t *testing.T) {
	seen := map[string]string{}
	for _, tt := range []struct {
		name   string
		change func(*mdns.Msg)
		want   string // whose key it shares; none: "no"
	}{
		{"plain", func(*mdns.Msg) {}, ""},
		{"id", func(m *mdns.Msg) { m.Id++ }, "plain"},
		{"letter case", func(m *mdns.Msg) { m.Question[0].Name = "X.eXample." }, "plain"},
		{"name", func(m *mdns.Msg) { m.Question[0].Name = "y.example." }, ""},
		{"type", func(m *mdns.Msg) { m.Question[0].Qtype = mdns.TypeCAA }, ""},
		{"cd", func(m *mdns.Msg) { m.CheckingDisabled = true }, ""},
		{"ad", func(m *mdns.Msg) { m.AuthenticatedData = true }, ""},
		{"edns", func(m *mdns.Msg) { m.SetEdns0(1232, false) }, ""},
		{"size", func(m *mdns.Msg) { m.SetEdns0(4096, false) }, "edns"},
		{"do", func(m *mdns.Msg) { m.SetEdns0(1232, true) }, ""},
		{"cookie", func(m *mdns.Msg) {
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []mdns.EDNS0{&mdns.EDNS0_COOKIE{Code: mdns.EDNS0COOKIE, Cookie: "0123456789abcdef"}}
		}, "edns"},
		{"subnet", func(m *mdns.Msg) {
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []mdns.EDNS0{&mdns.EDNS0_SUBNET{Code: mdns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{192, 0, 2, 0}}}
		}, "no"},
		{"not recursive", func(m *mdns.Msg) { m.RecursionDesired = false }, "no"},
		{"reserved bit", func(m *mdns.Msg) { m.Zero = true }, "no"},
		{"signed", func(m *mdns.Msg) { m.SetTsig("key.", mdns.HmacSHA256, 300, 1) }, "no"},
		{"answer section", func(m *mdns.Msg) { m.Answer = rrs(t, "x.example. 1 IN A 192.0.2.1") }, "no"},
		{"transfer", func(m *mdns.Msg) { m.Question[0].Qtype = mdns.TypeIXFR }, "no"},
		{"other class", func(m *mdns.Msg) { m.Question[0].Qclass = mdns.ClassCHAOS }, "no"},
	} {
		m := question("x.example", mdns.TypeA)
		tt.change(m)
		msg := wire(m)
		var buf [keyMax]byte
		key, ok := cacheKey(&buf, msg, parsed(t, msg))
		got := seen[string(key)]
		if !ok {
			got = "no"
		}
		if got != tt.want {
			t.Errorf("%s: shares the key of %q, want %q", tt.name, got, tt.want)
		}
		if ok && got == "" {
			seen[string(key)] = tt.name
		}
	}
}

// For any answer that is kept: a client gets what it would have got from the upstream, except for id, spelling and TTLs.
func TestKeptAnswersAreTheForwardedOnes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	n := 0
	for range 3000 {
		msg, resp := randomExchange(t, rng)
		q := parsed(t, msg)
		answer, ttl, ok := keepable(resp, q)
		if !ok {
			continue
		}
		n++
		age := time.Duration(rng.IntN(int(ttl)))
		k := &kept{answer: answer, stored: epoch0, expires: epoch0.Add(ttl)}
		got := k.answerFor(nil, msg, q, true, epoch0.Add(age))
		var a, b mdns.Msg
		if err := a.Unpack(resp); err != nil {
			t.Fatal(err)
		}
		if err := b.Unpack(got); err != nil {
			t.Fatalf("%x: %v", got, err)
		}
		if !bytes.Equal(got[:2], msg[:2]) || !bytes.Equal(got[headerLen:q.end], msg[headerLen:q.end]) {
			t.Fatalf("id or question are not those of the client: %x to %x", got, msg)
		}
		a.Id = b.Id
		for _, s := range [][2][]mdns.RR{{a.Answer, b.Answer}, {a.Ns, b.Ns}, {a.Extra, b.Extra}} {
			for i, rr := range s[0] {
				if opt, ok := rr.(*mdns.OPT); ok {
					opt.Option = nil
					continue
				}
				want := rr.Header().Ttl - uint32(age/time.Second)
				if left := s[1][i].Header().Ttl; left != want {
					t.Fatalf("after %v a TTL of %d became %d, want %d", age, rr.Header().Ttl, left, want)
				}
				rr.Header().Ttl = want
			}
		}
		if a.String() != b.String() {
			t.Fatalf("got\n%v\nwant\n%v", &b, &a)
		}
	}
	if n < 1000 {
		t.Errorf("only %d of 3000 answers were kept", n)
	}
}

var epoch0 = time.Unix(1_000_000_000, 0)

func randomExchange(t testing.TB, rng *rand.Rand) (msg, resp []byte) {
	t.Helper()
	name := fmt.Sprintf("n%d.example.", rng.IntN(100))
	req := question(name, []uint16{mdns.TypeA, mdns.TypeAAAA, mdns.TypeTXT, mdns.TypeHTTPS, mdns.TypeSRV}[rng.IntN(5)])
	m := new(mdns.Msg).SetReply(req)
	m.Compress, m.RecursionAvailable, m.AuthenticatedData = rng.IntN(3) > 0, true, rng.IntN(2) == 0
	ttl := func() int { return 1 + rng.IntN(100) }
	lines := func(n int) (out []string) {
		for range n {
			switch rng.IntN(6) {
			case 0:
				out = append(out, fmt.Sprintf("%s %d IN CNAME other.%s", name, ttl(), name))
			case 1:
				out = append(out, fmt.Sprintf("other.%s %d IN A 192.0.2.%d", name, ttl(), rng.IntN(256)))
			case 2:
				out = append(out, fmt.Sprintf("%s %d IN TXT \"text\" \"%s\"", name, ttl(), strings.Repeat("y", rng.IntN(200))))
			case 3:
				out = append(out, fmt.Sprintf("%s %d IN HTTPS 1 . alpn=h2", name, ttl()))
			case 4:
				out = append(out, fmt.Sprintf("%s %d IN AAAA 2001:db8::%x", name, ttl(), rng.IntN(65536)))
			case 5:
				out = append(out, fmt.Sprintf("%s %d IN SRV 1 2 3 other.%s", name, ttl(), name))
			}
		}
		return out
	}
	m.Answer = rrs(t, lines(rng.IntN(4))...)
	if rng.IntN(2) == 0 {
		m.Ns = rrs(t, fmt.Sprintf(soa, ttl(), ttl()))
		m.Rcode = []int{rcodeOK, rcodeNXDomain}[rng.IntN(2)]
	}
	m.Extra = rrs(t, lines(rng.IntN(2))...)
	if rng.IntN(2) == 0 {
		req.SetEdns0(uint16(512+rng.IntN(2000)), rng.IntN(2) == 0)
		m.SetEdns0(1400, rng.IntN(2) == 0)
		if rng.IntN(2) == 0 {
			m.IsEdns0().Option = []mdns.EDNS0{&mdns.EDNS0_EDE{InfoCode: 3}}
		}
	}
	return wire(req), wire(m)
}

// FuzzKeep: whatever an upstream sends, what is kept of it can be given to any client.
func FuzzKeep(f *testing.F) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		msg, resp := randomExchange(f, rng)
		f.Add(msg, resp, uint16(rng.IntN(100)))
	}
	for _, s := range seeds() {
		f.Add(s, s, uint16(1))
	}
	f.Fuzz(func(t *testing.T, msg, resp []byte, age uint16) {
		var q query
		if rcode, ok := q.parse(msg); !ok || rcode != rcodeOK {
			return
		}
		var buf [keyMax]byte
		if _, ok := cacheKey(&buf, msg, &q); !ok || len(resp) < 2 || !answers(resp, [2]byte(resp), msg, q.end) {
			return
		}
		answer, ttl, ok := keepable(resp, &q)
		if !ok {
			return
		}
		if ttl <= 0 || len(answer) > len(resp) || !wellFormed(answer, q.end) {
			t.Fatalf("kept %x for %v", answer, ttl)
		}
		k := &kept{answer: answer, stored: epoch0, expires: epoch0.Add(ttl)}
		for _, tcp := range []bool{false, true} {
			got := k.answerFor(nil, msg, &q, tcp, epoch0.Add(time.Duration(age)*time.Second))
			if len(got) > q.limit(tcp) || !bytes.Equal(got[:2], msg[:2]) || !bytes.Equal(got[headerLen:q.end], msg[headerLen:q.end]) || !wellFormed(got, q.end) {
				t.Fatalf("to %x: got %x", msg, got)
			}
			recordTexts(got, q.end)
		}
	})
}
