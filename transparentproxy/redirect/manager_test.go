//go:build linux

package redirect_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
)

// everyBackend are the names of all backends that can be forced.
var everyBackend = []string{"iptables-nft", "iptables-legacy"}

func TestInstallStatusRepairRemove(t *testing.T) {
	for _, backend := range everyBackend {
		t.Run(backend, func(t *testing.T) {
			l := newLab(t, "rd-life", backend)
			foreign(t, l.Host)
			before := l.snapshot(t)
			l.wants(t, redirect.Absent)
			if _, err := os.Stat(l.dir); err == nil {
				t.Error("looking at the status leaves state")
			}
			cfg := config(func(c *tp.Config) { c.DNS.CaptureAll = true; c.Inbound.ExcludePorts = redirectlab.ParsePorts(t, "22") })
			for range 2 {
				if p := l.apply(t, l.m, cfg); p.Backend != backend {
					t.Errorf("applied by %s", p.Backend)
				}
				l.wants(t, redirect.InSync)
			}
			tool := strings.Replace(backend, "iptables", "ip6tables", 1)
			l.shell(t, tool+" -t nat -F KUMA_MESH_INBOUND; ip addr del ::6/128 dev lo")
			// Another process, which knows only what was recorded.
			other := l.manager(t, redirect.Auto, nil)
			st := l.status(t, other)
			var all []string
			for _, d := range st.Differences {
				all = append(all, d.String())
			}
			for _, want := range []string{"nat KUMA_MESH_INBOUND exclude.port.22: the rule is missing", "nat KUMA_MESH_INBOUND all: the rule is missing", "loopback lacks the address ::6/128"} {
				if !strings.Contains(strings.Join(all, "\n"), want) {
					t.Errorf("%q is not among %q", want, all)
				}
			}
			if st.State != redirect.Drift || st.Backend != backend || st.InstalledAt == nil {
				t.Errorf("got %+v", st)
			}
			l.do(t, func() error { _, err := other.Repair(t.Context(), nil); return err })
			l.wants(t, redirect.InSync)
			if !l.remove(t, other) {
				t.Error("Remove says that there was nothing")
			}
			if diff := cmp.Diff(before, l.snapshot(t)); diff != "" {
				t.Errorf("the host is not as before:\n%s", diff)
			}
			l.wants(t, redirect.Absent)
			l.gone(t)
			if l.remove(t, l.m) {
				t.Error("Remove found something again")
			}
			err := l.Do(func() error { _, err := l.m.Repair(t.Context(), nil); return err })
			if !errors.Is(err, redirect.ErrNothing) {
				t.Errorf("repair of nothing: %v", err)
			}
		})
	}
}

func TestChoice(t *testing.T) {
	const legacyRule, nftRule = "iptables-legacy -A INPUT -p icmp -j ACCEPT;", "iptables-nft -A INPUT -p icmp -j ACCEPT;"
	for _, tc := range []struct{ name, setup, ask, want string }{
		{"nothing there", "true", redirect.Auto, "iptables-nft"},
		{"legacy in use", legacyRule, redirect.Auto, "iptables-legacy"},
		{"both in use", legacyRule + nftRule, redirect.IPTables, "iptables-nft"},
		{"docker in legacy", "iptables-legacy -t nat -N DOCKER_OUTPUT;" + nftRule, redirect.Auto, "iptables-legacy"},
		{"docker in both", "iptables-legacy -t nat -N DOCKER_OUTPUT; iptables-nft -t nat -N DOCKER_OUTPUT", redirect.Auto, "iptables-nft"},
		{"told", nftRule, "iptables-legacy", "iptables-legacy"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t, "rd-choose", tc.ask)
			l.shell(t, tc.setup)
			if p := l.apply(t, l.m, config(nil)); p.Backend != tc.want {
				t.Errorf("chose %s, want %s", p.Backend, tc.want)
			}
			// What others do later does not move an installation.
			l.shell(t, "iptables-legacy -A INPUT -p udp -j ACCEPT; iptables-nft -A INPUT -p udp -j ACCEPT")
			auto := l.manager(t, redirect.Auto, nil)
			if p := l.apply(t, auto, config(nil)); p.Backend != tc.want {
				t.Errorf("then chose %s, want %s", p.Backend, tc.want)
			}
			l.wants(t, redirect.InSync)
		})
	}
}

func TestUnknownBackend(t *testing.T) {
	_, err := redirect.New(redirect.Config{Candidates: []redirect.Candidate{{Name: "nftables"}}, Backend: "ebpf"})
	if err == nil || !strings.Contains(err.Error(), `unknown backend "ebpf": choose one of auto, iptables, nftables`) {
		t.Errorf("got %v", err)
	}
}

func TestBackendThatCannotBeHad(t *testing.T) {
	l := newLab(t, "rd-none", redirect.Auto)
	spoil := func(all []redirect.Candidate) {
		all[0].Backend, all[0].Err = nil, errors.New("the kernel is too old")
	}
	err := l.Do(func() error {
		_, err := l.manager(t, "iptables-nft", spoil).Apply(t.Context(), config(nil))
		return err
	})
	if !errors.Is(err, redirect.ErrNoBackend) || !strings.Contains(err.Error(), "iptables-nft: the kernel is too old") {
		t.Errorf("got %v", err)
	}
	auto := l.manager(t, redirect.Auto, spoil)
	if p := l.apply(t, auto, config(nil)); p.Backend != "iptables-legacy" {
		t.Errorf("chose %s", p.Backend)
	}
	l.remove(t, auto)
	l.gone(t)
}

