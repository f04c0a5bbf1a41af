//go:build linux

package iptables

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	dpUID   = 5678
	appUID  = 1000
	freeUID = 2000
)

// patience bounds every wait for a packet.
const patience = 5 * time.Second

// silence is how long to wait before deciding that no answer comes.
const silence = 300 * time.Millisecond

func newHosts(t testing.TB, prefix string, names ...string) []*netlab.Host {
	t.Helper()
	netlab.RequireRoot(t)
	lab, err := netlab.New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	var hosts []*netlab.Host
	for _, n := range names {
		h, err := lab.AddHost(n, netlab.IPv6())
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	return hosts
}

// newBackend makes a backend that knows only these flavours.
func newBackend(t testing.TB, only ...Flavour) *Backend {
	t.Helper()
	b, err := New(t.Context(), Config{Wait: DefaultWait, StateDir: t.TempDir() + "/state"})
	if err != nil {
		t.Fatal(err)
	}
	b.tools = slices.DeleteFunc(b.tools, func(x tool) bool { return !slices.Contains(only, x.flavour) })
	if want := 2 * len(only); len(b.tools) != want {
		t.Fatalf("found %d tools for %v, want %d; install the package iptables", len(b.tools), only, want)
	}
	return b
}

func facts() tp.Host {
	return tp.Host{UID: dpUID, IPv6: true, ConntrackZones: true, Nameservers: []netip.Addr{
		netip.MustParseAddr("10.255.0.53"), netip.MustParseAddr("127.0.0.11"), netip.MustParseAddr("fd00:53::53"),
	}}
}

func newPlan(t testing.TB, set func(*tp.Config)) *tp.Plan {
	t.Helper()
	cfg := tp.DefaultConfig()
	if set != nil {
		set(&cfg)
	}
	p, err := tp.NewPlan(cfg, facts())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ports(t testing.TB, s string) tp.Ports {
	t.Helper()
	p, err := tp.ParsePorts(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func apply(t testing.TB, h *netlab.Host, b *Backend, p *tp.Plan) {
	t.Helper()
	if err := h.Do(func() error { return b.Apply(t.Context(), p) }); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, h *netlab.Host, b *Backend) bool {
	t.Helper()
	var removed bool
	if err := h.Do(func() (err error) { removed, err = b.Remove(t.Context()); return err }); err != nil {
		t.Fatal(err)
	}
	return removed
}

func check(t testing.TB, h *netlab.Host, b *Backend, p *tp.Plan) []Difference {
	t.Helper()
	var d []Difference
	if err := h.Do(func() (err error) { d, err = b.Check(t.Context(), p); return err }); err != nil {
		t.Fatal(err)
	}
	return d
}

func shell(t testing.TB, h *netlab.Host, input, script string) string {
	t.Helper()
	cmd := h.Command(context.WithoutCancel(t.Context()), 0, "sh", "-ec", script)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// snapshot is everything an installation could change.
func snapshot(t testing.TB, h *netlab.Host) string {
	t.Helper()
	out := shell(t, h, "", `for f in nft legacy; do iptables-$f-save -c; ip6tables-$f-save -c; done 2>/dev/null
nft list ruleset 2>/dev/null; ip -o addr; ip rule; ip -6 rule; ip route; ip -6 route`)
	var lines []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "#") { // dates
			continue
		}
		// The built-in chains of the legacy flavour count whatever the kernel sends by itself, such as neighbour discovery.
		if f := strings.Fields(line); len(f) == 3 && line[0] == ':' {
			line = f[0] + " " + f[1] + "\n"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

// servers answers connections and packets in namespaces with a word that says who it is.
type servers struct {
	t       *testing.T
	wg      sync.WaitGroup
	sockets []io.Closer
}

func newServers(t *testing.T) *servers {
	t.Helper()
	s := &servers{t: t}
	t.Cleanup(func() {
		for _, c := range s.sockets {
			_ = c.Close() // only ends the loop
		}
		s.wg.Wait()
	})
	return s
}

// tcp answers with the word and, for a redirected connection, its original destination.
func (s *servers) tcp(h *netlab.Host, uid int, addr, word string, original bool) {
	s.t.Helper()
	var l net.Listener
	if err := h.DoAs(uid, func() (err error) { l, err = net.Listen(network("tcp", addr), addr); return err }); err != nil {
		s.t.Fatal(err)
	}
	s.sockets = append(s.sockets, l)
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			answer := word
			if original {
				answer += " " + originalDestination(c.(*net.TCPConn))
			}
			_, _ = io.WriteString(c, answer) // a client that went away is noticed by the client
			_ = c.Close()
		}
	})
}

func (s *servers) udp(h *netlab.Host, uid int, addr, word string) {
	s.t.Helper()
	var c net.PacketConn
	if err := h.DoAs(uid, func() (err error) { c, err = net.ListenPacket(network("udp", addr), addr); return err }); err != nil {
		s.t.Fatal(err)
	}
	s.sockets = append(s.sockets, c)
	s.wg.Go(func() {
		buf := make([]byte, 512)
		for {
			_, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo([]byte(word), from)
		}
	})
}

func network(proto, addr string) string {
	if netip.MustParseAddrPort(addr).Addr().Is4() {
		return proto + "4"
	}
	return proto + "6"
}

// originalDestination reads SO_ORIGINAL_DST as Envoy does.
func originalDestination(c *net.TCPConn) string {
	raw, err := c.SyscallConn()
	if err != nil {
		return err.Error()
	}
	const soOriginalDst = 80
	var out string
	err = raw.Control(func(fd uintptr) {
		var sa unix.RawSockaddrAny
		size := uint32(unsafe.Sizeof(sa))
		level := unix.SOL_IP
		if strings.HasPrefix(c.LocalAddr().String(), "[") {
			level = unix.SOL_IPV6
		}
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, uintptr(level), soOriginalDst,
			uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno != 0:
			out = errno.Error()
		case sa.Addr.Family == unix.AF_INET:
			v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sa))
			out = netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), swap(v4.Port)).String()
		default:
			v6 := (*unix.RawSockaddrInet6)(unsafe.Pointer(&sa))
			out = netip.AddrPortFrom(netip.AddrFrom16(v6.Addr), swap(v6.Port)).String()
		}
	})
	if err != nil {
		return err.Error()
	}
	return out
}

func swap(port uint16) uint16 { return port>>8 | port<<8 }

// probe connects or sends a packet as a user and returns who answered, or why nobody did.
func probe(ctx context.Context, h *netlab.Host, uid int, proto, addr, local string) string {
	var c net.Conn
	err := h.DoAs(uid, func() (err error) {
		d := net.Dialer{Timeout: patience}
		if local != "" {
			p := netip.MustParseAddrPort(local)
			d.LocalAddr = net.TCPAddrFromAddrPort(p)
			if proto == "udp" {
				d.LocalAddr = net.UDPAddrFromAddrPort(p)
			}
		}
		c, err = d.DialContext(ctx, proto, addr)
		return err
	})
	if err != nil {
		return fmt.Sprintf("no connection: %v", err)
	}
	defer c.Close()
	wait := patience
	if proto == "udp" {
		wait = silence
		if _, err := io.WriteString(c, "?"); err != nil {
			return err.Error()
		}
	}
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err.Error()
	}
	buf := make([]byte, 512)
	n, err := c.Read(buf)
	if err != nil {
		return fmt.Sprintf("no answer: %v", err)
	}
	return string(buf[:n])
}
