package dns

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

func TestParseResolvConf(t *testing.T) {
	var tenServers string
	for i := range 10 {
		tenServers += fmt.Sprintf("nameserver 192.0.2.%d\n", i)
	}
	for _, tt := range []struct {
		name, in string
		want     resolvConf
	}{
		{"empty", "", resolvConf{}},
		{
			"servers in order, each once", "nameserver 192.0.2.1\n nameserver\t2001:db8::1 # two\nnameserver 192.0.2.1\n",
			resolvConf{servers: ports("192.0.2.1:53", "[2001:db8::1]:53")},
		},
		{"zone", "nameserver fe80::1%eth0", resolvConf{servers: ports("[fe80::1%eth0]:53")}},
		{
			"comments and garbage", "# nameserver 192.0.2.1\n;x\nnameserver\nnameserver x\nsearch a b\nNAMESERVER 192.0.2.2\nnameserver 192.0.2.3;x",
			resolvConf{servers: ports("192.0.2.3:53"), search: []string{"\x01a\x00", "\x01b\x00"}},
		},
		{"crlf", "nameserver 192.0.2.1\r\noptions rotate\r\n", resolvConf{servers: ports("192.0.2.1:53"), rotate: true}},
		{"no line end", "nameserver 192.0.2.1", resolvConf{servers: ports("192.0.2.1:53")}},
		{"only IPv6", "nameserver ::1\nnameserver 2001:db8::1\n", resolvConf{servers: ports("[::1]:53", "[2001:db8::1]:53")}},
		{
			"a line of 100 kB", "# " + strings.Repeat("x", 100_000) + "\nnameserver 192.0.2.1\n",
			resolvConf{servers: ports("192.0.2.1:53")},
		},
		{"ten servers", tenServers, resolvConf{servers: ports(
			"192.0.2.0:53", "192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53", "192.0.2.4:53", "192.0.2.5:53", "192.0.2.6:53", "192.0.2.7:53", "192.0.2.8:53", "192.0.2.9:53")}},
		{
			"the last search counts", "search a.example b.example\ndomain Corp.Example.\n",
			resolvConf{search: []string{"\x04corp\x07example\x00"}},
		},
		{"search for nothing", "search a.example\nsearch .\n", resolvConf{}},
		{
			"options that are not ours", "options ndots:5 edns0 trust-ad single-request single-request-reopen no-aaaa inet6\n",
			resolvConf{},
		},
		{
			"options", "options rotate timeout:2 attempts:4 use-vc edns0 ndots:5\n",
			resolvConf{timeout: 2 * time.Second, attempts: 4, rotate: true, useTCP: true},
		},
		{
			"options out of bounds", "options timeout:99 attempts:99\noptions timeout:x attempts:-1 timeout\n",
			resolvConf{timeout: 30 * time.Second, attempts: 5},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := parseResolvConf([]byte(tt.in)); !got.equal(tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	var many strings.Builder
	for i := range 50_000 {
		fmt.Fprintf(&many, "nameserver 10.0.%d.%d\nsearch%s\n", i/256, i%256, strings.Repeat(" x", 20))
	}
	if got := parseResolvConf([]byte(many.String())); len(got.servers) != maxServers || len(got.search) != maxSearch {
		t.Errorf("of 50,000 servers %d are used, of 20 domains %d", len(got.servers), len(got.search))
	}
}

func ports(s ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range s {
		out = append(out, netip.MustParseAddrPort(a))
	}
	return out
}

func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 192.0.2.1\noptions timeout:1 attempts:2 rotate\n"))
	f.Add([]byte("nameserver fe80::1%eth0 ; x\r\nsearch x\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		c := parseResolvConf(content)
		for i, s := range c.servers {
			if !s.IsValid() || s.Port() != 53 || slices.Contains(c.servers[:i], s) {
				t.Errorf("server %v", s)
			}
		}
		if len(c.servers) > maxServers || len(c.search) > maxSearch {
			t.Errorf("%d servers, %d domains", len(c.servers), len(c.search))
		}
		if c.timeout < 0 || c.timeout > 30*time.Second || c.attempts < 0 || c.attempts > 5 {
			t.Errorf("options %+v", c)
		}
		if !parseResolvConf(content).equal(c) {
			t.Error("read differently the second time")
		}
	})
}

func TestSystemdStubIsBypassed(t *testing.T) {
	dir := t.TempDir()
	stub, real := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "systemd.conf")
	write(t, stub, "nameserver 127.0.0.53\n")
	read := func() []netip.AddrPort {
		c, err := readUpstreams(stub, real)
		if err != nil {
			t.Fatal(err)
		}
		return c.servers
	}
	if got, want := read(), ports("127.0.0.53:53"); !slices.Equal(got, want) {
		t.Errorf("without systemd's file: got %v, want %v", got, want)
	}
	write(t, real, "nameserver 192.0.2.1\n")
	if got, want := read(), ports("192.0.2.1:53"); !slices.Equal(got, want) {
		t.Errorf("with it: got %v, want %v", got, want)
	}
	write(t, stub, "nameserver 127.0.0.54\noptions edns0\n")
	if got, want := read(), ports("192.0.2.1:53"); !slices.Equal(got, want) {
		t.Errorf("the other stub: got %v, want %v", got, want)
	}
	write(t, real, "# empty\n")
	if got, want := read(), ports("127.0.0.54:53"); !slices.Equal(got, want) {
		t.Errorf("systemd's file is empty: got %v, want %v", got, want)
	}
	write(t, stub, "nameserver 127.0.0.53\nnameserver 192.0.2.2\n")
	if got, want := read(), ports("127.0.0.53:53", "192.0.2.2:53"); !slices.Equal(got, want) {
		t.Errorf("stub and another: got %v, want %v", got, want)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replace is how Docker and NetworkManager write the file.
func replace(t *testing.T, path, content string) {
	t.Helper()
	write(t, path+".new", content)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestChangeOfResolvConfIsNoticed(t *testing.T) {
	conf := func(ip string) string { return "nameserver " + ip + "\n" }
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, path string)
		change  func(t *testing.T, path string, ip string)
	}{
		{
			"written in place", func(*testing.T, string) {},
			func(t *testing.T, path, ip string) { write(t, path, ""); write(t, path, conf(ip)) },
		},
		{
			"replaced", func(*testing.T, string) {},
			func(t *testing.T, path, ip string) { replace(t, path, conf(ip)) },
		},
		{"target of a link replaced", func(t *testing.T, path string) {
			target := filepath.Join(t.TempDir(), "target")
			if err := os.Rename(path, target); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T, path, ip string) {
			target, err := os.Readlink(path)
			if err != nil {
				t.Fatal(err)
			}
			replace(t, target, conf(ip))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "resolv.conf")
			write(t, path, conf("192.0.2.1"))
			tt.prepare(t, path)
			s := start(t, Config{ResolvConf: path})
			for _, ip := range []string{"192.0.2.2", "192.0.2.3", "192.0.2.4"} {
				tt.change(t, path, ip)
				want := ports(ip + ":53")
				waitFor(t, func() bool { return slices.Equal(s.Upstreams(), want) })
			}
		})
	}
}

func TestMissingResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	s := start(t, Config{ResolvConf: path})
	if got := s.Upstreams(); len(got) != 0 {
		t.Fatalf("got %v", got)
	}
	write(t, path, "nameserver 192.0.2.1\n")
	waitFor(t, func() bool { return len(s.Upstreams()) == 1 })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, path, strings.Repeat("#", maxResolvConf+1)) // noticed after the removal, and no more use
	write(t, path, "nameserver 192.0.2.2\n")
	waitFor(t, func() bool { return slices.Equal(s.Upstreams(), ports("192.0.2.2:53")) })
}

