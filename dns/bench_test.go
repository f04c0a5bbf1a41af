package dns

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// benchTable is what a control plane sends: an IPv4 VIP and its mapped form for each name.
func benchTable(n int) ([]Record, *Table) {
	recs := make([]Record, n)
	for i := range recs {
		ip := netip.AddrFrom4([4]byte{241, byte(i >> 16), byte(i >> 8), byte(i)})
		recs[i] = Record{fmt.Sprintf("service-%d.demo.svc.mesh.local", i), []netip.Addr{ip, netip.AddrFrom16(ip.As16())}}
	}
	return recs, NewTable(recs, DefaultTTL)
}

// BenchmarkRespond is the work per query without the system calls.
func BenchmarkRespond(b *testing.B) {
	var r responder
	_, table := benchTable(1000)
	r.table.Store(table)
	msg := wire(question("service-500.demo.svc.mesh.local", mdns.TypeA))
	out := make([]byte, 0, maxUDP)
	var q query
	b.ReportAllocs()
	for b.Loop() {
		r.respond(out, msg, &q, false)
	}
}

// BenchmarkMeshName is a query over a socket and back, client included.
func BenchmarkMeshName(b *testing.B) {
	s := start(b, Config{Upstreams: []netip.AddrPort{dead(b)}})
	_, table := benchTable(1000)
	s.SetTable(table)
	roundTrips(b, s, "service-500.demo.svc.mesh.local")
}

// roundTrips asks for the addresses of a name, one query after the other.
func roundTrips(b *testing.B, s *Server, name string) {
	b.Helper()
	conn := dialUDP(b, s.Addrs()[0])
	msg, buf := wire(question(name, mdns.TypeA)), make([]byte, 512)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(msg); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkThroughput is what a query costs when many are under way, client included.
func BenchmarkThroughput(b *testing.B) {
	const window = 64
	for _, network := range []string{"udp", "tcp"} {
		b.Run(network, func(b *testing.B) {
			s := start(b, Config{Workers: 1})
			_, table := benchTable(10_000)
			s.SetTable(table)
			conn, err := net.Dial(network, s.Addrs()[0].String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(time.Minute))
			msg := wire(question("service-500.demo.svc.mesh.local", mdns.TypeA))
			answer := len(msg) + recordLen + 4
			writes, buf := window, make([]byte, answer)
			if network == "tcp" {
				msg = bytes.Repeat(append([]byte{0, byte(len(msg))}, msg...), window)
				writes, buf = 1, make([]byte, window*(2+answer))
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if n++; n%window != 0 {
					continue // one round asks for so many
				}
				for range writes {
					if _, err := conn.Write(msg); err != nil {
						b.Fatal(err)
					}
				}
				for range writes {
					if _, err := io.ReadFull(conn, buf); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkNewTable is what a change of the table costs. heap-B is what stays.
func BenchmarkNewTable(b *testing.B) {
	for _, n := range []int{10_000, 50_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			recs, _ := benchTable(n)
			s := Server{tableLoaded: make(chan struct{})}
			s.m, _ = newMetrics(nil)
			b.ReportAllocs()
			for b.Loop() {
				s.SetTable(NewTable(recs, DefaultTTL))
			}
			with := liveHeap()
			s.responder.table.Store(nil)
			b.ReportMetric(float64(with-liveHeap()), "heap-B")
		})
	}
}
