package dns

import (
	"context"
	"net/netip"
	"testing"

	mdns "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// listening returns a server whose sockets are bound and not read from.
func listening(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.Upstreams = []netip.AddrPort{dead(t)}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.closeSockets)
	s.SetTable(NewTable(records(), DefaultTTL))
	return s
}

func TestClientsAreSpread(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"} {
		t.Run(listen, func(t *testing.T) {
			const workers, clients = 3, 64
			s := listening(t, Config{Listen: []netip.AddrPort{netip.MustParseAddrPort(listen)}, Workers: workers})
			for range clients {
				if _, err := dialUDP(t, s.Addrs()[0]).Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			readers, total, used := s.socks[0].readers(), 0, 0
			if len(readers) != workers {
				t.Fatalf("%d sockets, want %d", len(readers), workers)
			}
			for _, conn := range readers {
				b, err := newBatch(conn, s.socks[0].any)
				if err != nil {
					t.Fatal(err)
				}
				got := 0
				for n := 1; n != 0; got += n {
					if n, err = b.poll(); err != nil {
						t.Fatal(err)
					}
				}
				if total += got; got > 0 {
					used++
				}
			}
			if total != clients || used < 2 {
				t.Errorf("%d packets of %d arrived at %d sockets", total, clients, used)
			}
		})
	}
}

// What the kernel drops is counted, also after the sockets are closed; what it does not is answered.
func TestDropsAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := listening(t, Config{Listen: []netip.AddrPort{loopback0}, Metrics: reg})
	c, msg := dialUDP(t, s.Addrs()[0]), wire(question("v4only.mesh", mdns.TypeA))
	sent := 0.0
	for ; gather(t, reg)["kuma_dp_dns_socket_drops_total"] == 0; sent++ {
		if _, err := c.Write(msg); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	got := gather(t, reg)
	if drops := got["kuma_dp_dns_socket_drops_total"]; drops != 1 || got["kuma_dp_dns_response_codes_total noerror"] != sent-1 {
		t.Errorf("%v dropped and %v answered of %v, want all but one answered", drops, got["kuma_dp_dns_response_codes_total noerror"], sent)
	}
}
