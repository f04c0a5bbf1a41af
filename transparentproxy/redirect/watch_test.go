//go:build linux

package redirect_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/candidates"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
)

// patience bounds what should happen at once.
const patience = 20 * time.Second

// watch runs a Watch in the host's namespace until the test ends and returns its log and its end.
func (l *lab) watch(t *testing.T, backend string) (*redirectlab.Log, <-chan error) {
	t.Helper()
	log := redirectlab.NewLog(t)
	m := l.newManager(t, redirect.Config{
		Candidates: candidates.All(t.Context(), candidates.Config{StateDir: l.dir, Wait: candidates.DefaultWait}), Backend: backend, Log: log.Logger,
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	over := make(chan struct{})
	go func() {
		defer close(over)
		ended <- l.Do(func() error { return m.Watch(ctx) })
	}()
	t.Cleanup(func() { cancel(); <-over })
	return log, ended
}

// becomesInSync waits for a repair: its line in the log, and then nothing that differs.
func (l *lab) becomesInSync(t *testing.T, log *redirectlab.Log) string {
	t.Helper()
	line := log.Next(t, patience, "redirection repaired")
	l.wants(t, redirect.InSync)
	return line
}

func TestWatchRepairs(t *testing.T) {
	for _, tc := range []struct{ name, backend, do, by string }{
		{"everything flushed", "nftables", "nft flush ruleset", "nft (process"},
		{"rules gone", "nftables", "nft flush chain inet kuma_mesh KUMA_MESH_OUTBOUND", "nft (process"},
		{"address of nftables gone", "nftables", "ip addr del ::6/128 dev lo", "unknown"},
		{"Kuma's in iptables", "nftables", "iptables-nft -t nat -N KUMA_MESH_INBOUND", "iptables-nft"},
		{"everything of iptables flushed", "iptables-nft", "nft flush ruleset", "nft (process"},
		{"a rule gone", "iptables-nft", "iptables-nft -t nat -D KUMA_MESH_OUTBOUND 1", "iptables-nft (process"},
		{"address gone", "iptables-nft", "ip addr del ::6/128 dev lo", "unknown"},
		{"another tool's rules came first", "iptables-nft", "iptables-nft -t nat -I OUTPUT 1 -p udp -j ACCEPT", "iptables-nft"},
		{"Kuma's in the other flavour", "iptables-legacy", "iptables-nft -t nat -N KUMA_MESH_INBOUND", "iptables-nft"},
		{"legacy, looked at when something else happens", "iptables-legacy", "iptables-legacy -t nat -F KUMA_MESH_OUTBOUND; ip addr add fd00:99::1/64 dev eth0", "unknown"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t, "rd-watch", tc.backend)
			l.apply(t, l.m, config(func(c *tp.Config) { c.DNS.CaptureAll = true }))
			log, _ := l.watch(t, redirect.Auto)
			log.Next(t, patience, "watching redirection")
			l.shell(t, tc.do)
			if line := l.becomesInSync(t, log); !strings.Contains(line, `by="`+tc.by) && !strings.Contains(line, "by="+tc.by) {
				t.Errorf("the log does not name %q: %s", tc.by, line)
			}
		})
	}
}

// TestLateIPv6 gives the host its first IPv6 address after the installation.
func TestLateIPv6(t *testing.T) {
	for _, backend := range everyBackend {
		t.Run(backend, func(t *testing.T) {
			l := newLab(t, "rd-late", backend)
			l.shell(t, "ip -6 addr flush dev eth0")
			p := l.apply(t, l.m, config(nil))
			if p.Plan.Family(tp.IPv6) != nil {
				t.Fatal("IPv6 is planned without an address, so this shows nothing")
			}
			log, _ := l.watch(t, redirect.Auto)
			log.Next(t, patience, "watching redirection")
			l.shell(t, "ip addr add "+netip.PrefixFrom(l.Addr6, 64).String()+" dev eth0 nodad")
			l.becomesInSync(t, log)
			s := redirectlab.NewServers(t)
			s.TCP(l.Host, dpUID, "[::]:15001", "OUT", true)
			const nobody = "[fd00:77:0::99]:9000"
			if got := redirectlab.Probe(t.Context(), l.Host, redirectlab.AppUID, "tcp", nobody, ""); got != "OUT [fd00:77::99]:9000" {
				t.Errorf("IPv6 escapes: %s", got)
			}
		})
	}
}

func TestResolvConfChanges(t *testing.T) {
	for _, backend := range []string{"nftables", "iptables-nft"} {
		t.Run(backend, func(t *testing.T) { testResolvConfChanges(t, backend) })
	}
}

func testResolvConfChanges(t *testing.T, backend string) {
	l := newLab(t, "rd-resolv", backend)
	path := resolvConf(t, "10.255.0.53")
	l.apply(t, l.m, config(func(c *tp.Config) { c.DNS.Enabled, c.DNS.ResolvConfPath = true, path }))
	log, _ := l.watch(t, redirect.Auto)
	log.Next(t, patience, "watching redirection")
	writeResolvConf(t, path, "10.255.0.54", "fd00:53::53")
	l.becomesInSync(t, log)
	rules := func() string { return l.shell(t, "nft list ruleset") }
	if out := rules(); strings.Contains(out, "10.255.0.53") || !strings.Contains(out, "10.255.0.54") || !strings.Contains(out, "fd00:53::53") {
		t.Errorf("the rules do not follow:\n%s", out)
	}
	// While it is written it is empty, and then gone: what was known stays.
	writeResolvConf(t, path)
	l.wants(t, redirect.InSync)
	l.shell(t, "rm "+path)
	l.wants(t, redirect.InSync)
	writeResolvConf(t, path, "10.255.0.55")
	l.becomesInSync(t, log)
	if out := rules(); !strings.Contains(out, "10.255.0.55") || strings.Contains(out, "10.255.0.54") {
		t.Errorf("the rules do not follow:\n%s", out)
	}
}

func TestWatchFollowsTheRecord(t *testing.T) {
	l := newLab(t, "rd-record", redirect.Auto)
	l.apply(t, l.m, config(nil))
	log, ended := l.watch(t, redirect.Auto)
	log.Next(t, patience, "watching redirection")
	l.apply(t, l.m, config(func(c *tp.Config) { c.Inbound.Port = 25006 }))
	l.shell(t, "nft flush chain inet kuma_mesh KUMA_MESH_INBOUND_REDIRECT")
	l.becomesInSync(t, log)
	if out := l.shell(t, "nft list ruleset"); !strings.Contains(out, "25006") {
		t.Errorf("it repaired to an older configuration:\n%s", out)
	}
	l.remove(t, l.m)
	select {
	case err := <-ended:
		if !errors.Is(err, redirect.ErrUninstalled) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("it does not see that redirection was uninstalled")
	}
	l.gone(t)
}

// TestWatchDoesNotFight has another tool undo every repair at once.
func TestWatchDoesNotFight(t *testing.T) {
	l := newLab(t, "rd-fight", redirect.Auto)
	l.apply(t, l.m, config(nil))
	log, _ := l.watch(t, redirect.Auto)
	log.Next(t, patience, "watching redirection")
	repairs := 0
	for { // each repair is undone at once, so that the delay outgrows what that takes
		l.shell(t, "nft flush ruleset")
		line := log.Next(t, patience, "msg=\"redirection")
		if strings.Contains(line, "is changed again and again") {
			if repairs < 3 || !strings.Contains(line, "nft (process") {
				t.Errorf("after %d repairs: %s", repairs, line)
			}
			break
		}
		repairs++
	}
	l.becomesInSync(t, log) // later, but it does
}
