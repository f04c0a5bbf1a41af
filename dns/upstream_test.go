package dns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	mdns "github.com/miekg/dns"
)

// One server that does not answer costs a client at most once.
func TestSilentUpstreamIsRemembered(t *testing.T) {
	bad, good := fake(t, silent), fake(t, nil)
	s := startMesh(t, Config{Upstreams: []netip.AddrPort{bad.addr, good.addr}, HedgeDelay: 10 * time.Millisecond, CacheBytes: -1})
	for range 20 {
		ask(t, s, "udp", question("example.com", mdns.TypeA))
	}
	// Two failures, and at most a few probes on a slow machine.
	if n := bad.queries.Load(); n > 5 {
		t.Errorf("silent upstream was asked %d times by 20 queries", n)
	}
}

func TestUpstreamComesBack(t *testing.T) {
	addr := dead(t)
	s := startMesh(t, Config{Upstreams: []netip.AddrPort{addr}})
	for range 2 {
		begin := time.Now()
		if resp := ask(t, s, "udp", question("example.com", mdns.TypeA)); resp.Rcode != mdns.RcodeServerFailure {
			t.Fatalf("got %v", resp)
		}
		if d := time.Since(begin); d > time.Second {
			t.Errorf("SERVFAIL took %v", d)
		}
	}
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	u := s.fwd.list.Load().servers[0]
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 512)
	n, src, err := conn.ReadFromUDPAddrPort(buf) // the probe
	if err != nil {
		t.Fatalf("no probe came: %v", err)
	}
	probe := new(mdns.Msg)
	if err := probe.Unpack(buf[:n]); err != nil || probe.Question[0] != (mdns.Question{Name: ".", Qtype: mdns.TypeNS, Qclass: 1}) {
		t.Fatalf("probe is %v, %v", probe, err)
	}
	conn.WriteToUDPAddrPort(wire(new(mdns.Msg).SetRcode(probe, mdns.RcodeRefused)), src)
	go func() {
		if n, src, err := conn.ReadFromUDPAddrPort(buf); err == nil {
			req := new(mdns.Msg)
			if req.Unpack(buf[:n]) == nil {
				conn.WriteToUDPAddrPort(wire(answerA(req, "192.0.2.1")), src)
			}
		}
	}()
	waitFor(t, u.usable)
	if resp := ask(t, s, "udp", question("example.com", mdns.TypeA)); len(resp.Answer) != 1 {
		t.Errorf("got %v", resp)
	}
}

func TestHowUpstreamsAreJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream(netip.MustParseAddrPort("192.0.2.1:53"), upstreamMetrics{})
		lost := errors.New("timeout")
		if down, _ := u.silent(time.Now(), lost); down {
			t.Fatal("one lost packet made it go down")
		}
		sent := time.Now()
		<-time.After(time.Second)
		u.good()
		if down, _ := u.silent(sent, lost); down || u.failures != 0 {
			t.Fatal("silence counted although another query was answered meanwhile")
		}
		<-time.After(time.Second)
		u.silent(time.Now(), lost)
		if down, probe := u.silent(time.Now(), lost); !down || !probe || u.usable() {
			t.Fatal("two failures in a row did not make it go down")
		}
		u.wake()
		if len(u.kick) != 0 {
			t.Fatal("probe asked for at once after the failure")
		}
		<-time.After(probeFirst)
		u.wake()
		u.wake()
		if len(u.kick) != 1 {
			t.Fatal("no probe asked for")
		}
		if !u.needsProbe() || !u.good() || u.needsProbe() || !u.usable() {
			t.Fatal("an answer did not bring it back")
		}
		if down, probe := u.silent(time.Now(), syscallRefused()); !down || !probe {
			t.Fatal("a refused packet did not make it go down")
		}
	})
}

func syscallRefused() error {
	return &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNREFUSED)}
}
