//go:build linux

package dnslab

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	mdns "github.com/miekg/dns"
)

const (
	trueAddr  = "192.0.2.1"  // what the first upstream says when it says the truth
	otherAddr = "192.0.2.2"  // what the second says
	lieAddr   = "192.0.2.66" // what nobody may believe
)

// fault is something that an upstream does wrong.
type fault struct {
	name string
	// rule is what the firewall of the upstream does with packets to it, handle what the upstream does with those that
	// come. With neither nobody is there.
	rule   []string
	handle func(f *forger) handler
	noTCP  bool
	// alone is what a client learns when there is no other upstream, second when there is a good one.
	alone, second string
}

// forger sends packets in the name of the upstream, or nearly so.
type forger struct {
	t     testing.TB
	lab   lab
	addr  netip.Addr
	mu    sync.Mutex
	first func() // see late
}

func (f *forger) write(w mdns.ResponseWriter, m *mdns.Msg) {
	wire, err := m.Pack()
	if err != nil {
		f.t.Error(err)
		return
	}
	_, _ = w.Write(wire) // a client gone is the client's affair
}

// lies lies first and tells the truth afterwards, when truth is set.
func lies(truth bool, forge func(m *mdns.Msg)) func(f *forger) handler {
	return func(f *forger) handler {
		return func(w mdns.ResponseWriter, req *mdns.Msg) {
			m := answer(req, lieAddr)
			forge(m)
			f.write(w, m)
			if truth {
				f.write(w, answer(req, trueAddr))
			}
		}
	}
}

func wrongID(m *mdns.Msg)       { m.Id++ }
func wrongQuestion(m *mdns.Msg) { m.Question[0].Name = "other.example.org." }
func wrongType(m *mdns.Msg)     { m.Question[0].Qtype = mdns.TypeAAAA }
func wrongCase(m *mdns.Msg)     { m.Question[0].Name = strings.ToUpper(m.Question[0].Name) }
func noResponse(m *mdns.Msg)    { m.Response = false }
func noQuestion(m *mdns.Msg)    { m.Question = nil }

// spoofed answers from another address before the upstream does.
func spoofed(f *forger) handler {
	return func(w mdns.ResponseWriter, req *mdns.Msg) {
		wire, err := answer(req, lieAddr).Pack()
		if err != nil {
			f.t.Error(err)
			return
		}
		from := netip.AddrPortFrom(f.lab.up.Addr, 53).String()
		c, err := f.lab.up.DialContext(f.t.Context(), "udp", w.RemoteAddr().String()) // from the host's own address
		if err != nil || !strings.HasPrefix(c.LocalAddr().String(), f.lab.up.Addr.String()) {
			f.t.Errorf("spoof from %s: %v", from, err)
			return
		}
		defer c.Close()
		if _, err := c.Write(wire); err != nil {
			f.t.Error(err)
		}
		f.write(w, answer(req, trueAddr))
	}
}

// late answers a query only when the next one comes: by then nobody waits for it.
func late(f *forger) handler {
	return func(w mdns.ResponseWriter, req *mdns.Msg) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.first == nil {
			f.first = func() { f.write(w, answer(req, lieAddr)) }
			return
		}
		f.first()
		f.write(w, answer(req, trueAddr))
	}
}

// cutOff answers with the first bytes of an answer.
func cutOff(f *forger) handler {
	return func(w mdns.ResponseWriter, req *mdns.Msg) {
		wire, err := answer(req, lieAddr).Pack()
		if err != nil {
			f.t.Error(err)
		}
		_, _ = w.Write(wire[:len(wire)-6])
	}
}

// garbage answers with what is no message.
func garbage(*forger) handler {
	return func(w mdns.ResponseWriter, _ *mdns.Msg) { _, _ = w.Write([]byte("no message")) }
}

// truncates says over UDP that there is more.
func truncates(*forger) handler {
	return func(w mdns.ResponseWriter, req *mdns.Msg) {
		m := answer(req, trueAddr)
		if w.LocalAddr().Network() == "udp" {
			m.Truncated, m.Answer = true, nil
		}
		_ = w.WriteMsg(m)
	}
}

func plain(h handler) func(*forger) handler { return func(*forger) handler { return h } }

