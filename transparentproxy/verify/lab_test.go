//go:build linux

package verify_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/candidates"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
	"github.com/kuma-dp/kuma-dp/transparentproxy/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var everyBackend = []string{"nftables", "iptables-nft", "iptables-legacy"}

// lab is a host with redirection, and another on its segment.
type lab struct {
	*netlab.Host
	remote *netlab.Host
	m      *redirect.Manager
}

func newLab(t testing.TB, prefix, backend string) *lab {
	t.Helper()
	hosts := redirectlab.NewHosts(t, prefix, "mesh", "remote")
	dir := filepath.Join(t.TempDir(), "state")
	m, err := redirect.New(redirect.Config{
		Candidates: candidates.All(t.Context(), candidates.Config{StateDir: dir, Wait: candidates.DefaultWait}),
		Backend:    backend, StateDir: dir, Log: redirectlab.Logger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	return &lab{hosts[0], hosts[1], m}
}

// install installs the exclusions of the table of traffic, and what set changes.
func (l *lab) install(t testing.TB, set func(*tp.Config)) {
	t.Helper()
	servers := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(servers, []byte(redirectlab.ResolvConf), 0o600); err != nil {
		t.Fatal(err)
	}
	c := tp.DefaultConfig()
	redirectlab.Exclude(t, &c)
	c.User, c.UIDOnly, c.DNS.ResolvConfPath = strconv.Itoa(redirectlab.DPUID), true, servers
	if set != nil {
		set(&c)
	}
	if err := l.Do(func() error { _, err := l.m.Apply(t.Context(), c); return err }); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) remove(t testing.TB) {
	t.Helper()
	if err := l.Do(func() error { _, err := l.m.Remove(t.Context()); return err }); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) verify(t testing.TB) *verify.Report {
	t.Helper()
	var report *verify.Report
	if err := l.Do(func() error {
		i, err := l.m.Installation(t.Context(), nil)
		if err != nil {
			return err
		}
		report, err = verify.Run(t.Context(), verify.Input{
			Config: i.Config, Host: i.Host, Backend: i.Backend, Leftovers: i.Leftovers, Legacy: l.m.LegacyNAT,
		})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return report
}

func (l *lab) shell(t testing.TB, script string) string {
	t.Helper()
	return redirectlab.Shell(t, l.Host, "", script)
}

// counters of rules count the packets of a verification.
var counters = regexp.MustCompile(`\[\d+:\d+\] |packets \d+ bytes \d+`)

// traces is everything that a verification could leave.
func (l *lab) traces(t testing.TB) string {
	t.Helper()
	s := redirectlab.Snapshot(t, l.Host) + l.shell(t, "ip -o link 2>/dev/null | cut -d: -f2; sysctl net 2>/dev/null | grep -v nf_conntrack_count")
	return strings.ReplaceAll(counters.ReplaceAllString(s, ""), " tentative ", " ")
}

// notHolding lists the ids of what does not hold.
func notHolding(r *verify.Report) []string {
	var out []string
	for _, c := range r.Checks {
		if c.Result != verify.Holds {
			out = append(out, c.ID)
		}
	}
	return out
}

// find returns a check.
func find(t testing.TB, r *verify.Report, id string) verify.Check {
	t.Helper()
	at := slices.IndexFunc(r.Checks, func(c verify.Check) bool { return c.ID == id })
	if at < 0 {
		t.Fatalf("there is no check %s", id)
	}
	return r.Checks[at]
}
