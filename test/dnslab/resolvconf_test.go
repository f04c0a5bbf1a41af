//go:build linux

package dnslab

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// unique makes names that nobody can have remembered.
type unique struct{ n int }

func (u *unique) name() string {
	u.n++
	return fmt.Sprintf("n%d.up.example.com", u.n)
}

// until asks for other names until an upstream says what it should.
func (l lab) until(t testing.TB, names *unique, want string) {
	t.Helper()
	late := time.Now().Add(patience)
	for {
		got := first(l.ask(t, "udp", names.name(), mdns.TypeA))
		if got == want {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
}

// TestResolvConf is every kind of resolv.conf that hosts have (demands F24): names of the mesh resolve with all, and others as
// far as somebody can be asked. What cannot be asked is told while the client waits.
func TestResolvConf(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var list []netip.Addr
	for i := range 9 {
		list = append(list, l.address(t, byte(1+i)))
		shell(t, l.up, "", "iptables", "-A", "INPUT", "-d", list[i].String(), "-j", "DROP")
	}
	good := serve(t, l.up, l.address(t, 100), false, says(trueAddr))
	six := serve(t, l.up, l.up.Addr6, false, says(otherAddr))
	stub := serve(t, l.app, netip.MustParseAddr("127.0.0.53"), false, says("192.0.2.53"))
	for _, c := range []struct {
		name, text, systemd string
		missing             bool
		want                string
	}{
		{name: "missing", missing: true, want: "SERVFAIL"},
		{name: "empty", want: "SERVFAIL"},
		{name: "no name server", text: "search example.com\noptions ndots:5\n", want: "SERVFAIL"},
		{name: "not a resolv.conf", text: "\x00\xff\x00nameserver\nnameserver\nnameserver x\nnameserver 300.1.1.1\n", want: "SERVFAIL"},
		{name: "one bad line", text: "nameserver x\n" + nameservers(good.addr), want: trueAddr},
		{name: "no end of line", text: "nameserver " + good.addr.String(), want: trueAddr},
		{name: "itself", text: "nameserver 127.0.0.1\n", want: "SERVFAIL"},
		{name: "itself over IPv6", text: "nameserver ::1\n", want: "SERVFAIL"},
		{name: "itself and another", text: "nameserver 127.0.0.1\nnameserver ::1\n" + nameservers(good.addr), want: trueAddr},
		{name: "only IPv6", text: nameservers(six.addr), want: otherAddr},
		{name: "ten, the last good", text: nameservers(append(slices.Clone(list), good.addr)...), want: trueAddr},
		{name: "stub of systemd-resolved", text: "nameserver 127.0.0.53\n", systemd: nameservers(good.addr), want: trueAddr},
		{name: "stub without what is behind", text: "nameserver 127.0.0.53\n", want: "192.0.2.53"},
		{name: "stub and another", text: "nameserver 127.0.0.53\n" + nameservers(good.addr), systemd: nameservers(six.addr), want: "192.0.2.53"},
		{name: "over TCP", text: nameservers(good.addr) + "options use-vc\n", want: trueAddr},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			conf, systemd := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "systemd.conf")
			if !c.missing {
				writeFile(t, conf, c.text)
			}
			if c.systemd != "" {
				writeFile(t, systemd, c.systemd)
			}
			before := good.tcp.Load()
			l.start(t, config{"ResolvConf": conf, "SystemdConf": systemd})
			if got := outcome(l.digOne(t, "up.example.com", "A")); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if got := l.digOne(t, "one.svc.mesh.local", "A").addrs(); !slices.Equal(got, []string{"241.0.0.2"}) {
				t.Errorf("a mesh name has %v", got)
			}
			if overTCP := good.tcp.Load() > before; overTCP != strings.Contains(c.text, "use-vc") {
				t.Errorf("asked over TCP: %v", overTCP)
			}
			// Whatever it was, a good one counts at once.
			writeFile(t, conf, nameservers(good.addr))
			l.until(t, &unique{}, trueAddr)
		})
	}
	if stub.queries.Load() == 0 {
		t.Error("the stub was never asked")
	}
}

