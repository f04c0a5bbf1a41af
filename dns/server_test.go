package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

func TestConfigIsChecked(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"listen", Config{Listen: []netip.AddrPort{{}}}, "Listen[0]"},
		{"upstream without port", Config{Upstreams: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")}}, "Upstreams[0]"},
		{"timeout", Config{QueryTimeout: -1}, "QueryTimeout"},
		{"limit", Config{MaxInflight: -1}, "MaxInflight"},
		{"workers", Config{Workers: -1}, "Workers"},
		{"suffix", Config{HoldSuffixes: []string{"a..b"}}, "HoldSuffixes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := New(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error about %s", err, tt.want)
			}
		})
	}
}

// A socket that breaks ends the server with an error; the end of the context does not, whatever its cause.
func TestHowRunEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(s *Server, cancel context.CancelCauseFunc)
		want string
	}{
		{"context with a cause", func(_ *Server, cancel context.CancelCauseFunc) { cancel(errors.New("signal")) }, ""},
		{"udp socket", func(s *Server, _ context.CancelCauseFunc) { s.socks[0].udp.Close() }, "read from"},
		{"tcp socket", func(s *Server, _ context.CancelCauseFunc) { s.socks[0].tcp.Close() }, "accept on"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := New(Config{Listen: []netip.AddrPort{loopback0}, Upstreams: []netip.AddrPort{dead(t)}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			done := make(chan error)
			go func() { done <- s.Run(ctx) }()
			<-s.Ready()
			tt.end(s, cancel)
			if err := <-done; (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// A second agent is told, also one of the same user that shares its port among sockets too.
func TestPortInUse(t *testing.T) {
	s := start(t, Config{Workers: 3})
	other, err := New(Config{Listen: []netip.AddrPort{loopback0, s.Addrs()[0]}, Workers: 3})
	if err != nil {
		t.Fatal(err)
	}
	err = other.Run(t.Context())
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), s.Addrs()[0].String()) {
		t.Errorf("got %v, want an error that names the address", err)
	}
	if n := len(other.Addrs()); n != 0 {
		t.Errorf("%d addresses stay bound", n)
	}
}

func TestStream(t *testing.T) {
	release := make(chan struct{})
	up := fake(t, func(_ string, req *mdns.Msg, reply func([]byte)) {
		<-release
		reply(wire(answerA(req, "192.0.2.1")))
	})
	s := startMesh(t, Config{Upstreams: []netip.AddrPort{up.addr}, MaxConns: 2, IdleTimeout: 2 * time.Second})
	dial := func() *mdns.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", s.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		return &mdns.Conn{Conn: conn}
	}
	c := dial()
	slow, quick := question("example.com", mdns.TypeA), question("v4only.mesh", mdns.TypeA)
	var both []byte // in one segment, the second also split from its length
	for _, m := range []*mdns.Msg{slow, quick} {
		w := wire(m)
		both = append(binary.BigEndian.AppendUint16(both, uint16(len(w))), w...)
	}
	if _, err := c.Conn.Write(both); err != nil {
		t.Fatal(err)
	}
	if resp, err := c.ReadMsg(); err != nil || resp.Id != quick.Id {
		t.Fatalf("a query behind a slow one must not wait: got %v, %v", resp, err)
	}
	close(release)
	if resp, err := c.ReadMsg(); err != nil || resp.Id != slow.Id || len(resp.Answer) != 1 {
		t.Fatalf("got %v, %v", resp, err)
	}

	second := dial()
	if err := second.WriteMsg(quick); err != nil {
		t.Fatal(err)
	}
	if _, err := second.ReadMsg(); err != nil {
		t.Fatal(err)
	}
	third := dial()
	if _, err := third.Conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("connection beyond the limit: got %v, want it closed", err)
	}
	// A length that promises more than comes, fed slowly, holds nothing longer than the idle timeout.
	if _, err := second.Conn.Write([]byte{0xff, 0xff, 1}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, err := second.Conn.Read(make([]byte, 1)); err == nil {
		t.Error("got an answer to half a query")
	}
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("half a query kept the connection for %v", d)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := startMesh(t, Config{Upstreams: []netip.AddrPort{fake(t, nil).addr}, Metrics: reg})
	ask(t, s, "udp", question("v4only.mesh", mdns.TypeA))
	ask(t, s, "tcp", question("v4only.mesh", mdns.TypeAAAA))
	ask(t, s, "udp", question("example.com", mdns.TypeTXT))
	want := map[string]float64{
		"kuma_dp_dns_entries_total": 5, "kuma_dp_dns_upstreams_up": 1,
		"kuma_dp_dns_table_loads_total": 1, "kuma_dp_dns_socket_drops_total": 0,
		"kuma_dp_dns_queries_total A local": 1, "kuma_dp_dns_queries_total AAAA local": 1, "kuma_dp_dns_queries_total other upstream": 1,
		"kuma_dp_dns_response_codes_total noerror": 3, "kuma_dp_dns_response_codes_total servfail": 0,
		"kuma_dp_dns_request_duration_seconds": 3, "kuma_dp_dns_upstream_request_duration_seconds": 1,
		"kuma_dp_dns_upstream_request_failure_count": 0, "kuma_dp_dns_config_ready_wait_seconds": 1,
	}
	var got map[string]float64
	// The last answer is counted just after it is sent.
	waitFor(t, func() bool {
		got = gather(t, reg)
		return got["kuma_dp_dns_request_duration_seconds"] == 3
	})
	got = gather(t, reg) // the others may have been read before
	for name, v := range want {
		if g, ok := got[name]; !ok || g != v {
			t.Errorf("%s: got %v (%v), want %v", name, g, ok, v)
		}
	}
	age := func() float64 { return gather(t, reg)["kuma_dp_dns_table_age_seconds"] }
	before := age()
	waitFor(t, func() bool { return age() > before })
	before = age()
	s.SetTable(s.Table())
	if got := age() - before; got >= time.Since(s.created).Seconds()-before {
		t.Errorf("the age of a new table went on from that of the old one: %v more", got)
	}
}

func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			out[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return out
}