// TestBothFlavoursAreCleaned has Kuma's rules in one flavour and ours in the other, in both orders.
func TestBothFlavoursAreCleaned(t *testing.T) {
	for _, backend := range everyBackend {
		t.Run(backend, func(t *testing.T) {
			l := newLab(t, "rd-flip", backend)
			for _, flavour := range []string{"nft", "legacy"} {
				kumasRules(t, l.Host, flavour)
			}
			err := l.Do(func() error { _, err := l.m.Status(t.Context(), nil); return err })
			if !errors.Is(err, redirect.ErrUnknown) {
				t.Errorf("status without a configuration: %v", err)
			}
			l.apply(t, l.m, config(nil))
			l.wants(t, redirect.InSync)
			saved := l.shell(t, "for f in nft legacy; do iptables-$f-save; ip6tables-$f-save; done 2>/dev/null | grep -c ':KUMA_MESH_INBOUND '")
			if strings.TrimSpace(saved) != "2" {
				t.Errorf("%s chains, want one of each family", saved)
			}
			kumasRules(t, l.Host, map[string]string{"iptables-nft": "legacy", "iptables-legacy": "nft"}[backend])
			l.wants(t, redirect.Drift)
			l.remove(t, l.m)
			l.wants(t, redirect.Absent)
		})
	}
}

// TestFailureOfCleaningLeavesEverything has somebody use our chain in the other flavour, so that it cannot be deleted.
func TestFailureOfCleaningLeavesEverything(t *testing.T) {
	for _, tc := range []struct{ from, to, tool string }{
		{"iptables-nft", "iptables-legacy", "iptables-nft"},
		{"iptables-legacy", "iptables-nft", "iptables-legacy"},
	} {
		t.Run(tc.from+" to "+tc.to, func(t *testing.T) {
			l := newLab(t, "rd-stuck", tc.from)
			foreign(t, l.Host)
			l.apply(t, l.m, config(func(c *tp.Config) { c.DNS.CaptureAll = true }))
			l.shell(t, tc.tool+" -t nat -N MINE; "+tc.tool+" -t nat -A MINE -p tcp -j KUMA_MESH_OUTBOUND")
			before := l.snapshot(t)
			err := l.Do(func() error { _, err := l.manager(t, tc.to, nil).Apply(t.Context(), config(nil)); return err })
			if err == nil || !strings.Contains(err.Error(), "remove it first: -A MINE -p tcp -j KUMA_MESH_OUTBOUND") {
				t.Errorf("got %v", err)
			}
			if diff := cmp.Diff(before, l.snapshot(t)); diff != "" {
				t.Errorf("the host is not as before:\n%s", diff)
			}
			l.wants(t, redirect.InSync) // as recorded before
		})
	}
}

func TestLoopbackAddressOfSomebodyElseStays(t *testing.T) {
	l := newLab(t, "rd-six", redirect.Auto)
	l.shell(t, "ip addr add ::6/128 dev lo")
	l.apply(t, l.m, config(nil))
	l.remove(t, l.m)
	if out := l.shell(t, "ip -6 addr show dev lo"); !strings.Contains(out, "::6/128") {
		t.Errorf("gone: %s", out)
	}
}

func TestAddressGoesWithIPv6(t *testing.T) {
	l := newLab(t, "rd-four", redirect.Auto)
	l.apply(t, l.m, config(nil))
	l.apply(t, l.m, config(func(c *tp.Config) { c.IPFamilyMode = tp.IPv4Only }))
	if out := l.shell(t, "ip -6 addr show dev lo"); strings.Contains(out, "::6/128") {
		t.Errorf("IPv6 is not redirected any more, but its address is left: %s", out)
	}
}

// TestRemovalWithoutAnything removes without the record, without journals and by a manager that was told another backend.
func TestRemovalWithoutAnything(t *testing.T) {
	for _, backend := range everyBackend {
		t.Run(backend, func(t *testing.T) {
			l := newLab(t, "rd-lost", backend)
			l.apply(t, l.m, config(nil))
			if err := os.RemoveAll(l.dir); err != nil {
				t.Fatal(err)
			}
			l.shell(t, "ip addr del ::6/128 dev lo") // nobody knows whose it is
			l.remove(t, l.manager(t, everyBackend[0], nil))
			l.gone(t)
		})
	}
}

// TestReadOnlyState has no place for a record, as in a container: redirection works, and this process knows of it.
func TestReadOnlyState(t *testing.T) {
	l := newLab(t, "rd-ro", redirect.Auto)
	l.dir = "/proc/nowhere" // cannot be made
	l.m = l.manager(t, redirect.Auto, nil)
	l.apply(t, l.m, config(nil))
	l.wants(t, redirect.InSync)
	err := l.Do(func() error {
		_, _, err := l.m.ApplyUnconfirmed(t.Context(), config(nil), 1, func(string) error { return nil })
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "keep what is there now") {
		t.Errorf("a promise to roll back that cannot be kept: %v", err)
	}
	l.remove(t, l.m)
	l.wants(t, redirect.Absent)
}