// TestUsualPlaces leaves the configuration as it is: upstreams are in /etc/resolv.conf, and the resolver serves its port on
// loopback of both families and nothing else.
func TestUsualPlaces(t *testing.T) {
	l := newLab(t)
	ups := []*upstream{serve(t, l.up, l.address(t, 1), false, says(trueAddr)), serve(t, l.up, l.address(t, 2), false, says(otherAddr))}
	if err := l.app.SetResolvConf(nameservers(ups[0].addr)); err != nil {
		t.Fatal(err)
	}
	startResolver(t, l.app, program("resolver"), config{}).use(records())
	for _, server := range []string{"@127.0.0.1", "@::1"} {
		if got := outcome(l.digOne(t, server, "-p", "15053", "up.example.com", "A")); got != trueAddr {
			t.Errorf("%s: got %s, want %s", server, got, trueAddr)
		}
	}
	var listening []string
	for line := range strings.Lines(shell(t, l.app, "", "ss", "-lntuH")) {
		f := strings.Fields(line)
		listening = append(listening, f[0]+" "+f[4])
	}
	slices.Sort(listening)
	// Several sockets may share an address.
	if got, want := slices.Compact(listening), []string{"tcp 127.0.0.1:15053", "tcp [::1]:15053", "udp 127.0.0.1:15053", "udp [::1]:15053"}; !slices.Equal(got, want) {
		t.Errorf("the host listens on %v, want %v", got, want)
	}
	// From the other host nobody is there.
	for _, network := range []string{"udp", "tcp"} {
		if answer, err := l.fromOutside(t, network, netip.AddrPortFrom(l.app.Addr, 15053)); err == nil {
			t.Errorf("answered over %s to another host: %x", network, answer)
		}
	}
}

// fromOutside asks from the upstreams' host; an answer or a refusal comes at once.
func (l lab) fromOutside(t testing.TB, network string, to netip.AddrPort) ([]byte, error) {
	t.Helper()
	c, err := l.up.DialContext(t.Context(), network, to.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	conn := &mdns.Conn{Conn: c}
	if err := conn.WriteMsg(new(mdns.Msg).SetQuestion("one.svc.mesh.local.", mdns.TypeA)); err != nil {
		return nil, err
	}
	answer := make([]byte, 512)
	n, err := c.Read(answer)
	return answer[:n], err
}

// TestRedirectedToItself captures all DNS of the host, the resolver's too, as a wrong user of the agent does. Its own queries
// come back; it notices, and its clients learn of it instead of waiting.
func TestRedirectedToItself(t *testing.T) {
	l := newLab(t)
	up := serve(t, l.up, l.address(t, 1), false, says(trueAddr))
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	writeFile(t, conf, nameservers(up.addr))
	for _, proto := range []string{"udp", "tcp"} {
		shell(t, l.app, "", "iptables", "-t", "nat", "-A", "OUTPUT", "-p", proto, "--dport", "53", "-j", "REDIRECT", "--to-ports", "15053")
	}
	r := l.start(t, config{"ResolvConf": conf, "Listen": []string{"127.0.0.1:15053"}})
	for range 3 {
		got := l.digOne(t, "@"+up.addr.String(), "up.example.com", "A")
		if got.Data.Status != "SERVFAIL" || got.Data.OPT == nil || !strings.HasPrefix(got.Data.OPT.EDNS.EDE.Code, "22 ") {
			t.Errorf("got %s, OPT %+v", outcome(got), got.Data.OPT)
		}
	}
	if got := outcome(l.digOne(t, "@"+up.addr.String(), "one.svc.mesh.local", "A")); got != "241.0.0.2" {
		t.Errorf("a mesh name has %s", got)
	}
	if n := up.queries.Load(); n != 0 {
		t.Errorf("the upstream was asked %d times: nothing was redirected", n)
	}
	r.log.until(t, "sends queries back")
}

// TestSourceAddress asks at every address of a host whose resolver serves all: each answers for itself (§5.4 item 10). The
// client is on another host, where the kernel would choose one and the same source for all.
func TestSourceAddress(t *testing.T) {
	l := newLab(t)
	second, second6 := netip.MustParseAddr("10.99.1.1"), netip.MustParseAddr("fd00:99:1::1")
	for _, a := range []netip.Addr{second, second6} {
		if err := l.app.AddAddress(a); err != nil {
			t.Fatal(err)
		}
	}
	l.start(t, config{"Listen": []string{"0.0.0.0:53", "[::]:53"}})
	for _, a := range []netip.Addr{l.app.Addr, second, l.app.Addr6, second6} {
		// The kernel gives a connected socket only packets from where it is connected to.
		if answer, err := l.fromOutside(t, "udp", netip.AddrPortFrom(a, 53)); err != nil || len(answer) < 40 {
			t.Errorf("%s: %x, %v", a, answer, err)
		}
		out := shell(t, l.up, "", "dig", "+short", "+tries=1", "+timeout=5", "-r", "@"+a.String(), "one.svc.mesh.local", "A")
		if strings.TrimSpace(out) != "241.0.0.2" {
			t.Errorf("dig at %s: %s", a, out)
		}
	}
}
