package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback0 = netip.MustParseAddrPort("127.0.0.1:0")

// records is a table with what the matrix of contract dns.md §4.1 needs.
func records() []Record {
	many := Record{Name: "many.svc.mesh.local"}
	for i := range 60 {
		many.Addrs = append(many.Addrs, netip.AddrFrom4([4]byte{241, 1, 0, byte(i)}))
	}
	return []Record{
		{"backend.svc.mesh.local", addrs("241.0.0.0", "::ffff:f100:0")},
		{"backend_demo_svc_80.mesh", addrs("240.0.0.1")},
		many,
		{"V6only.mesh", addrs("fd00::1")},
		{"v4only.mesh", addrs("241.0.0.9")},
	}
}

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// start runs a server until the end of the test. Without upstreams there are none, rather than those of this host.
func start(t testing.TB, cfg Config) *Server {
	t.Helper()
	if cfg.Listen == nil {
		cfg.Listen = []netip.AddrPort{loopback0}
	}
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = t.TempDir() + "/resolv.conf"
	}
	if cfg.SystemdConf == "" {
		cfg.SystemdConf = t.TempDir() + "/systemd.conf"
	}
	if testing.Verbose() && cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	return s
}

// run runs a server until the end of the test.
func run(t testing.TB, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	select {
	case <-s.Ready():
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
}

func startMesh(t testing.TB, cfg Config) *Server {
	t.Helper()
	s := start(t, cfg)
	s.SetTable(NewTable(records(), DefaultTTL))
	return s
}

// ask sends a question and fails the test when no answer comes.
func ask(t testing.TB, s *Server, network string, m *mdns.Msg) *mdns.Msg {
	t.Helper()
	c := mdns.Client{Net: network, Timeout: 5 * time.Second, UDPSize: 4096}
	resp, _, err := c.ExchangeContext(t.Context(), m, s.Addrs()[0].String())
	if err != nil {
		t.Fatalf("%s %s: %v", network, m.Question[0].String(), err)
	}
	return resp
}

func question(name string, qtype uint16) *mdns.Msg {
	return new(mdns.Msg).SetQuestion(mdns.Fqdn(name), qtype)
}

// fakeUpstream is a name server that does what handle says, over UDP and TCP.
type fakeUpstream struct {
	addr    netip.AddrPort
	udp     *net.UDPConn
	ln      *net.TCPListener
	queries atomic.Int64
	tcp     atomic.Int64
	handle  func(network string, req *mdns.Msg, reply func(wire []byte))
}

// fake starts a name server that ends with the test. With handle nil it answers 192.0.2.1 to everything.
func fake(t testing.TB, handle func(network string, req *mdns.Msg, reply func(wire []byte))) *fakeUpstream {
	t.Helper()
	if handle == nil {
		handle = func(_ string, req *mdns.Msg, reply func([]byte)) { reply(wire(answerA(req, "192.0.2.1"))) }
	}
	so, err := bind(loopback0)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeUpstream{addr: addrPort(so.udp.LocalAddr()), udp: so.udp, ln: so.tcp, handle: handle}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			buf := make([]byte, 65535)
			n, src, err := so.udp.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			req := new(mdns.Msg)
			if req.Unpack(buf[:n]) != nil {
				continue
			}
			f.queries.Add(1)
			wg.Go(func() { f.handle("udp", req, func(w []byte) { so.udp.WriteToUDPAddrPort(w, src) }) })
		}
	})
	wg.Go(func() {
		for {
			conn, err := so.tcp.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				c := &mdns.Conn{Conn: conn}
				req, err := c.ReadMsg()
				if err != nil {
					return
				}
				f.queries.Add(1)
				f.tcp.Add(1)
				f.handle("tcp", req, func(w []byte) { c.Write(w) })
			})
		}
	})
	t.Cleanup(func() { so.udp.Close(); so.tcp.Close(); wg.Wait() })
	return f
}

func answerA(req *mdns.Msg, ips ...string) *mdns.Msg {
	m := new(mdns.Msg).SetReply(req)
	m.RecursionAvailable = true
	for _, ip := range ips {
		rr, err := mdns.NewRR(fmt.Sprintf("%s 60 IN A %s", req.Question[0].Name, ip))
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

func wire(m *mdns.Msg) []byte {
	w, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return w
}

// rcodeReply answers everything with one code.
func rcodeReply(code int) func(string, *mdns.Msg, func([]byte)) {
	return func(_ string, req *mdns.Msg, reply func([]byte)) { reply(wire(new(mdns.Msg).SetRcode(req, code))) }
}

// silent never answers.
func silent(string, *mdns.Msg, func([]byte)) {}

// dead returns an address where nobody listens.
func dead(t testing.TB) netip.AddrPort {
	t.Helper()
	so, err := bind(loopback0)
	if err != nil {
		t.Fatal(err)
	}
	defer so.udp.Close()
	defer so.tcp.Close()
	return addrPort(so.udp.LocalAddr())
}

// dialUDP connects to a server until the test ends.
func dialUDP(t testing.TB, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	client, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	client.SetDeadline(time.Now().Add(time.Minute))
	return client
}