func faults() []fault {
	return []fault{
		{name: "none", handle: plain(says(trueAddr)), alone: trueAddr, second: trueAddr},
		{name: "dropped", rule: []string{"DROP"}, handle: plain(says(lieAddr)), alone: "SERVFAIL", second: otherAddr},
		{name: "port unreachable", alone: "SERVFAIL", second: otherAddr},
		{name: "host unreachable", rule: []string{"REJECT", "--reject-with", "icmp-host-unreachable"}, handle: plain(says(lieAddr)), alone: "SERVFAIL", second: otherAddr},
		{name: "SERVFAIL", handle: plain(code(mdns.RcodeServerFailure)), alone: "SERVFAIL", second: otherAddr},
		{name: "REFUSED", handle: plain(code(mdns.RcodeRefused)), alone: "REFUSED", second: otherAddr},
		{name: "NOTIMP", handle: plain(code(mdns.RcodeNotImplemented)), alone: "NOTIMP", second: otherAddr},
		{name: "NXDOMAIN is an answer", handle: plain(code(mdns.RcodeNameError)), alone: "NXDOMAIN", second: "NXDOMAIN"},
		{name: "truncated", handle: truncates, alone: trueAddr, second: trueAddr},
		{name: "wrong id", handle: lies(false, wrongID), alone: "SERVFAIL", second: otherAddr},
		{name: "wrong question", handle: lies(false, wrongQuestion), alone: "SERVFAIL", second: otherAddr},
		{name: "a query", handle: lies(false, noResponse), alone: "SERVFAIL", second: otherAddr},
		{name: "wrong id, then right", handle: lies(true, wrongID), alone: trueAddr, second: trueAddr},
		{name: "wrong question, then right", handle: lies(true, wrongQuestion), alone: trueAddr, second: trueAddr},
		{name: "wrong type, then right", handle: lies(true, wrongType), alone: trueAddr, second: trueAddr},
		{name: "wrong letter case, then right", handle: lies(true, wrongCase), alone: trueAddr, second: trueAddr},
		{name: "no question, then right", handle: lies(true, noQuestion), alone: trueAddr, second: trueAddr},
		{name: "spoofed, then right", handle: spoofed, noTCP: true, alone: trueAddr, second: trueAddr},
		{name: "late", handle: late, alone: trueAddr, second: otherAddr},
		{name: "cut off", handle: cutOff, alone: "SERVFAIL", second: otherAddr},
		{name: "garbage", handle: garbage, alone: "SERVFAIL", second: otherAddr},
	}
}

// TestFaults has the first upstream do all that upstreams do wrong (contract dns.md §5.4 item 6, demands F25). The client
// waits no longer than stub resolvers do and has to learn of the outcome by then.
func TestFaults(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	good := serve(t, l.up, l.address(t, 100), false, says(otherAddr))
	for i, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			addr := l.address(t, byte(1+i))
			if f.rule != nil {
				shell(t, l.up, "", "iptables", append([]string{"-A", "INPUT", "-d", addr.String(), "-j"}, f.rule...)...)
			}
			for _, c := range []struct {
				name, want string
				list       []netip.Addr
			}{{"alone", f.alone, []netip.Addr{addr}}, {"with a second", f.second, []netip.Addr{addr, good.addr}}} {
				t.Run(c.name, func(t *testing.T) {
					if f.handle != nil {
						serve(t, l.up, addr, f.noTCP, f.handle(&forger{t: t, lab: l, addr: addr}))
					}
					conf := t.TempDir() + "/resolv.conf"
					// Two tries of a second take less than the three of 1.5 s that are usual; TestSilence has those.
					writeFile(t, conf, nameservers(c.list...)+"options timeout:1 attempts:2\n")
					l.start(t, config{"ResolvConf": conf})
					r := l.digOne(t, "up.example.com", "A")
					if got := outcome(r); got != c.want {
						t.Errorf("got %s, want %s", got, c.want)
					}
					if r.Data.Status == "SERVFAIL" && f.name != "SERVFAIL" && (r.Data.OPT == nil || !strings.HasPrefix(r.Data.OPT.EDNS.EDE.Code, "23 ")) {
						t.Errorf("nothing says that the network failed: %+v", r.Data.OPT)
					}
					if got := l.digOne(t, "one.svc.mesh.local", "A").addrs(); !slices.Equal(got, []string{"241.0.0.2"}) {
						t.Errorf("a mesh name has %v", got)
					}
				})
			}
		})
	}
}

// outcome is the address of an answer or else its response code.
func outcome(r *reply) string {
	if a := r.addrs(); len(a) == 1 {
		return a[0]
	}
	return r.Data.Status
}

