package dns

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

func TestAnswersOfTheMesh(t *testing.T) {
	s := startMesh(t, Config{Upstreams: []netip.AddrPort{dead(t)}})
	reverse4, _ := mdns.ReverseAddr("241.0.0.0")
	reverse6, _ := mdns.ReverseAddr("fd00::1")
	mapped := strings.Repeat("0.", 4) + "0.0.1.f.f.f.f.f." + strings.Repeat("0.", 20) + "ip6.arpa."
	unknown, _ := mdns.ReverseAddr("241.77.0.1")
	for _, tt := range []struct {
		name, qname string
		qtype       uint16
		want        []string // data of the answers
		wantCode    int
	}{
		{"a", "backend.svc.mesh.local", mdns.TypeA, []string{"241.0.0.0"}, 0},
		{"aaaa is the mapped address", "backend.svc.mesh.local", mdns.TypeAAAA, []string{"::ffff:241.0.0.0"}, 0},
		{"any", "backend.svc.mesh.local", mdns.TypeANY, []string{"241.0.0.0", "::ffff:241.0.0.0"}, 0},
		{"underscore", "backend_demo_svc_80.mesh", mdns.TypeA, []string{"240.0.0.1"}, 0},
		{"upper case in the table", "v6only.mesh", mdns.TypeAAAA, []string{"fd00::1"}, 0},
		{"upper case in the query", "BACKEND.svc.MESH.local", mdns.TypeA, []string{"241.0.0.0"}, 0},
		{"no aaaa", "v4only.mesh", mdns.TypeAAAA, nil, 0},
		{"no a", "v6only.mesh", mdns.TypeA, nil, 0},
		{"txt", "v4only.mesh", mdns.TypeTXT, nil, 0},
		{"mx", "v4only.mesh", mdns.TypeMX, nil, 0},
		{"srv", "v4only.mesh", mdns.TypeSRV, nil, 0},
		{"https", "v4only.mesh", mdns.TypeHTTPS, nil, 0},
		{"svcb", "v4only.mesh", mdns.TypeSVCB, nil, 0},
		{"caa", "v4only.mesh", mdns.TypeCAA, nil, 0},
		{"ds", "v4only.mesh", mdns.TypeDS, nil, 0},
		{"soa", "v4only.mesh", mdns.TypeSOA, nil, 0},
		{"ns", "v4only.mesh", mdns.TypeNS, nil, 0},
		{"unknown type", "v4only.mesh", 65280, nil, 0},
		{"ptr of a vip", reverse4, mdns.TypePTR, []string{"backend.svc.mesh.local."}, 0},
		{"ptr of a mapped vip", mapped, mdns.TypePTR, []string{"backend.svc.mesh.local."}, 0},
		{"ptr of an ipv6 vip", reverse6, mdns.TypePTR, []string{"V6only.mesh."}, 0},
		{"ptr in the range of vips", unknown, mdns.TypePTR, nil, mdns.RcodeNameError},
		{"any of a vip", reverse4, mdns.TypeANY, []string{"backend.svc.mesh.local."}, 0},
		{"txt of a vip", reverse4, mdns.TypeTXT, nil, 0},
		{"txt in the range of vips", unknown, mdns.TypeTXT, nil, mdns.RcodeNameError},
		{"transfer is refused", "example.com", mdns.TypeAXFR, nil, mdns.RcodeRefused},
		{"other names need an upstream", "example.com", mdns.TypeA, nil, mdns.RcodeServerFailure},
		{"child of a mesh name is not ours", "x.v4only.mesh", mdns.TypeA, nil, mdns.RcodeServerFailure},
	} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(tt.name+" over "+network, func(t *testing.T) {
				req := question(tt.qname, tt.qtype)
				resp := ask(t, s, network, req)
				if got := data(resp); !slices.Equal(got, tt.want) || resp.Rcode != tt.wantCode {
					t.Fatalf("got %v %s, want %v %s", got, mdns.RcodeToString[resp.Rcode], tt.want, mdns.RcodeToString[tt.wantCode])
				}
				if resp.Question[0] != req.Question[0] {
					t.Errorf("question came back as %v, want %v", resp.Question[0], req.Question[0])
				}
				if !resp.RecursionAvailable || !resp.RecursionDesired || resp.AuthenticatedData {
					t.Errorf("flags: %v", resp.MsgHdr)
				}
				if tt.wantCode == mdns.RcodeServerFailure || tt.wantCode == mdns.RcodeRefused {
					return
				}
				if !resp.Authoritative {
					t.Error("not authoritative")
				}
				for _, rr := range resp.Answer {
					if rr.Header().Ttl != 30 || rr.Header().Name != req.Question[0].Name {
						t.Errorf("record %v: want TTL 30 and the name as asked", rr)
					}
				}
				if len(tt.want) == 0 {
					soa, ok := resp.Ns[0].(*mdns.SOA)
					if !ok || soa.Minttl != 30 || soa.Hdr.Ttl != 30 {
						t.Errorf("authority is %v, want a SOA that lets clients remember for 30 s", resp.Ns)
					}
				}
			})
		}
	}
}

