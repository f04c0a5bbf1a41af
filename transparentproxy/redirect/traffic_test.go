//go:build linux

package redirect_test

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
)

// newPair is a lab with a second host that serves on port 9000.
func newPair(t *testing.T, prefix, backend string) (*lab, *netlab.Host) {
	t.Helper()
	hosts := redirectlab.NewHosts(t, prefix, "mesh", "remote")
	l := &lab{Host: hosts[0], dir: t.TempDir() + "/state"}
	l.m = l.manager(t, backend, nil)
	return l, hosts[1]
}

// TestNothingEscapesWhenBackendsAreSwitched connects all the time.
func TestNothingEscapesWhenBackendsAreSwitched(t *testing.T) {
	l, remote := newPair(t, "rd-switch", redirect.Auto)
	s := redirectlab.NewServers(t)
	for _, a := range []string{"0.0.0.0", "[::]"} {
		s.TCP(l.Host, dpUID, a+":15001", "OUT", true)
		s.TCP(remote, 0, a+":9000", "remote", false)
	}
	l.apply(t, l.m, config(nil))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	counts := make([]int, 2)
	for i, a := range []netip.Addr{remote.Addr, remote.Addr6} {
		wg.Go(func() {
			to := netip.AddrPortFrom(a, 9000).String()
			for {
				if got := redirectlab.Probe(t.Context(), l.Host, redirectlab.AppUID, "tcp", to, ""); got != "OUT "+to {
					t.Errorf("a connection escaped: %s", got)
				}
				counts[i]++
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for i := range 12 { // from each to each
		backend := everyBackend[[]int{1, 0, 2, 1, 2, 0}[i%6]]
		if p := l.apply(t, l.manager(t, backend, nil), config(func(c *tp.Config) { c.DropInvalid = i%3 == 0 })); p.Backend != backend {
			t.Errorf("%s applied", p.Backend)
		}
	}
	close(stop)
	wg.Wait()
	if counts[0] < 20 || counts[1] < 20 {
		t.Errorf("only %v connections were made", counts)
	}
	l.wants(t, redirect.InSync)
}

// TestForeignEditsSurvive has another process add and remove 500 rules during 50 installations and removals.
func TestForeignEditsSurvive(t *testing.T) {
	for _, backend := range everyBackend {
		t.Run(backend, func(t *testing.T) {
			l := newLab(t, "rd-edits", backend)
			tool := backend
			if backend == "nftables" {
				tool = "iptables-nft" // the closest to it
			}
			// Of ten rules, five go again.
			cmd := l.Command(t.Context(), 0, "sh", "-ec", strings.ReplaceAll(`i=0; while [ $i -lt 333 ]; do i=$((i+1))
c=OUTPUT; [ $((i%3)) = 0 ] && c=PREROUTING
TOOL -t nat -I $c -p tcp --dport $i -m comment --comment "rule $i" -j ACCEPT
[ $((i%2)) = 0 ] && TOOL -t nat -D $c -p tcp --dport $i -m comment --comment "rule $i" -j ACCEPT
true; done`, "TOOL", tool+" -w 30"))
			out := new(strings.Builder)
			cmd.Stdout, cmd.Stderr = out, out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for i := range 25 {
				l.apply(t, l.m, config(func(c *tp.Config) { c.DNS.CaptureAll = i%2 == 0 }))
				l.remove(t, l.m)
			}
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			left := l.shell(t, tool+" -t nat -S | grep -c -- '--comment .rule'")
			if strings.TrimSpace(left) != "167" { // the odd ones
				t.Errorf("%s of 167 rules of others are there", strings.TrimSpace(left))
			}
			if all := l.shell(t, tool+"-save; nft list tables"); strings.Contains(all, "KUMA_MESH") || strings.Contains(all, "kuma_mesh") {
				t.Errorf("ours are left:\n%s", all)
			}
		})
	}
}

// TestConnectionsThatExistGoOn has the server of a connection speak first after an installation on a host that tracked no
// connection before, as the SSH server does that prints what the installation says.
func TestConnectionsThatExistGoOn(t *testing.T) {
	for _, backend := range everyBackend {
		t.Run(backend, func(t *testing.T) {
			l, remote := newPair(t, "rd-live", backend)
			for _, listen := range []string{"0.0.0.0:22", "[::]:8022"} { // the second takes both families
				ln, err := l.Listen("tcp", listen)
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				port := ln.Addr().(*net.TCPAddr).AddrPort().Port()
				to := []netip.AddrPort{netip.AddrPortFrom(l.Addr, port)}
				if port != 22 {
					to = append(to, netip.AddrPortFrom(l.Addr6, port))
				}
				for _, a := range to {
					client, err := remote.DialContext(t.Context(), "tcp", a.String())
					if err != nil {
						t.Fatal(err)
					}
					defer client.Close()
					server, err := ln.Accept()
					if err != nil {
						t.Fatal(err)
					}
					defer server.Close()
					l.apply(t, l.m, config(nil))
					say(t, server, client)
					say(t, client, server)
					l.remove(t, l.m)
					l.apply(t, l.m, config(nil))
					say(t, server, client)
					l.remove(t, l.m)
				}
			}
		})
	}
}

func say(t *testing.T, from, to net.Conn) {
	t.Helper()
	deadline(t, from)
	deadline(t, to)
	if _, err := from.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err := to.Read(buf); err != nil || string(buf) != "hello" {
		t.Errorf("%v to %v: %q, %v", from.LocalAddr(), to.LocalAddr(), buf, err)
	}
}
