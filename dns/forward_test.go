package dns

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

func TestForwarding(t *testing.T) {
	huge := strings.Repeat("x", 200)
	fakes := map[string]func(string, *mdns.Msg, func([]byte)){
		"good": nil,
		"wrong id first": func(_ string, req *mdns.Msg, reply func([]byte)) {
			forged := answerA(req, "203.0.113.66")
			forged.Id++
			reply(wire(forged))
			reply(wire(answerA(req, "192.0.2.1")))
		},
		"wrong question first": func(_ string, req *mdns.Msg, reply func([]byte)) {
			forged := answerA(req, "203.0.113.66")
			forged.Question[0].Name = "other.example."
			reply(wire(forged))
			reply(wire(answerA(req, "192.0.2.1")))
		},
		"other letter case first": func(_ string, req *mdns.Msg, reply func([]byte)) {
			forged := answerA(req, "203.0.113.66")
			forged.Question[0].Name = "EXAMPLE.com."
			reply(wire(forged))
			reply(wire(answerA(req, "192.0.2.1")))
		},
		"garbage first": func(_ string, req *mdns.Msg, reply func([]byte)) {
			reply([]byte("x"))
			reply(wire(req)) // a query, not a response
			reply(wire(answerA(req, "192.0.2.1")))
		},
		"flood of forgeries": func(network string, req *mdns.Msg, reply func([]byte)) {
			if network == "tcp" {
				reply(wire(answerA(req, "192.0.2.1")))
				return
			}
			for range 2 * maxForged {
				forged := answerA(req, "203.0.113.66")
				forged.Id++
				reply(wire(forged))
			}
		},
		"twice": func(_ string, req *mdns.Msg, reply func([]byte)) {
			reply(wire(answerA(req, "192.0.2.1")))
			reply(wire(answerA(req, "203.0.113.66")))
		},
		"wrong over tcp": func(network string, req *mdns.Msg, reply func([]byte)) {
			m := answerA(req, "203.0.113.66")
			if m.Truncated = network == "udp"; !m.Truncated {
				m.Question[0].Name = "other.example."
			}
			reply(wire(m))
		},
		"cut off": func(_ string, req *mdns.Msg, reply func([]byte)) {
			w := wire(answerA(req, "192.0.2.1"))
			reply(w[:len(w)-3])
		},
		"truncated": func(network string, req *mdns.Msg, reply func([]byte)) {
			m := answerA(req, "192.0.2.1")
			if m.Truncated = network == "udp"; m.Truncated {
				m.Answer = nil
			}
			reply(wire(m))
		},
		"too large for the client": func(_ string, req *mdns.Msg, reply func([]byte)) {
			m := answerA(req)
			for range 5 {
				m.Answer = append(m.Answer, &mdns.TXT{Hdr: mdns.RR_Header{Name: req.Question[0].Name, Rrtype: mdns.TypeTXT, Class: 1}, Txt: []string{huge}})
			}
			reply(wire(m))
		},
		"servfail": rcodeReply(mdns.RcodeServerFailure), "refused": rcodeReply(mdns.RcodeRefused), "notimp": rcodeReply(mdns.RcodeNotImplemented),
		"nxdomain": rcodeReply(mdns.RcodeNameError), "silent": silent,
		"header only": func(_ string, req *mdns.Msg, reply func([]byte)) {
			m := new(mdns.Msg).SetRcode(req, mdns.RcodeServerFailure)
			m.Question = nil
			reply(wire(m))
		},
	}
	good := []string{"192.0.2.1"}
	for _, tt := range []struct {
		name      string
		upstreams []string // "dead": nobody listens
		network   string   // default udp
		edns      uint16
		want      []string
		wantCode  int
		wantCut   bool
	}{
		{name: "good", upstreams: []string{"good"}, want: good},
		{name: "good over tcp", upstreams: []string{"good"}, network: "tcp", want: good},
		{name: "unknown name", upstreams: []string{"nxdomain", "good"}, wantCode: mdns.RcodeNameError},
		{name: "forged id", upstreams: []string{"wrong id first"}, want: good},
		{name: "forged question", upstreams: []string{"wrong question first"}, want: good},
		{name: "forged letter case", upstreams: []string{"other letter case first"}, want: good},
		{name: "garbage", upstreams: []string{"garbage first"}, want: good},
		{name: "many forgeries", upstreams: []string{"flood of forgeries"}, want: good},
		{name: "answered twice", upstreams: []string{"twice"}, want: good},
		{name: "truncated, and wrong over tcp", upstreams: []string{"wrong over tcp"}, edns: 4096, want: []string{"203.0.113.66"}, wantCut: true},
		{name: "answer cut off", upstreams: []string{"cut off", "good"}, want: good},
		{name: "dead first", upstreams: []string{"dead", "good"}, want: good},
		{name: "dead first over tcp", upstreams: []string{"dead", "good"}, network: "tcp", want: good},
		{name: "silent first", upstreams: []string{"silent", "good"}, want: good},
		{name: "silent first over tcp", upstreams: []string{"silent", "good"}, network: "tcp", want: good},
		{name: "servfail first", upstreams: []string{"servfail", "good"}, want: good},
		{name: "refused first", upstreams: []string{"refused", "good"}, want: good},
		{name: "notimp first", upstreams: []string{"notimp", "good"}, want: good},
		{name: "failure without question first", upstreams: []string{"header only", "good"}, want: good},
		{name: "all refuse", upstreams: []string{"servfail", "refused"}, wantCode: mdns.RcodeRefused},
		{name: "all dead", upstreams: []string{"dead", "dead"}, wantCode: mdns.RcodeServerFailure},
		{name: "all silent", upstreams: []string{"silent"}, wantCode: mdns.RcodeServerFailure},
		{name: "truncated for a client with room", upstreams: []string{"truncated"}, edns: 4096, want: good},
		{name: "truncated for a client without", upstreams: []string{"truncated"}, wantCut: true},
		{name: "too large", upstreams: []string{"too large for the client"}, edns: 600, wantCut: true},
		{name: "large over tcp", upstreams: []string{"too large for the client"}, network: "tcp", want: slices.Repeat([]string{"example.com.\t0\tIN\tTXT\t\"" + huge + "\""}, 5)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{QueryTimeout: 2 * time.Second, AttemptTimeout: 500 * time.Millisecond, HedgeDelay: 20 * time.Millisecond}
			for _, name := range tt.upstreams {
				if name == "dead" {
					cfg.Upstreams = append(cfg.Upstreams, dead(t))
				} else {
					cfg.Upstreams = append(cfg.Upstreams, fake(t, fakes[name]).addr)
				}
			}
			s := startMesh(t, cfg)
			req := question("example.com", mdns.TypeA)
			if tt.edns > 0 {
				req.SetEdns0(tt.edns, true)
			}
			begin := time.Now()
			resp := ask(t, s, tt.network, req)
			if got := data(resp); !slices.Equal(got, tt.want) || resp.Rcode != tt.wantCode || resp.Truncated != tt.wantCut {
				t.Fatalf("got %v, want %v, code %d, truncated %v", resp, tt.want, tt.wantCode, tt.wantCut)
			}
			if d := time.Since(begin); d > cfg.QueryTimeout+time.Second {
				t.Errorf("took %v", d)
			}
			if got := ask(t, s, "udp", question("v4only.mesh", mdns.TypeA)); len(got.Answer) != 1 {
				t.Errorf("mesh name: got %v", got)
			}
		})
	}
}

