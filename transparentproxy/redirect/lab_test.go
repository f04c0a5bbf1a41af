//go:build linux

package redirect_test

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/candidates"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
)

func TestMain(m *testing.M) {
	if run := child(); run != nil {
		os.Exit(run())
	}
	goleak.VerifyTestMain(m)
}

// dpUID is a user that every machine has.
const dpUID = 65534

// config redirects for that user; set changes it.
func config(set func(*tp.Config)) tp.Config {
	c := tp.DefaultConfig()
	c.User = "65534"
	if set != nil {
		set(&c)
	}
	return c
}

// lab is a host and the manager of its redirection.
type lab struct {
	*netlab.Host
	m   *redirect.Manager
	dir string // of the state
}

// newLab makes a host with IPv6 and a manager with all backends.
func newLab(t testing.TB, prefix, backend string) *lab {
	t.Helper()
	l := &lab{Host: redirectlab.NewHosts(t, prefix, "mesh")[0], dir: filepath.Join(t.TempDir(), "state")}
	l.m = l.manager(t, backend, nil)
	return l
}

// manager makes one that works on the same state; wrap may change its candidates.
func (l *lab) manager(t testing.TB, backend string, wrap func([]redirect.Candidate)) *redirect.Manager {
	t.Helper()
	all := candidates.All(t.Context(), candidates.Config{StateDir: l.dir, Wait: candidates.DefaultWait})
	for _, c := range all {
		if c.Err != nil {
			t.Fatal(c.Err)
		}
	}
	if wrap != nil {
		wrap(all)
	}
	return l.newManager(t, redirect.Config{Candidates: all, Backend: backend, Log: redirectlab.Logger(t)})
}

func (l *lab) newManager(t testing.TB, cfg redirect.Config) *redirect.Manager {
	t.Helper()
	cfg.StateDir = l.dir
	m, err := redirect.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (l *lab) do(t testing.TB, f func() error) {
	t.Helper()
	if err := l.Do(f); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) apply(t testing.TB, m *redirect.Manager, cfg tp.Config) *redirect.Planned {
	t.Helper()
	var p *redirect.Planned
	l.do(t, func() (err error) { p, err = m.Apply(t.Context(), cfg); return err })
	return p
}

func (l *lab) remove(t testing.TB, m *redirect.Manager) bool {
	t.Helper()
	var removed bool
	l.do(t, func() (err error) { removed, err = m.Remove(t.Context()); return err })
	return removed
}

func (l *lab) status(t testing.TB, m *redirect.Manager) *redirect.Status {
	t.Helper()
	var st *redirect.Status
	l.do(t, func() (err error) { st, err = m.Status(t.Context(), nil); return err })
	return st
}

// wants fails the test when the status is another.
func (l *lab) wants(t testing.TB, want redirect.State) {
	t.Helper()
	if st := l.status(t, l.m); st.State != want {
		t.Errorf("status is %s, want %s: %v", st.State, want, st.Differences)
	}
}

func (l *lab) shell(t testing.TB, script string) string {
	t.Helper()
	return redirectlab.Shell(t, l.Host, "", script)
}

// gone fails the test when anything of ours is left: rules, addresses or state.
func (l *lab) gone(t testing.TB) {
	t.Helper()
	out := l.shell(t, "for c in iptables ip6tables; do $c-nft-save; $c-legacy-save; done 2>/dev/null; nft list tables; ip -6 addr show dev lo")
	if strings.Contains(out, "\n:KUMA_MESH_") || strings.Contains(out, "kuma_mesh\n") || strings.Contains(out, "::6/128") {
		t.Errorf("left:\n%s", out)
	}
	if left, err := os.ReadDir(l.dir); err == nil {
		t.Errorf("state is left: %v", left)
	}
}

// snapshot is everything that redirection could change, without legacy tables that are empty: the kernel cannot drop them.
func (l *lab) snapshot(t testing.TB) string {
	t.Helper()
	return withoutEmptyTables(redirectlab.Snapshot(t, l.Host))
}

func resolvConf(t testing.TB, servers ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	writeResolvConf(t, path, servers...)
	return path
}

// writeResolvConf replaces it as DHCP clients do.
func writeResolvConf(t testing.TB, path string, servers ...string) {
	t.Helper()
	var text string
	for _, s := range servers {
		text += "nameserver " + netip.MustParseAddr(s).String() + "\n"
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func deadline(t testing.TB, c net.Conn) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(redirectlab.Patience)); err != nil {
		t.Fatal(err)
	}
}
