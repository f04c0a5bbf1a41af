package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// gate is an upstream that answers when it is told to.
type gate struct {
	*fakeUpstream
	arrived chan string
	release chan struct{}
}

func newGate(t testing.TB, ip string) gate {
	t.Helper()
	g := gate{arrived: make(chan string, 100), release: make(chan struct{})}
	g.fakeUpstream = fake(t, func(_ string, req *mdns.Msg, reply func([]byte)) {
		g.arrived <- req.Question[0].Name
		<-g.release
		m := answerA(req, ip)
		m.Compress = true
		reply(wire(m))
	})
	return g
}

// patient bounds nothing that a test waits for.
func patient(up netip.AddrPort) Config {
	return Config{Upstreams: []netip.AddrPort{up}, HedgeDelay: 10 * time.Second, AttemptTimeout: 10 * time.Second, QueryTimeout: 10 * time.Second}
}

// Equal queries make one question. Each client gets its own id and spelling; other questions are asked apart.
func TestEqualQueriesShareAQuestion(t *testing.T) {
	up := newGate(t, "192.0.2.1")
	s := startMesh(t, patient(up.addr))
	var clients sync.WaitGroup
	send := func(network, name string, change func(*mdns.Msg)) {
		req := question(name, mdns.TypeA)
		if change != nil {
			change(req)
		}
		clients.Go(func() {
			resp := ask(t, s, network, req)
			if resp.Id != req.Id || resp.Question[0] != req.Question[0] || len(resp.Answer) != 1 || resp.Answer[0].Header().Name != req.Question[0].Name {
				t.Errorf("asked %v, got %v", req, resp)
			}
		})
	}
	send("udp", "example.com", nil)
	<-up.arrived
	for _, name := range []string{"example.com", "EXAMPLE.com", "example.COM", "eXaMpLe.CoM"} {
		for range 20 {
			send("udp", name, nil)
		}
	}
	waitFor(t, func() bool { return len(s.inflight) == 81 && s.Status().Shared == 80 })
	send("tcp", "example.com", nil)
	<-up.arrived
	send("udp", "example.com", func(m *mdns.Msg) { m.SetEdns0(1232, false) })
	<-up.arrived
	send("udp", "other.example", nil)
	<-up.arrived
	close(up.release)
	clients.Wait()
	if n := up.queries.Load(); n != 4 {
		t.Errorf("the upstream was asked %d times, want 4", n)
	}
	s.fwd.flights.mu.Lock()
	defer s.fwd.flights.mu.Unlock()
	if n := len(s.fwd.flights.under); n != 0 {
		t.Errorf("%d questions remain", n)
	}
}

// The client whose query was first leaves: the others get their answer all the same.
func TestLeaderLeaves(t *testing.T) {
	up := newGate(t, "192.0.2.1")
	s := startMesh(t, patient(up.addr))
	msg := wire(question("example.com", mdns.TypeA))
	q := parsed(t, msg)
	ctx, leave := context.WithCancel(t.Context())
	results := make(chan []byte)
	follow := func(ctx context.Context) { results <- s.forward(ctx, nil, msg, q, true) } // over TCP every wait ends with a context
	go follow(ctx)
	<-up.arrived
	go follow(t.Context())
	waitFor(t, func() bool { return s.Status().Shared == 1 })
	leave()
	close(up.release)
	for range 2 {
		if got := <-results; got[3]&rcodeMask != rcodeOK || got[7] != 1 {
			t.Errorf("got %x", got)
		}
	}
}

func TestServeStale(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail func(g *flaky)
	}{
		{"nobody listens", func(g *flaky) { g.stop() }},
		{"servfail", func(g *flaky) { g.set(rcodeReply(mdns.RcodeServerFailure)) }},
		{"silent", func(g *flaky) { g.set(silent) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := newFlaky(t)
			cfg := patient(up.addr)
			cfg.ServeStale, cfg.CacheMaxTTL = time.Hour, time.Millisecond
			cfg.Upstreams = []netip.AddrPort{up.addr}
			s, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			s.fwd.flights.patience = 50 * time.Millisecond
			run(t, s)
			if got := ask(t, s, "udp", question("example.com", mdns.TypeA)); len(got.Answer) != 1 || got.Answer[0].Header().Ttl != 60 {
				t.Fatalf("got %v", got)
			}
			tt.fail(up)
			for _, network := range []string{"udp", "tcp"} {
				// The answer is too old after a millisecond, which a query takes at least once in ten.
				waitFor(t, func() bool {
					got := ask(t, s, network, question("EXAMPLE.com", mdns.TypeA))
					if !slices.Equal(data(got), []string{"192.0.2.1"}) || got.Question[0].Name != "EXAMPLE.com." {
						t.Fatalf("%s: got %v", network, got)
					}
					return got.Answer[0].Header().Ttl == staleTTL
				})
			}
			if got := ask(t, s, "udp", question("unknown.example", mdns.TypeA)); tt.name != "silent" && got.Rcode != mdns.RcodeServerFailure {
				t.Errorf("never asked before: got %v", got)
			}
			if s.Status().Cache.Stale == 0 {
				t.Error("not counted")
			}
		})
	}
}

