//go:build linux

package dnslab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
)

// upstream is a name server that does as its handler says.
type upstream struct {
	addr    netip.Addr
	queries atomic.Int64
	tcp     atomic.Int64 // those of queries that came over TCP
}

type handler func(w mdns.ResponseWriter, req *mdns.Msg)

// serve runs a name server at an address of a host until the test ends. noTCP leaves TCP out.
func serve(t testing.TB, h *netlab.Host, addr netip.Addr, noTCP bool, handle handler) *upstream {
	t.Helper()
	u := &upstream{addr: addr}
	counted := mdns.HandlerFunc(func(w mdns.ResponseWriter, req *mdns.Msg) {
		u.queries.Add(1)
		if _, ok := w.RemoteAddr().(*net.TCPAddr); ok {
			u.tcp.Add(1)
		}
		handle(w, req)
	})
	at := netip.AddrPortFrom(addr, 53).String()
	var packets net.PacketConn
	if err := h.Do(func() (err error) { packets, err = net.ListenPacket("udp", at); return err }); err != nil {
		t.Fatal(err)
	}
	servers := []*mdns.Server{{PacketConn: packets, Handler: counted}}
	if !noTCP {
		l, err := h.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, &mdns.Server{Listener: l, Handler: counted})
	}
	for _, s := range servers {
		started, ended := make(chan struct{}), make(chan error, 1)
		s.NotifyStartedFunc = func() { close(started) }
		go func() { ended <- s.ActivateAndServe() }()
		select {
		case <-started:
		case err := <-ended:
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := s.ShutdownContext(ctx); err != nil {
				t.Error(err)
			}
			<-ended
		})
	}
	return u
}

// says answers with an address.
func says(ip string) handler {
	return func(w mdns.ResponseWriter, req *mdns.Msg) { _ = w.WriteMsg(answer(req, ip)) } // a client gone is the client's affair
}

// code answers with a response code.
func code(rcode int) handler {
	return func(w mdns.ResponseWriter, req *mdns.Msg) { _ = w.WriteMsg(new(mdns.Msg).SetRcode(req, rcode)) }
}

func answer(req *mdns.Msg, ip string) *mdns.Msg {
	m := new(mdns.Msg).SetReply(req)
	m.RecursionAvailable = true
	rr, err := mdns.NewRR(fmt.Sprintf("%s 60 IN A %s", req.Question[0].Name, ip))
	if err != nil {
		panic(err)
	}
	m.Answer = append(m.Answer, rr)
	return m
}

// ask sends a question of the host's to its resolver and returns the answer.
func (l lab) ask(t testing.TB, network, name string, qtype uint16) *mdns.Msg {
	t.Helper()
	c := &mdns.Conn{Conn: l.dial(t, network, "127.0.0.1:53"), UDPSize: 4096}
	defer c.Close()
	return exchange(t, c, new(mdns.Msg).SetQuestion(mdns.Fqdn(name), qtype))
}

func exchange(t testing.TB, c *mdns.Conn, m *mdns.Msg) *mdns.Msg {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteMsg(m); err != nil {
		t.Fatal(err)
	}
	r, err := c.ReadMsg()
	if err != nil {
		t.Fatalf("%s: %v", m.Question[0].String(), err)
	}
	return r
}

// first is the address in an answer.
func first(m *mdns.Msg) string {
	for _, rr := range m.Answer {
		if a, ok := rr.(*mdns.A); ok {
			return a.A.String()
		}
	}
	return mdns.RcodeToString[m.Rcode]
}
