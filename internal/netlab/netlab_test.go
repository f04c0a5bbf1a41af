//go:build linux

package netlab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// crashEnv makes the test binary set up a lab with this prefix and then kill itself.
const crashEnv = "NETLAB_TEST_CRASH"

func TestMain(m *testing.M) {
	if prefix := os.Getenv(crashEnv); prefix != "" {
		crash(prefix)
	}
	goleak.VerifyTestMain(m)
}

func crash(prefix string) {
	lab, err := New(prefix)
	exitOn(err)
	h, err := lab.AddHost("a", IPv6())
	exitOn(err)
	exitOn(h.SetResolvConf("nameserver 10.1.1.1\n"))
	cmd := h.Command(context.Background(), 0, "sh", "-c", "sleep 600 >/dev/null 2>&1 & echo started")
	out, err := cmd.Output()
	exitOn(err)
	fmt.Print(string(out))
	exitOn(unix.Kill(os.Getpid(), unix.SIGKILL))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

func newLab(t *testing.T, prefix string) *Lab {
	t.Helper()
	RequireRoot(t)
	lab, err := New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	return lab
}

func addHost(t *testing.T, lab *Lab, name string, opts ...Option) *Host {
	t.Helper()
	h, err := lab.AddHost(name, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// traces lists everything of a prefix that can be seen on the machine.
func traces(t *testing.T, prefix string) []string {
	t.Helper()
	var found []string
	for _, glob := range []string{
		filepath.Join(netnsRoot, prefix+"-*"), filepath.Join(etcRoot, prefix+"-*"), filepath.Join(stateRoot, prefix+"*"),
	} {
		m, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, m...)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "/"+prefix+"-") {
			found = append(found, "mount "+line)
		}
	}
	return found
}

func linkNames(t *testing.T) []string {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, l := range links {
		names = append(names, l.Attrs().Name)
	}
	return names
}

// talk sends a line from one host to a listener on another.
func talk(t *testing.T, from, to *Host, addr netip.Addr) {
	t.Helper()
	l, err := to.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := from.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	got, err := bufio.NewReader(peer).ReadString('\n')
	if err != nil || got != "hello\n" {
		t.Fatalf("got %q, %v", got, err)
	}
	if got := netip.MustParseAddrPort(peer.RemoteAddr().String()).Addr(); got != from.Addr && got != from.Addr6 {
		t.Errorf("peer is %v, want %v or %v", got, from.Addr, from.Addr6)
	}
}

func TestHostsReachEachOther(t *testing.T) {
	before := linkNames(t)
	lab := newLab(t, "nlreach")
	a := addHost(t, lab, "a", IPv6())
	b := addHost(t, lab, "a-host-with-a-long-name", IPv6())
	far := addHost(t, lab, "far", IPv6(), Subnet(netip.MustParsePrefix("10.78.3.0/24")))
	if got, want := a.Addr.String()+" "+b.Addr.String()+" "+far.Addr.String(), "10.77.0.2 10.77.0.3 10.78.3.2"; got != want {
		t.Errorf("addresses are %s, want %s", got, want)
	}
	if got, want := far.Addr6.String(), "fd00:78:3::2"; got != want {
		t.Errorf("IPv6 address is %s, want %s", got, want)
	}
	extra4, extra6 := netip.MustParseAddr("10.255.0.53"), netip.MustParseAddr("fd00:53::53")
	for _, x := range []netip.Addr{extra4, extra6} {
		if err := far.AddAddress(x); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name     string
		from, to *Host
		addr     netip.Addr
	}{
		{"same subnet", a, b, b.Addr},
		{"same subnet IPv6", a, b, b.Addr6},
		{"other subnet", a, far, far.Addr},
		{"other subnet IPv6", far, a, a.Addr6},
		{"extra address", a, far, extra4},
		{"extra address IPv6", a, far, extra6},
		{"itself", a, a, a.Addr},
	} {
		t.Run(tc.name, func(t *testing.T) { talk(t, tc.from, tc.to, tc.addr) })
	}
	if diff := cmp.Diff(before, linkNames(t)); diff != "" {
		t.Errorf("links of the machine changed:\n%s", diff)
	}
}

func TestCommandRunsInTheNamespaceAsUser(t *testing.T) {
	lab := newLab(t, "nlcmd")
	h := addHost(t, lab, "a")
	if err := h.SetResolvConf("nameserver 10.9.9.9\n"); err != nil {
		t.Fatal(err)
	}
	script := "cat /etc/resolv.conf; id -u; id -G; hostname -I 2>/dev/null || ip -4 -o addr show dev " + Interface
	out, err := h.Command(t.Context(), 5678, "sh", "-c", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, want := string(out), "nameserver 10.9.9.9\n5678\n5678\n"; !strings.HasPrefix(got, want) || !strings.Contains(got, h.Addr.String()) {
		t.Errorf("got %q, want %q and the address %v", got, want, h.Addr)
	}
	out, err = h.Command(t.Context(), 0, "id", "-u").CombinedOutput()
	if err != nil || string(out) != "0\n" {
		t.Errorf("got %q, %v, want root", out, err)
	}
	status, err := h.Command(t.Context(), 7, "grep", "-c", "eth0", "/proc/net/dev").Output()
	if err != nil || string(status) != "1\n" {
		t.Errorf("eth0 is not in the namespace: %q, %v", status, err)
	}
}

func TestCommandIsKilledWithItsContext(t *testing.T) {
	lab := newLab(t, "nlkill")
	h := addHost(t, lab, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cmd := h.Command(ctx, 5678, "sh", "-c", "sleep 600 & echo started; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "started\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	cancel()
	// The pipe ends only when the grandchild is gone as well.
	if _, err := io.ReadAll(out); err != nil && !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the command ended well, want killed")
	}
}

func TestDoAsOwnsSockets(t *testing.T) {
	lab := newLab(t, "nldoas")
	h := addHost(t, lab, "a")
	l, err := h.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := h.DialAs(t.Context(), 4321, "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if cerr := raw.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	if st.Uid != 4321 {
		t.Errorf("socket is owned by uid %d, want 4321", st.Uid)
	}
	if _, err := h.DialContext(t.Context(), "tcp", "localhost:1"); err == nil || !strings.Contains(err.Error(), "numeric") {
		t.Errorf("dialing a name: got %v, want a refusal", err)
	}
}

func TestDoReturnsToTheFirstNamespace(t *testing.T) {
	lab := newLab(t, "nldo")
	h := addHost(t, lab, "a")
	here := func() string {
		s, err := os.Readlink(threadNamespace)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	before, inside := here(), ""
	boom := errors.New("boom")
	if err := h.Do(func() error { inside = here(); return boom }); !errors.Is(err, boom) {
		t.Errorf("got %v, want the function's error", err)
	}
	if inside == before {
		t.Error("the function did not run in another namespace")
	}
	if after := here(); after != before {
		t.Errorf("the thread is in %s, want %s", after, before)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	lab := newLab(t, "nlclose")
	h := addHost(t, lab, "a", IPv6())
	if err := h.SetEtc("hosts", "10.0.0.1 x\n"); err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(context.Background(), 0, "sh", "-c", "sleep 600 & echo started; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if len(traces(t, "nlclose")) == 0 {
		t.Fatal("the test looks at the wrong places: nothing of a live lab is seen")
	}
	for range 2 {
		if err := lab.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the command ended with %v, want killed", err)
	}
	if got := traces(t, "nlclose"); len(got) > 0 {
		t.Errorf("left behind: %q", got)
	}
	if _, err := lab.AddHost("late"); err == nil {
		t.Error("a closed lab took a host")
	}
}

func TestSweepAfterCrash(t *testing.T) {
	RequireRoot(t)
	const prefix = "nlcrash"
	if err := Sweep(prefix); err != nil {
		t.Fatal(err)
	}
	for _, clean := range []struct {
		name string
		with func() error
	}{
		{"Sweep", func() error { return Sweep(prefix) }},
		{"New", func() error {
			lab, err := New(prefix)
			if err != nil {
				return err
			}
			return lab.Close()
		}},
	} {
		t.Run(clean.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), crashEnv+"="+prefix)
			out, err := cmd.CombinedOutput()
			if err == nil || string(out) != "started\n" {
				t.Fatalf("the crashing run: %v, %s", err, out)
			}
			survivor, err := exec.CommandContext(t.Context(), "ip", "netns", "pids", prefix+"-a").Output()
			if err != nil || len(strings.Fields(string(survivor))) != 1 {
				t.Fatalf("after the crash got processes %q, %v; want one", survivor, err)
			}
			if err := clean.with(); err != nil {
				t.Fatal(err)
			}
			if got := traces(t, prefix); len(got) > 0 {
				t.Errorf("left behind: %q", got)
			}
			// A process that ended and was not reaped yet has no namespace any more.
			if _, err := os.Readlink("/proc/" + strings.TrimSpace(string(survivor)) + "/ns/net"); err == nil {
				t.Error("the process in the namespace is alive")
			}
		})
	}
}

func TestLiveLabIsNotSwept(t *testing.T) {
	lab := newLab(t, "nlbusy")
	a := addHost(t, lab, "a")
	if err := Sweep("nlbusy"); !errors.Is(err, ErrInUse) {
		t.Errorf("Sweep: got %v, want ErrInUse", err)
	}
	if _, err := New("nlbusy"); !errors.Is(err, ErrInUse) {
		t.Errorf("New: got %v, want ErrInUse", err)
	}
	if err := Sweep("nl"); err != nil { // a prefix of the prefix is another lab
		t.Error(err)
	}
	talk(t, a, a, a.Addr)
}

func TestForeignNamespaceIsLeftAlone(t *testing.T) {
	lab := newLab(t, "nlforeign")
	if out, err := exec.CommandContext(t.Context(), "ip", "netns", "add", "nlforeign-theirs").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := lab.AddHost("theirs"); err == nil || !strings.Contains(err.Error(), "not of this lab") {
		t.Errorf("got %v, want a refusal", err)
	}
	if err := lab.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(context.Background(), "ip", "netns", "del", "nlforeign-theirs").CombinedOutput(); err != nil {
		t.Errorf("their namespace is gone: %v: %s", err, out)
	}
}

func TestWrongInput(t *testing.T) {
	lab := newLab(t, "nlinput")
	h := addHost(t, lab, "a")
	_, errPrefix := New("../x")
	_, errName := lab.AddHost("A b")
	_, errBridge := lab.AddHost(bridgeHost)
	_, errTwice := lab.AddHost("a")
	_, errSubnet := lab.AddHost("b", Subnet(netip.MustParsePrefix("10.0.0.0/8")))
	for _, tc := range []struct {
		name string
		err  error
	}{
		{"prefix", errPrefix},
		{"sweep prefix", Sweep("")},
		{"host name", errName},
		{"reserved host name", errBridge},
		{"host twice", errTwice},
		{"subnet", errSubnet},
		{"etc path", h.SetEtc("../passwd", "")},
		{"etc file the machine lacks", h.SetEtc("no-such-file", "")},
		{"IPv6 on an IPv4 host", h.AddAddress(netip.MustParseAddr("fd00::1"))},
	} {
		if tc.err == nil {
			t.Errorf("%s: accepted", tc.name)
		}
	}
}