// Queries while resolv.conf is replaced again and again are all answered, by servers of either file.
func TestResolvConfReplacedUnderLoad(t *testing.T) {
	one, two := fake(t, nil), fake(t, nil)
	s := start(t, Config{CacheBytes: -1})
	confs := []resolvConf{
		{servers: []netip.AddrPort{one.addr}}, {servers: []netip.AddrPort{two.addr, one.addr}}, {servers: []netip.AddrPort{two.addr}, rotate: true},
	}
	s.fwd.use(s.fwd.ctx, confs[0])
	done := make(chan struct{})
	for range 3 {
		go func() {
			for i := range 200 {
				if got := ask(t, s, []string{"udp", "tcp"}[i%2], question(fmt.Sprintf("n%d.example", i), mdns.TypeA)); len(got.Answer) != 1 {
					t.Errorf("got %v", got)
				}
			}
			done <- struct{}{}
		}()
	}
	for left, i := 3, 0; left > 0; i++ {
		select {
		case <-done:
			left--
		default:
			s.fwd.use(s.fwd.ctx, confs[i%len(confs)])
			runtime.Gosched()
		}
	}
	if one.queries.Load() == 0 || two.queries.Load() == 0 {
		t.Errorf("asked %d and %d times: the list did not change", one.queries.Load(), two.queries.Load())
	}
}

// What is no file, or too large for one, is refused without being read.
func TestUnreadableResolvConf(t *testing.T) {
	dir := t.TempDir()
	pipe, large := filepath.Join(dir, "pipe"), filepath.Join(dir, "large")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, large, "nameserver 192.0.2.1\n")
	if err := os.Truncate(large, 1<<40); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "missing"): "no such file", dir: "not a file", pipe: "not a file", "/dev/zero": "not a file", large: "more than",
	} {
		if _, err := readUpstreams(path, path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
		s := start(t, Config{ResolvConf: path})
		if got := ask(t, s, "udp", question("x.example", mdns.TypeA)); got.Rcode != mdns.RcodeServerFailure {
			t.Errorf("%s: got %v", path, got)
		}
	}
}