// An answer that comes from another address than the query went to is none.
func TestForgedSource(t *testing.T) {
	forger, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.2:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer forger.Close()
	s := startMesh(t, Config{})
	up := fake(t, func(_ string, req *mdns.Msg, reply func([]byte)) {
		s.fwd.sockets.mu.Lock()
		for local := range s.fwd.sockets.open {
			forger.WriteToUDPAddrPort(wire(answerA(req, "203.0.113.66")), local)
		}
		s.fwd.sockets.mu.Unlock()
		reply(wire(answerA(req, "192.0.2.1")))
	})
	s.fwd.use(s.fwd.ctx, resolvConf{servers: []netip.AddrPort{up.addr}})
	if got := data(ask(t, s, "udp", question("example.com", mdns.TypeA))); !slices.Equal(got, []string{"192.0.2.1"}) {
		t.Errorf("got %v", got)
	}
}

// What the client sends and the upstream answers passes as it is, except for the id.
func TestForwardingIsTransparent(t *testing.T) {
	passed := make(chan [2][]byte, 1) // what came to the upstream and what it sent
	up := fake(t, func(_ string, req *mdns.Msg, reply func([]byte)) {
		m := answerA(req)
		m.Compress, m.AuthenticatedData, m.CheckingDisabled = true, true, req.CheckingDisabled
		m.Answer = append(m.Answer, &mdns.RFC3597{Hdr: mdns.RR_Header{Name: req.Question[0].Name, Rrtype: 65280, Class: 1, Ttl: 7}, Rdata: "c00c0102"})
		m.SetEdns0(1400, true)
		m.IsEdns0().Option = append(m.IsEdns0().Option, &mdns.EDNS0_LOCAL{Code: 65001, Data: []byte("answer")})
		sent := wire(m)
		passed <- [2][]byte{wire(req), sent}
		reply(sent)
	})
	s := startMesh(t, Config{Upstreams: []netip.AddrPort{up.addr}})
	req := question("ExAmple.com", 65280)
	req.CheckingDisabled = true
	req.SetEdns0(1232, true)
	req.IsEdns0().Option = append(req.IsEdns0().Option, &mdns.EDNS0_LOCAL{Code: 65001, Data: []byte("query")})
	msg := wire(req)
	got := raw(t, s, msg)
	p := <-passed
	seen, sent := p[0], p[1]
	if !bytes.Equal(seen[2:], msg[2:]) {
		t.Errorf("upstream got\n%x, want\n%x", seen[2:], msg[2:])
	}
	if !bytes.Equal(got[2:], sent[2:]) || !bytes.Equal(got[:2], msg[:2]) {
		t.Errorf("client got\n%x, want\n%x with its own id", got, sent)
	}
}