func data(m *mdns.Msg) []string {
	var out []string
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *mdns.A:
			out = append(out, rr.A.String())
		case *mdns.AAAA:
			out = append(out, netip.AddrFrom16([16]byte(rr.AAAA.To16())).String())
		case *mdns.PTR:
			out = append(out, rr.Ptr)
		default:
			out = append(out, rr.String())
		}
	}
	return out
}

// A resolver that mixes letter case to make forging harder rejects answers that change it.
func TestLetterCaseIsKept(t *testing.T) {
	s := startMesh(t, Config{Upstreams: []netip.AddrPort{dead(t)}})
	name := []byte("backend.svc.mesh.local.")
	var letters []int
	for i, c := range name {
		if 'a' <= c && c <= 'z' {
			letters = append(letters, i)
		}
	}
	for n := range 1000 {
		mixed := slices.Clone(name)
		for bit, at := range letters {
			if (n*2654435761)>>(bit%30)&1 == 1 {
				mixed[at] -= 'a' - 'A'
			}
		}
		resp := ask(t, s, "udp", question(string(mixed), mdns.TypeA))
		if resp.Question[0].Name != string(mixed) || len(resp.Answer) != 1 || resp.Answer[0].Header().Name != string(mixed) {
			t.Fatalf("asked %s, got %v", mixed, resp)
		}
	}
}

func TestSizes(t *testing.T) {
	s := startMesh(t, Config{Upstreams: []netip.AddrPort{dead(t)}})
	for _, tt := range []struct {
		name, network string
		bufsize       uint16 // 0: no EDNS
		wantCut       bool
		wantMax       int
	}{
		{"no edns", "udp", 0, true, 512},
		{"tiny edns counts as 512", "udp", 100, true, 512},
		{"edns too small", "udp", 600, true, 600},
		{"edns 1232", "udp", 1232, false, 1232},
		{"edns 4096", "udp", 4096, false, 4096},
		{"tcp", "tcp", 0, false, 65535},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := question("many.svc.mesh.local", mdns.TypeA)
			if tt.bufsize > 0 {
				req.SetEdns0(tt.bufsize, true)
			}
			resp := ask(t, s, tt.network, req)
			if resp.Truncated != tt.wantCut || (len(resp.Answer) == 60) == tt.wantCut {
				t.Fatalf("truncated %v with %d answers, want truncated %v", resp.Truncated, len(resp.Answer), tt.wantCut)
			}
			if len(resp.Answer) < 25 {
				t.Errorf("%d answers: more would have fitted", len(resp.Answer))
			}
			resp.Compress = true
			if n := resp.Len(); n > tt.wantMax {
				t.Errorf("%d bytes, want at most %d", n, tt.wantMax)
			}
			if opt := resp.IsEdns0(); (opt != nil) != (tt.bufsize > 0) || (opt != nil && (!opt.Do() || opt.UDPSize() != offeredUDP)) {
				t.Errorf("OPT is %v", opt)
			}
		})
	}
}

func TestEDNS(t *testing.T) {
	s := startMesh(t, Config{Upstreams: []netip.AddrPort{dead(t)}})
	t.Run("other version", func(t *testing.T) {
		req := question("v4only.mesh", mdns.TypeA)
		req.SetEdns0(1232, false)
		req.IsEdns0().SetVersion(1)
		if resp := ask(t, s, "udp", req); resp.Rcode != mdns.RcodeBadVers || resp.IsEdns0().Version() != 0 {
			t.Fatalf("got %v", resp)
		}
	})
	t.Run("unknown option is not sent back", func(t *testing.T) {
		req := question("v4only.mesh", mdns.TypeA)
		req.SetEdns0(1232, false)
		req.IsEdns0().Option = append(req.IsEdns0().Option, &mdns.EDNS0_LOCAL{Code: 65001, Data: []byte("x")}, &mdns.EDNS0_COOKIE{Code: 10, Cookie: "0102030405060708"})
		resp := ask(t, s, "udp", req)
		if len(resp.Answer) != 1 || len(resp.IsEdns0().Option) != 0 {
			t.Fatalf("got %v", resp)
		}
	})
	t.Run("failure says why", func(t *testing.T) {
		req := question("example.com", mdns.TypeA)
		req.SetEdns0(1232, false)
		resp := ask(t, s, "udp", req)
		ede, ok := resp.IsEdns0().Option[0].(*mdns.EDNS0_EDE)
		if resp.Rcode != mdns.RcodeServerFailure || !ok || ede.InfoCode != mdns.ExtendedErrorCodeNetworkError {
			t.Fatalf("got %v", resp)
		}
	})
}

