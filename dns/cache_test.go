package dns

import (
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
	before := liveHeap()
	c := newTestCache(t, Config{CacheBytes: limit})
	c.keep("hot.example", "192.0.2.1", 3600)
	for i := range 30_000 {
		c.keep(fmt.Sprintf("service-%d.namespace.svc.cluster.local", i), "", 30)
		if i%100 == 0 && c.ask(question("hot.example", mdns.TypeA)) == nil {
			t.Fatalf("after %d others a name that is asked for has gone", i)
		}
	}
	used := int(liveHeap() - before)
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

func liveHeap() int64 {
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