// waitFor is for the few states that have no event.
func waitFor(t testing.TB, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for !cond() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("did not happen within 10 s")
		}
	}
}

func TestOwnAddressIsNoUpstream(t *testing.T) {
	f := &forwarder{own: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("0.0.0.0:5353"), netip.MustParseAddrPort("[::]:5353")}}
	for addr, want := range map[string]bool{
		"127.0.0.1:53": true, "127.0.0.1:54": false, "127.0.0.2:53": false, "[::ffff:127.0.0.1]:53": true,
		"127.0.0.9:5353": true, "[::1]:5353": true, "192.0.2.1:5353": false, "[::1]:53": false,
	} {
		if got := f.isSelf(netip.MustParseAddrPort(addr)); got != want {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
}

// An upstream behind which redirection brings our queries back: a relay that keeps the source address cannot be made without
// privileges, so the loop is the server itself under an address that does not look like it.
func TestLoopIsNoticed(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			s := start(t, Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, HoldSuffixes: []string{}, HedgeDelay: 10 * time.Second, AttemptTimeout: 10 * time.Second, QueryTimeout: 10 * time.Second})
			s.fwd.own = nil // as redirection hides it
			s.fwd.use(t.Context(), resolvConf{servers: s.Addrs(), useTCP: network == "tcp"})
			begin := time.Now()
			resp := ask(t, s, "udp", question("example.com", mdns.TypeA))
			if resp.Rcode != mdns.RcodeServerFailure || len(s.Upstreams()) != 0 {
				t.Errorf("got %v, upstreams %v", resp, s.Upstreams())
			}
			if d := time.Since(begin); d > time.Second {
				t.Errorf("took %v: the query under way was not ended", d)
			}
		})
	}
}