func TestNotForUs(t *testing.T) {
	up := fake(t, nil)
	s := startMesh(t, Config{Upstreams: []netip.AddrPort{up.addr}})
	chaos := question("v4only.mesh", mdns.TypeA)
	chaos.Question[0].Qclass = mdns.ClassCHAOS
	notify := new(mdns.Msg).SetNotify("v4only.mesh.")
	two := question("v4only.mesh", mdns.TypeA)
	two.Question = append(two.Question, two.Question[0])
	none := question("v4only.mesh", mdns.TypeA)
	none.Question = nil
	for _, tt := range []struct {
		name string
		req  *mdns.Msg
		want int
	}{
		{"class", chaos, mdns.RcodeRefused},
		{"opcode", notify, mdns.RcodeNotImplemented},
		{"two questions", two, mdns.RcodeFormatError},
		{"no question", none, mdns.RcodeFormatError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp := raw(t, s, wire(tt.req))
			if got := int(resp[3] & rcodeMask); got != tt.want || binary.BigEndian.Uint16(resp) != tt.req.Id || resp[2]&0x80 == 0 {
				t.Fatalf("got code %d in %x, want %d", got, resp, tt.want)
			}
		})
	}
	if n := up.queries.Load(); n != 0 {
		t.Errorf("%d queries went upstream, want none", n)
	}
}

// raw sends bytes and returns what comes back.
func raw(t testing.TB, s *Server, msg []byte) []byte {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(s.Addrs()[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write(msg); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 65535)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func TestBeforeTheFirstTable(t *testing.T) {
	up := fake(t, rcodeReply(mdns.RcodeNameError))
	s := start(t, Config{Upstreams: []netip.AddrPort{up.addr}})
	for name, want := range map[string]int{
		"1.0.0.241.in-addr.arpa": mdns.RcodeServerFailure, "1.2.0.192.in-addr.arpa": mdns.RcodeNameError,
		"x.mesh": mdns.RcodeServerFailure, "a.svc.MESH.local": mdns.RcodeServerFailure, "mesh": mdns.RcodeServerFailure,
		"xmesh": mdns.RcodeNameError, "a.xmesh.local": mdns.RcodeNameError, "example.com": mdns.RcodeNameError,
	} {
		if resp := ask(t, s, "udp", question(name, mdns.TypeA)); resp.Rcode != want {
			t.Errorf("%s: got %s, want %s", name, mdns.RcodeToString[resp.Rcode], mdns.RcodeToString[want])
		}
	}
	select {
	case <-s.TableLoaded():
		t.Error("table is said to be loaded")
	default:
	}
	s.SetTable(NewTable(nil, 0))
	<-s.TableLoaded()
	if resp := ask(t, s, "udp", question("x.mesh", mdns.TypeA)); resp.Rcode != mdns.RcodeNameError {
		t.Errorf("after the table: got %s, want the upstream's answer", mdns.RcodeToString[resp.Rcode])
	}
}

func TestAnswerComesFromTheAddressAsked(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", "[::]:0"} {
		t.Run(listen, func(t *testing.T) {
			s := startMesh(t, Config{Listen: []netip.AddrPort{netip.MustParseAddrPort(listen)}, Upstreams: []netip.AddrPort{dead(t)}})
			ip := netip.MustParseAddr("127.0.0.2")
			if s.Addrs()[0].Addr().Is6() {
				ip = netip.IPv6Loopback()
			}
			// A connected socket takes answers from the address it asked only.
			conn, err := net.Dial("udp", netip.AddrPortFrom(ip, s.Addrs()[0].Port()).String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			c := &mdns.Conn{Conn: conn}
			if err := c.WriteMsg(question("v4only.mesh", mdns.TypeA)); err != nil {
				t.Fatal(err)
			}
			if resp, err := c.ReadMsg(); err != nil || len(resp.Answer) != 1 {
				t.Fatalf("got %v, %v", resp, err)
			}
		})
	}
}

func TestHotPathAllocatesNothing(t *testing.T) {
	var r responder
	r.table.Store(NewTable(records(), DefaultTTL))
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	msg := wire(question("backend.svc.mesh.local", mdns.TypeA))
	out := make([]byte, 0, maxUDP)
	var q query
	if n := testing.AllocsPerRun(100, func() {
		answer, v := r.respond(out, msg, &q, false)
		if v != answered {
			t.Fatal("not answered")
		}
		m.count(&q, answer, false)
	}); n != 0 {
		t.Errorf("%v allocations per query, want none", n)
	}
}

// sendOnly sends bytes that must not be answered.
func sendOnly(t testing.TB, s *Server, msg []byte) {
	t.Helper()
	conn, err := net.Dial("udp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(msg); err != nil {
		t.Fatal(err)
	}
	// The next answer is to the next query: packets of one socket are handled in order.
	if _, err := conn.Write(wire(question("v4only.mesh", mdns.TypeA))); err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 512)
	n, err := conn.Read(buf)
	if err != nil || n < headerLen || buf[3]&rcodeMask != rcodeOK {
		t.Fatalf("%x was answered: %x, %v", msg, buf[:n], err)
	}
}
