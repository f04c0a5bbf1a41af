package dns

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
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

// testCache is a cache with a way to fill and ask it by names.
type testCache struct {
	*cache
	t testing.TB
}

func newTestCache(t testing.TB, cfg Config) testCache {
	t.Helper()
	cfg.setDefaults()
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	return testCache{newCache(&cfg, m), t}
}

// keep puts the answer to an A query, "" being an unknown name.
func (c testCache) keep(name, ip string, ttl int) {
	req := question(name, mdns.TypeA)
	resp := new(mdns.Msg).SetReply(req)
	if ip == "" {
		resp.Rcode, resp.Ns = rcodeNXDomain, rrs(c.t, fmt.Sprintf(soa, ttl, ttl))
	} else {
		resp.Answer = rrs(c.t, fmt.Sprintf("%s %d IN A %s", mdns.Fqdn(name), ttl, ip))
	}
	c.put0(req, resp)
}

func (c testCache) put0(req, resp *mdns.Msg) {
	msg := wire(req)
	q := parsed(c.t, msg)
	var buf [keyMax]byte
	key, ok := cacheKey(&buf, msg, q)
	if !ok {
		c.t.Fatal("query has no key")
	}
	c.put(c.epoch.Load(), key, q, wire(resp))
}

func (c testCache) ask(req *mdns.Msg) *mdns.Msg {
	msg := wire(req)
	answer, ok := c.answer(nil, msg, parsed(c.t, msg), false)
	if !ok {
		return nil
	}
	m := new(mdns.Msg)
	if err := m.Unpack(answer); err != nil {
		c.t.Fatalf("%x: %v", answer, err)
	}
	return m
}

func TestTimeInTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(t, Config{})
		c.keep("x.example", "192.0.2.1", 10)
		c.keep("long.example", "192.0.2.1", 3600)
		c.keep("no.example", "", 3600)
		for _, tt := range []struct {
			after time.Duration
			want  [3]uint32 // TTL; 0: gone
		}{
			{0, [3]uint32{10, 3600, 3600}},
			{3500 * time.Millisecond, [3]uint32{7, 3597, 3597}},
			{6 * time.Second, [3]uint32{1, 3591, 3591}},
			{500 * time.Millisecond, [3]uint32{0, 3590, 3590}},
			{19999 * time.Millisecond, [3]uint32{0, 3571, 3571}},
			{time.Millisecond, [3]uint32{}},
		} {
			<-time.After(tt.after)
			for i, name := range []string{"x.example", "long.example", "no.example"} {
				resp, got := c.ask(question(name, mdns.TypeA)), uint32(0)
				if resp != nil {
					got = append(resp.Answer, resp.Ns...)[0].Header().Ttl
				}
				if got != tt.want[i] {
					t.Errorf("%v later: %s has TTL %d, want %d", tt.after, name, got, tt.want[i])
				}
			}
		}
		if got := c.status(); got.Entries != 0 || got.Bytes != 0 {
			t.Errorf("%+v remain", got)
		}
	})
}

func TestAnswerFromTheCacheFitsTheClient(t *testing.T) {
	c := newTestCache(t, Config{})
	req := question("x.example", mdns.TypeTXT).SetEdns0(4096, true)
	resp := new(mdns.Msg).SetReply(req)
	resp.Answer = rrs(t, slices.Repeat([]string{`x.example. 20 IN TXT "` + strings.Repeat("x", 250) + `"`}, 8)...)
	resp.SetEdns0(1232, true)
	c.put0(req, resp)
	for _, tt := range []struct {
		size uint16
		want int
		cut  bool
	}{{512, 0, true}, {1232, 0, true}, {4096, 8, false}} {
		req := question("x.example", mdns.TypeTXT).SetEdns0(tt.size, true)
		got := c.ask(req)
		if got.Id != req.Id || len(got.Answer) != tt.want || got.Truncated != tt.cut || got.IsEdns0() == nil {
			t.Errorf("client that takes %d: got %v", tt.size, got)
		}
	}
}

