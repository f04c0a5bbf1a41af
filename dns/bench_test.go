package dns

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

func benchTable(n int) ([]Record, *Table) {
	recs := make([]Record, n)
	for i := range recs {
		recs[i] = Record{fmt.Sprintf("service-%d.demo.svc.mesh.local", i), addrs(fmt.Sprintf("241.0.%d.%d", i/256%256, i%256))}
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
	conn, err := net.Dial("udp", s.Addrs()[0].String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	msg, buf := wire(question("service-500.demo.svc.mesh.local", mdns.TypeA)), make([]byte, 512)
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

func BenchmarkNewTable(b *testing.B) {
	recs, _ := benchTable(50_000)
	for b.Loop() {
		NewTable(recs, DefaultTTL)
	}
}
