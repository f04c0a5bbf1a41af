package dns

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	mdns "github.com/miekg/dns"
)

// BenchmarkCached is a query that is answered from the cache, over a socket and back, client included.
func BenchmarkCached(b *testing.B) {
	s := start(b, Config{Upstreams: []netip.AddrPort{fake(b, nil).addr}})
	s.SetTable(NewTable(nil, DefaultTTL))
	roundTrips(b, s, "example.com")
	if st := s.Status().Cache; st.Misses > 40 { // it is refreshed twice a minute
		b.Fatalf("%+v", st)
	}
}

// BenchmarkQuickCached is the work for that without the system calls.
func BenchmarkQuickCached(b *testing.B) {
	s, err := New(Config{Upstreams: []netip.AddrPort{dead(b)}})
	if err != nil {
		b.Fatal(err)
	}
	s.SetTable(NewTable(nil, DefaultTTL))
	testCache{s.fwd.cache, b}.keep("kept.example", "192.0.2.1", 3600)
	msg, out := wire(question("kept.example", mdns.TypeA)), make([]byte, 0, maxUDP)
	var q query
	b.ReportAllocs()
	for b.Loop() {
		s.quick(out, msg, &q, false)
	}
}

// BenchmarkForwarded is a query that an upstream answers, over sockets, client and upstream included. The names differ, so
// that no cache helps.
func BenchmarkForwarded(b *testing.B) {
	up, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(loopback0))
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	b.Cleanup(func() { up.Close(); <-done })
	go func() {
		defer close(done)
		for buf := make([]byte, 512); ; {
			n, src, err := up.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			buf[2] |= flagQR >> 8
			buf[7] = 1
			n += copy(buf[n:], "\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01")
			up.WriteToUDPAddrPort(buf[:n], src)
		}
	}()
	s := start(b, Config{Upstreams: []netip.AddrPort{addrPort(up.LocalAddr())}})
	s.SetTable(NewTable(nil, DefaultTTL))
	conn := dialUDP(b, s.Addrs()[0])
	msg, buf := wire(question("00000000.example.com", mdns.TypeA)), make([]byte, 512)
	b.ReportAllocs()
	const window = 32 // queries under way at once
	for i := 0; b.Loop(); i++ {
		copy(msg[headerLen+1:], fmt.Sprintf("%08d", i))
		if _, err := conn.Write(msg); err != nil {
			b.Fatal(err)
		}
		if i < window {
			continue
		}
		if _, err := conn.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
	if buf[7] != 1 && b.N > window {
		b.Fatalf("got %x", buf)
	}
}