// Clients who have been given an old answer leave no more questions behind than may wait.
func TestStaleAnswersLeaveFewQuestions(t *testing.T) {
	const limit = 2
	up := newFlaky(t)
	cfg := patient(up.addr)
	cfg.ServeStale, cfg.MaxInflight, cfg.CacheMaxTTL = time.Hour, limit, time.Nanosecond
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.fwd.flights.patience = time.Millisecond
	run(t, s)
	for i := range 10 {
		ask(t, s, "udp", question(fmt.Sprintf("n%d.example", i), mdns.TypeA))
	}
	up.set(silent)
	for i := range 10 {
		if got := ask(t, s, "udp", question(fmt.Sprintf("n%d.example", i), mdns.TypeA)); len(got.Answer) != 1 {
			t.Errorf("got %v", got)
		}
		s.fwd.flights.mu.Lock()
		if n := len(s.fwd.flights.under); n > limit {
			t.Errorf("%d questions are under way", n)
		}
		s.fwd.flights.mu.Unlock()
	}
}

// flaky is an upstream that can be made to fail.
type flaky struct {
	*fakeUpstream
	mu sync.Mutex
	do func(string, *mdns.Msg, func([]byte))
}

func newFlaky(t testing.TB) *flaky {
	t.Helper()
	f := &flaky{do: func(_ string, req *mdns.Msg, reply func([]byte)) { reply(wire(answerA(req, "192.0.2.1"))) }}
	f.fakeUpstream = fake(t, func(network string, req *mdns.Msg, reply func([]byte)) {
		f.mu.Lock()
		do := f.do
		f.mu.Unlock()
		do(network, req, reply)
	})
	return f
}

func (f *flaky) set(do func(string, *mdns.Msg, func([]byte))) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.do = do
}

func (f *flaky) stop() { f.udp.Close(); f.ln.Close() }

func TestSearchDomains(t *testing.T) {
	up := fake(t, nil)
	upstream := []string{"192.0.2.1"}
	for _, on := range []bool{true, false} {
		s := start(t, Config{SearchDomains: on})
		s.fwd.use(s.fwd.ctx, resolvConf{
			servers: []netip.AddrPort{up.addr},
			search:  parseResolvConf([]byte("search Demo.svc.cluster.local cluster.local mesh corp.example")).search,
		})
		s.SetTable(NewTable(append(records(), Record{"kept.mesh.cluster.local", addrs("241.0.0.7")}), DefaultTTL))
		for _, tt := range []struct {
			name  string
			qtype uint16
			want  []string // nil: NXDOMAIN
		}{
			{"backend.svc.mesh.local.corp.example", mdns.TypeA, nil},
			{"Backend.svc.mesh.local.CORP.example", mdns.TypeAAAA, nil},
			{"backend.svc.mesh.local.demo.svc.cluster.local", mdns.TypeHTTPS, nil},
			{"v4only.mesh.cluster.local", mdns.TypeA, nil},
			{"v4only.mesh.mesh", mdns.TypeA, nil},
			{"kept.mesh.cluster.local", mdns.TypeA, []string{"241.0.0.7"}}, // of the table
			{"v4only.mesh.other.example", mdns.TypeA, upstream},            // no search domain
			{"v4only.meshcorp.example", mdns.TypeA, upstream},              // not at a label
			{"unknown.mesh.corp.example", mdns.TypeA, upstream},
			{"corp.example", mdns.TypeA, upstream},
			{`v4only.mesh\004corp.example`, mdns.TypeA, upstream}, // one label
			{"svc.mesh.local.corp.example", mdns.TypeA, upstream}, // of no name
		} {
			want := tt.want
			if want == nil && !on {
				want = upstream
			}
			got := ask(t, s, "udp", question(tt.name, tt.qtype).SetEdns0(1232, false))
			if tt.qtype != mdns.TypeA && want != nil {
				continue // the fake knows addresses only
			}
			if want == nil {
				if got.Rcode != mdns.RcodeNameError || len(got.Ns) != 1 || !mdns.IsSubDomain(got.Ns[0].Header().Name, got.Question[0].Name) || got.IsEdns0() == nil {
					t.Errorf("on %v: %s: got %v, want NXDOMAIN", on, tt.name, got)
				}
			} else if !slices.Equal(data(got), want) {
				t.Errorf("on %v: %s: got %v, want %v", on, tt.name, got, want)
			}
		}
	}
}

// A relay on this host whose queries are redirected to us: they come from its own socket.
func TestLoopThroughARelay(t *testing.T) {
	relay, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(loopback0))
	if err != nil {
		t.Fatal(err)
	}
	defer relay.Close()
	s := start(t, Config{HoldSuffixes: []string{}})
	var busy sync.WaitGroup
	busy.Go(func() {
		for buf := make([]byte, 4096); ; {
			n, src, err := relay.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			msg := slices.Clone(buf[:n])
			busy.Go(func() {
				conn, err := net.Dial("udp4", s.Addrs()[0].String())
				if err != nil {
					return
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(10 * time.Second))
				back := make([]byte, 4096)
				if _, err := conn.Write(msg); err == nil {
					if n, err := conn.Read(back); err == nil {
						relay.WriteToUDPAddrPort(back[:n], src)
					}
				}
			})
		}
	})
	t.Cleanup(busy.Wait)
	defer relay.Close()
	s.fwd.relays = func(netip.AddrPort) bool { return true }
	s.fwd.use(s.fwd.ctx, resolvConf{servers: []netip.AddrPort{addrPort(relay.LocalAddr())}})
	waitFor(t, func() bool { return s.Status().Upstreams[0].State == "looped" })
	if got := ask(t, s, "udp", question("example.com", mdns.TypeA)); got.Rcode != mdns.RcodeServerFailure {
		t.Errorf("got %v", got)
	}
}