// TestSilence has upstreams that never answer, as many as there may be, with the usual times.
func TestSilence(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var dead []netip.Addr
	for i := range 10 {
		dead = append(dead, l.address(t, byte(1+i)))
		shell(t, l.up, "", "iptables", "-A", "INPUT", "-d", dead[i].String(), "-j", "DROP")
	}
	for _, n := range []int{1, 10} {
		conf := t.TempDir() + "/resolv.conf"
		writeFile(t, conf, nameservers(dead[:n]...))
		t.Run(nameOf(n), func(t *testing.T) {
			l.start(t, config{"ResolvConf": conf})
			if got := outcome(l.digOne(t, "up.example.com", "A")); got != "SERVFAIL" {
				t.Errorf("got %s", got)
			}
		})
	}
	// What is known to be silent is not asked for each client: only whether it is back, now and then.
	conf := t.TempDir() + "/resolv.conf"
	writeFile(t, conf, nameservers(dead[0]))
	l.start(t, config{"ResolvConf": conf})
	l.dig(t, "up.example.com", "A")
	before := dropped(t, l, dead[0])
	const questions = 100
	var args []string
	for range questions {
		args = append(args, "up.example.com", "A")
	}
	for _, r := range l.dig(t, args...) {
		if got := outcome(r); got != "SERVFAIL" {
			t.Errorf("got %s", got)
		}
	}
	if n := dropped(t, l, dead[0]) - before; n > questions/2 {
		t.Errorf("%d packets to a silent upstream for %d questions", n, questions)
	}
}

// dropped is how many packets to an address the firewall of the upstreams has dropped.
func dropped(t testing.TB, l lab, to netip.Addr) int {
	t.Helper()
	for line := range strings.Lines(shell(t, l.up, "", "iptables", "-vnxL", "INPUT")) {
		if f := strings.Fields(line); len(f) == 9 && f[2] == "DROP" && f[8] == to.String() {
			n, err := strconv.Atoi(f[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no rule for %s", to)
	return 0
}

func nameOf(n int) string { return map[int]string{1: "one", 10: "ten"}[n] }

// TestTruncationRelayed relays that there is more to the one who can ask over TCP.
func TestTruncationRelayed(t *testing.T) {
	l := newLab(t)
	up := serve(t, l.up, l.address(t, 1), false, truncates(nil))
	conf := t.TempDir() + "/resolv.conf"
	writeFile(t, conf, nameservers(up.addr))
	l.start(t, config{"ResolvConf": conf})
	if r := l.digOne(t, "+noedns", "+ignore", "up.example.com", "A"); !r.has("tc") || len(r.Data.Answer) != 0 || r.Data.OPT != nil {
		t.Errorf("without EDNS: flags %s, %v", r.Data.Flags, r.Data.Answer)
	}
	if n := up.tcp.Load(); n != 0 {
		t.Errorf("%d queries over TCP for a client that has not come over TCP", n)
	}
	if r := l.digOne(t, "+noedns", "up.example.com", "A"); r.Protocol != "TCP" || outcome(r) != trueAddr {
		t.Errorf("after that: %s over %s", outcome(r), r.Protocol)
	}
	if n := up.tcp.Load(); n != 1 {
		t.Errorf("%d queries over TCP, want 1", n)
	}
	// Who speaks EDNS may take more, so the resolver goes for it.
	if r := l.digOne(t, "+ignore", "up.example.com", "A"); r.Protocol != "UDP" || r.has("tc") || outcome(r) != trueAddr {
		t.Errorf("with EDNS: %s over %s, flags %s", outcome(r), r.Protocol, r.Data.Flags)
	}
}

// TestOutOfOrder has one question of a connection wait for another that comes after it: each is answered when its answer is
// there (RFC 7766 §6.2.1.1).
func TestOutOfOrder(t *testing.T) {
	l := newLab(t)
	released := make(chan struct{})
	release := sync.OnceFunc(func() { close(released) })
	up := serve(t, l.up, l.address(t, 1), false, func(w mdns.ResponseWriter, req *mdns.Msg) {
		if req.Question[0].Name == "slow.example.com." {
			<-released
		} else {
			release()
		}
		says(trueAddr)(w, req)
	})
	t.Cleanup(release) // nobody is left waiting when the test fails
	conf := t.TempDir() + "/resolv.conf"
	// Nobody asks twice.
	writeFile(t, conf, nameservers(up.addr)+"options timeout:30 attempts:1\n")
	l.start(t, config{"ResolvConf": conf, "QueryTimeout": patience})
	c := &mdns.Conn{Conn: l.dial(t, "tcp", "127.0.0.1:53")}
	for i, name := range []string{"slow.example.com.", "one.svc.mesh.local.", "other.example.com."} {
		m := new(mdns.Msg).SetQuestion(name, mdns.TypeA)
		m.Id = uint16(i)
		if err := c.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	var order []uint16
	for range 3 {
		m, err := c.ReadMsg()
		if err != nil {
			t.Fatalf("after %v: %v", order, err)
		}
		if want := map[uint16]string{0: trueAddr, 1: "241.0.0.2", 2: trueAddr}[m.Id]; first(m) != want {
			t.Errorf("question %d has %s, want %s", m.Id, first(m), want)
		}
		order = append(order, m.Id)
	}
	if order[0] != 1 {
		t.Errorf("answers came in the order %v, want that of the mesh first", order)
	}
}