// A flood while no upstream answers: bounded goroutines and memory, names of the mesh resolve, and afterwards nothing remains.
func TestFloodWithDeadUpstreams(t *testing.T) {
	const limit = 64
	up := fake(t, silent)
	s := startMesh(t, Config{
		Upstreams: []netip.AddrPort{up.addr}, MaxInflight: limit, ServeStale: time.Hour,
		AttemptTimeout: 200 * time.Millisecond, QueryTimeout: 400 * time.Millisecond, HedgeDelay: 50 * time.Millisecond,
	})
	before, goroutines := liveHeap(), runtime.NumGoroutine()
	conn, err := net.Dial("udp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	most := 0
	for i := range 20_000 {
		if _, err := conn.Write(wire(question(fmt.Sprintf("n%d.example", i), mdns.TypeA))); err != nil {
			t.Fatal(err)
		}
		most = max(most, runtime.NumGoroutine())
	}
	if resp := ask(t, s, "tcp", question("v4only.mesh", mdns.TypeA)); len(resp.Answer) != 1 {
		t.Errorf("mesh name: got %v", resp)
	}
	// For each query under way itself, an attempt and the end of one; the fake's handlers are over at once.
	if most > goroutines+4*limit+50 {
		t.Errorf("%d goroutines, %d before", most, goroutines)
	}
	waitFor(t, func() bool { return len(s.inflight) == 0 })
	if used := liveHeap() - before; used > 4<<20 {
		t.Errorf("%d bytes remain", used)
	}
	if n := up.queries.Load(); n > 2000 {
		t.Errorf("an upstream that is down was asked %d times", n)
	}
}

func TestTooManyQueriesInFlight(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	up := fake(t, func(_ string, req *mdns.Msg, reply func([]byte)) {
		if req.Question[0].Name == "slow.example." {
			arrived <- struct{}{}
			<-release
		}
		reply(wire(answerA(req, "192.0.2.1")))
	})
	s := startMesh(t, Config{Upstreams: []netip.AddrPort{up.addr}, MaxInflight: 1, AttemptTimeout: 10 * time.Second, QueryTimeout: 10 * time.Second})
	var wg sync.WaitGroup
	wg.Go(func() {
		if resp := ask(t, s, "udp", question("slow.example", mdns.TypeA)); len(resp.Answer) != 1 {
			t.Errorf("slow query: got %v", resp)
		}
	})
	<-arrived
	for _, network := range []string{"udp", "tcp"} {
		if resp := ask(t, s, network, question("example.com", mdns.TypeA)); resp.Rcode != mdns.RcodeServerFailure {
			t.Errorf("%s: got %v, want SERVFAIL at once", network, resp)
		}
		if resp := ask(t, s, network, question("v4only.mesh", mdns.TypeA)); len(resp.Answer) != 1 {
			t.Errorf("%s: mesh name: got %v", network, resp)
		}
	}
	close(release)
	wg.Wait()
}

// Stopping does not wait for upstreams.
func TestStopWithQueriesUnderWay(t *testing.T) {
	arrived := make(chan struct{}, 10)
	up := fake(t, func(string, *mdns.Msg, func([]byte)) { arrived <- struct{}{} })
	s, err := New(Config{Listen: []netip.AddrPort{loopback0}, Upstreams: []netip.AddrPort{up.addr}, QueryTimeout: time.Hour, AttemptTimeout: time.Hour, HedgeDelay: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	<-s.Ready()
	for _, network := range []string{"udp", "tcp"} {
		conn, err := net.Dial(network, s.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := (&mdns.Conn{Conn: conn}).WriteMsg(question("example.com", mdns.TypeA)); err != nil {
			t.Fatal(err)
		}
		<-arrived
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still running after 10 s")
	}
}