// What is asked for again stays, what is not goes; and the cache takes no more memory than it says.
func TestCacheIsBounded(t *testing.T) {
	const limit = 1 << 20
	before := heap()
	c := newTestCache(t, Config{CacheBytes: limit})
	c.keep("hot.example", "192.0.2.1", 3600)
	for i := range 30_000 {
		c.keep(fmt.Sprintf("service-%d.namespace.svc.cluster.local", i), "", 30)
		if i%100 == 0 && c.ask(question("hot.example", mdns.TypeA)) == nil {
			t.Fatalf("after %d others a name that is asked for has gone", i)
		}
	}
	used := int(heap() - before)
	st := c.status()
	if st.Bytes > limit || st.Bytes < limit*9/10 || st.Entries < 1000 || st.Evictions != uint64(30_001-st.Entries) {
		t.Errorf("status %+v", st)
	}
	if used > limit*5/4 {
		t.Errorf("%d bytes for what is said to be %d", used, st.Bytes)
	}
	c.flush()
	if st := c.status(); st.Entries != 0 || st.Bytes != 0 || c.ask(question("hot.example", mdns.TypeA)) != nil {
		t.Errorf("after a flush: %+v", st)
	}
	c.keep("hot.example", "192.0.2.1", 3600)
	if c.ask(question("hot.example", mdns.TypeA)) == nil {
		t.Error("nothing is kept after a flush")
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The queue stays whole whatever comes in which order.
func TestShardStaysConsistent(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	s := shard{entries: map[string]*kept{}}
	for range 20_000 {
		name := fmt.Sprint(rng.IntN(50))
		switch k := s.entries[name]; {
		case k == nil:
			s.add(&kept{key: name})
		case rng.IntN(3) == 0:
			s.remove(k)
		default:
			k.used = true
		}
		if len(s.entries) > 30 {
			s.evict()
		}
		n, size := 0, 0
		for k, older := s.oldest, (*kept)(nil); k != nil; k, older = k.newer, k {
			n, size = n+1, size+k.size()
			if k.older != older || s.entries[k.key] != k || (k.newer == nil) != (s.newest == k) {
				t.Fatal("the queue is broken")
			}
		}
		if n != len(s.entries) || size != s.bytes || (s.hand != nil && s.entries[s.hand.key] != s.hand) {
			t.Fatalf("queue of %d, %d bytes; map of %d, %d bytes", n, size, len(s.entries), s.bytes)
		}
	}
}

func TestFailureDoesNotReplaceAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTestCache(t, Config{ServeStale: time.Hour})
		c.keep("x.example", "192.0.2.1", 10)
		<-time.After(11 * time.Second)
		req := question("x.example", mdns.TypeA)
		c.put0(req, new(mdns.Msg).SetRcode(req, rcodeServFail))
		msg := wire(req)
		var buf [keyMax]byte
		key, _ := cacheKey(&buf, msg, parsed(t, msg))
		if k := c.get(key, time.Now(), false); k == nil || k.failure {
			t.Errorf("got %+v", k)
		}
		if c.ask(req) != nil {
			t.Error("an answer past its time was given at once")
		}
	})
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

func TestAnswersFromTheCacheOverTheNetwork(t *testing.T) {
	up := fake(t, func(_ string, req *mdns.Msg, reply func([]byte)) {
		m := answerA(req, "192.0.2.1")
		m.Compress = true
		reply(wire(m))
	})
	s := startMesh(t, Config{Upstreams: []netip.AddrPort{up.addr}})
	first := ask(t, s, "udp", question("example.com", mdns.TypeA))
	for i, network := range []string{"udp", "tcp", "udp"} {
		req := question("eXample.COM", mdns.TypeA)
		got := ask(t, s, network, req)
		if got.Id != req.Id || got.Question[0] != req.Question[0] || got.Answer[0].Header().Name != "eXample.COM." || data(got)[0] != data(first)[0] {
			t.Errorf("query %d over %s: got %v", i, network, got)
		}
	}
	if n := up.queries.Load(); n != 1 {
		t.Errorf("the upstream was asked %d times", n)
	}
	st := s.Status().Cache
	if st.Hits != 3 || st.Misses != 1 || st.Entries != 1 {
		t.Errorf("status %+v", st)
	}
	// A name that enters the table is the table's from then on.
	s.SetTable(NewTable([]Record{{"example.com", addrs("241.0.0.1")}}, DefaultTTL))
	if got := data(ask(t, s, "udp", question("example.com", mdns.TypeA))); !slices.Equal(got, []string{"241.0.0.1"}) {
		t.Errorf("in the table: got %v", got)
	}
	s.SetTable(NewTable(nil, DefaultTTL))
	// Other upstreams know other names.
	other := fake(t, func(_ string, req *mdns.Msg, reply func([]byte)) { reply(wire(answerA(req, "192.0.2.2"))) })
	s.fwd.use(s.fwd.ctx, resolvConf{servers: []netip.AddrPort{other.addr}})
	if got := data(ask(t, s, "udp", question("example.com", mdns.TypeA))); !slices.Equal(got, []string{"192.0.2.2"}) {
		t.Errorf("after a change of upstreams: got %v", got)
	}
}

