//go:build linux

// Package dnslab has the agent's resolver questioned by programs of others, in a namespace where it is the resolver of the
// host.
package dnslab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
)

// patience bounds every wait for something that should come.
const patience = 30 * time.Second

// programs are built once for all tests.
var programs struct{ dir string }

func TestMain(m *testing.M) {
	if names := os.Getenv(lookupEnv); names != "" {
		os.Exit(lookup(names))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dnslab-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	programs.dir = dir
	// Races show in the resolver only when it looks for them; memory is that of the plain one.
	for _, args := range [][]string{
		{"go", "build", "-race", "-o", program("resolver"), "./resolver"},
		{"go", "build", "-o", program("plain"), "./resolver"},
		{"musl-gcc", "-static", "-o", program("musl"), "testdata/getaddrinfo.c"},
		{"gcc", "-o", program("glibc"), "testdata/getaddrinfo.c"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n%s", strings.Join(args, " "), err, out)
			return 1
		}
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func program(name string) string { return filepath.Join(programs.dir, name) }

// lab is a host with the resolver and one with upstreams, on one segment.
type lab struct {
	app, up *netlab.Host
}

func newLab(t *testing.T) lab {
	t.Helper()
	netlab.RequireRoot(t)
	look(t)
	prefix := "kuma-dns-" + strings.ToLower(strings.TrimPrefix(t.Name(), "Test"))
	l, err := netlab.New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	var out lab
	for name, h := range map[string]**netlab.Host{"app": &out.app, "up": &out.up} {
		if *h, err = l.AddHost(name, netlab.IPv6()); err != nil {
			t.Fatal(err)
		}
	}
	// The resolver serves the host, whatever this machine asks besides.
	for name, text := range map[string]string{"resolv.conf": "nameserver 127.0.0.1\n", "nsswitch.conf": "hosts: files dns\n"} {
		if err := out.app.SetEtc(name, text); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// look looks at what the programs are made of: go test takes the result of an earlier run for that of this one as long as what
// the tests looked at is the same, and does not know what they had built.
func look(t testing.TB) {
	t.Helper()
	for _, pattern := range []string{"../../dns/*.go", "resolver/*", "testdata/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, f := range files {
			if _, err := os.Stat(f); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// shell runs a program on a host and returns what it prints; that it fails fails the test.
func shell(t testing.TB, h *netlab.Host, input, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	cmd := h.Command(ctx, 0, name, args...)
	cmd.Stdin = strings.NewReader(input)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}

// address makes a further address of the upstreams' host, with the last byte n.
func (l lab) address(t testing.TB, n byte) netip.Addr {
	t.Helper()
	a := netip.AddrFrom4([4]byte{10, 99, 0, n})
	if err := l.up.AddAddress(a); err != nil {
		t.Fatal(err)
	}
	return a
}

// dial connects from the host of the resolver to it, or to another server.
func (l lab) dial(t testing.TB, network, address string) net.Conn {
	t.Helper()
	c, err := l.app.DialContext(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return c
}