// An answer that comes from upstreams which are not ours any more is given to who asked, and to nobody else.
func TestLateAnswerIsNotKept(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	up := fake(t, func(_ string, req *mdns.Msg, reply func([]byte)) {
		arrived <- struct{}{}
		<-release
		reply(wire(answerA(req, "192.0.2.1")))
	})
	s := startMesh(t, Config{Upstreams: []netip.AddrPort{up.addr}, AttemptTimeout: 4 * time.Second})
	done := make(chan []string)
	go func() { done <- data(ask(t, s, "udp", question("example.com", mdns.TypeA))) }()
	<-arrived
	s.fwd.use(s.fwd.ctx, resolvConf{servers: []netip.AddrPort{dead(t)}})
	close(release)
	if got := <-done; !slices.Equal(got, []string{"192.0.2.1"}) {
		t.Errorf("got %v", got)
	}
	if st := s.Status().Cache; st.Entries != 0 {
		t.Errorf("kept: %+v", st)
	}
}

func TestQuickAllocatesNothing(t *testing.T) {
	s, err := New(Config{Upstreams: []netip.AddrPort{dead(t)}, SearchDomains: true})
	if err != nil {
		t.Fatal(err)
	}
	s.SetTable(NewTable(records(), DefaultTTL))
	s.fwd.ctx = t.Context()
	s.fwd.use(t.Context(), resolvConf{search: []string{"\x04corp\x07example\x00"}})
	c := testCache{s.fwd.cache, t}
	c.keep("kept.example", "192.0.2.1", 30)
	out := make([]byte, 0, maxUDP)
	for _, tt := range []struct {
		name string
		want verdict
		from origin
	}{
		{"kept.example", answered, fromCache},
		{"other.example", forwarded, fromUpstream},
		{"v4only.mesh.corp.example", answered, fromTable},
		{"v4only.mesh", answered, fromTable},
	} {
		msg := wire(question(tt.name, mdns.TypeA))
		var q query
		if _, v, from := s.quick(out, msg, &q, false); v != tt.want || from != tt.from {
			t.Errorf("%s: got %v from %v", tt.name, v, from)
		}
		if n := testing.AllocsPerRun(100, func() {
			answer, v, from := s.quick(out, msg, &q, false)
			if v == answered {
				s.finish(served{q: &q, answer: answer, from: from})
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", tt.name, n)
		}
	}
}

func TestConcurrentCache(t *testing.T) {
	c := newTestCache(t, Config{CacheBytes: 64 << 10})
	ctx, cancel := context.WithCancel(t.Context())
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		for ctx.Err() == nil {
			c.flush()
			runtime.Gosched()
		}
	}()
	done := make(chan struct{})
	for n := range 3 {
		go func() {
			for i := range 2000 {
				name := fmt.Sprintf("n%d.example", (n+i)%300)
				c.keep(name, "192.0.2.1", 30)
				if got := c.ask(question(name, mdns.TypeA)); got != nil && got.Question[0].Name != name+"." {
					t.Errorf("asked for %s, got %v", name, got)
				}
			}
			done <- struct{}{}
		}()
	}
	for range 3 {
		<-done
	}
	cancel()
	<-flushed
}
