//go:build linux

package redirect_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/candidates"
	"github.com/kuma-dp/kuma-dp/transparentproxy/iptables"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
)

// everyBackend are the names of all backends that can be forced.
var everyBackend = []string{"nftables", "iptables-nft", "iptables-legacy"}

// drop is a script that takes the rules out of a chain of ours in both families.
func drop(backend, chain string) string {
	if backend == "nftables" {
		return "nft flush chain inet kuma_mesh " + chain
	}
	return fmt.Sprintf("%s -t nat -F %s; %s -t nat -F %[2]s", backend, chain, strings.Replace(backend, "iptables", "ip6tables", 1))
}

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
			l.shell(t, drop(backend, "KUMA_MESH_INBOUND")+"; ip addr del ::6/128 dev lo")
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
		{"nothing there", "true", redirect.Auto, "nftables"},
		{"both in use", legacyRule + nftRule, redirect.Auto, "nftables"},
		{"told iptables", "true", redirect.IPTables, "iptables-nft"},
		{"told iptables, legacy in use", legacyRule, redirect.IPTables, "iptables-legacy"},
		{"told iptables, both in use", legacyRule + nftRule, redirect.IPTables, "iptables-nft"},
		{"told iptables, docker in legacy", "iptables-legacy -t nat -N DOCKER_OUTPUT;" + nftRule, redirect.IPTables, "iptables-legacy"},
		{"told iptables, docker in both", "iptables-legacy -t nat -N DOCKER_OUTPUT; iptables-nft -t nat -N DOCKER_OUTPUT", redirect.IPTables, "iptables-nft"},
		{"told which", nftRule, "iptables-legacy", "iptables-legacy"},
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

// TestToldIPTables has an installation in one flavour while the host's own rules are in the other.
func TestToldIPTables(t *testing.T) {
	for _, tc := range []struct{ first, others, between, want string }{
		{"iptables-legacy", "iptables-nft", "true", "iptables-legacy"}, // changed in place
		{"iptables-nft", "iptables-legacy", "true", "iptables-nft"},
		{"iptables-legacy", "iptables-nft", "iptables-legacy-save | grep -v KUMA | iptables-legacy-restore; ip6tables-legacy-save | grep -v KUMA | ip6tables-legacy-restore", "iptables-nft"}, // not in place
		{"nftables", "iptables-legacy", "true", "iptables-legacy"},
	} {
		t.Run(tc.first+" to "+tc.want, func(t *testing.T) {
			l := newLab(t, "rd-told", tc.first)
			l.apply(t, l.m, config(nil))
			l.shell(t, tc.between+"; "+tc.others+" -A INPUT -p icmp -j ACCEPT")
			l.m = l.manager(t, redirect.IPTables, nil)
			if p := l.apply(t, l.m, config(func(c *tp.Config) { c.Inbound.Port = 25006 })); p.Backend != tc.want {
				t.Errorf("chose %s, want %s", p.Backend, tc.want)
			}
			l.wants(t, redirect.InSync)
			l.remove(t, l.m)
			l.gone(t)
		})
	}
}

// TestExecutablesGoBeforeWhatIsInUse names executables of one flavour while an installation is in the other.
func TestExecutablesGoBeforeWhatIsInUse(t *testing.T) {
	l := newLab(t, "rd-given", "iptables-nft")
	l.apply(t, l.m, config(nil))
	given := candidates.Config{StateDir: l.dir, Wait: candidates.DefaultWait, Executables: map[tp.Family]iptables.Executables{}}
	for family, name := range map[tp.Family]string{tp.IPv4: "/usr/sbin/iptables-legacy", tp.IPv6: "/usr/sbin/ip6tables-legacy"} {
		given.Executables[family] = iptables.Executables{IPTables: name, Save: name + "-save", Restore: name + "-restore"}
	}
	m := l.newManager(t, redirect.Config{Candidates: candidates.All(t.Context(), given), Backend: redirect.IPTables})
	if p := l.apply(t, m, config(nil)); p.Backend != "iptables-legacy" {
		t.Errorf("chose %s", p.Backend)
	}
	l.remove(t, m)
	l.gone(t)
}

// TestDockerCounts has Docker redirect DNS, in either flavour: with its changed ports zones would keep answers away.
func TestDockerCounts(t *testing.T) {
	for _, tool := range []string{"iptables-nft", "iptables-legacy"} {
		t.Run(tool, func(t *testing.T) {
			l := newLab(t, "rd-docker", redirect.Auto)
			l.shell(t, tool+" -t nat -N DOCKER_OUTPUT")
			p := l.apply(t, l.m, config(func(c *tp.Config) { c.DNS.CaptureAll = true }))
			if p.Backend != "nftables" || len(p.Plan.Warnings) != 1 || !strings.Contains(p.Plan.Warnings[0], "inside Docker") {
				t.Errorf("%s, %q", p.Backend, p.Plan.Warnings)
			}
			if rules := l.shell(t, "nft list table inet kuma_mesh"); strings.Contains(rules, "\t\tudp dport 53 ct zone") {
				t.Errorf("zones of IPv4 are split:\n%s", rules)
			}
			l.wants(t, redirect.InSync)
		})
	}
}

// oldKernel is nftables on a kernel that does not have it, or not all of it.
type oldKernel struct {
	redirect.Backend
	facts, apply error
}

func (k oldKernel) Facts(ctx context.Context, h *tp.Host) error {
	return errors.Join(k.facts, k.Backend.Facts(ctx, h))
}

// Apply refuses only plans with zones when zones are what is lacking.
func (k oldKernel) Apply(ctx context.Context, p *tp.Plan) error {
	zones := slices.ContainsFunc(p.Family(tp.IPv4).Tables, func(t tp.Table) bool { return t.Name == tp.TableRaw })
	if k.apply != nil && (zones || !errors.Is(k.apply, tp.ErrNoZones)) {
		return k.apply
	}
	return k.Backend.Apply(ctx, p)
}

func TestKernelWithoutZones(t *testing.T) {
	l := newLab(t, "rd-nozone", redirect.Auto)
	l.m = l.manager(t, redirect.Auto, func(all []redirect.Candidate) {
		all[0].Backend = oldKernel{Backend: all[0].Backend, apply: fmt.Errorf("the kernel refuses a rule: %w", tp.ErrNoZones)}
	})
	p := l.apply(t, l.m, config(func(c *tp.Config) { c.DNS.CaptureAll = true }))
	if p.Backend != "nftables" || !strings.Contains(strings.Join(p.Plan.Warnings, "\n"), "conntrack zone splitting is disabled") {
		t.Errorf("%s, %q", p.Backend, p.Plan.Warnings)
	}
	l.wants(t, redirect.InSync)
	l.remove(t, l.m)
	l.gone(t)
}

func TestKernelWithoutNFTables(t *testing.T) {
	lack := fmt.Errorf("the kernel refuses nf_tables: %w", unix.EOPNOTSUPP)
	for name, kernel := range map[string]oldKernel{"nothing of it": {facts: lack}, "no redirection": {apply: lack}} {
		t.Run(name, func(t *testing.T) { testKernelWithoutNFTables(t, kernel) })
	}
}

func testKernelWithoutNFTables(t *testing.T, kernel oldKernel) {
	l := newLab(t, "rd-old", redirect.Auto)
	age := func(all []redirect.Candidate) { kernel.Backend = all[0].Backend; all[0].Backend = kernel }
	err := l.Do(func() error { _, err := l.manager(t, "nftables", age).Apply(t.Context(), config(nil)); return err })
	if !errors.Is(err, redirect.ErrNoBackend) || !strings.Contains(err.Error(), "nftables: the kernel refuses nf_tables: operation not supported") {
		t.Errorf("got %v", err)
	}
	log := redirectlab.NewLog(t)
	all := candidates.All(t.Context(), candidates.Config{StateDir: l.dir, Wait: candidates.DefaultWait})
	age(all)
	l.m = l.newManager(t, redirect.Config{Candidates: all, Log: log.Logger})
	if p := l.apply(t, l.m, config(nil)); p.Backend != "iptables-nft" {
		t.Errorf("chose %s", p.Backend)
	}
	if line := log.Next(t, patience, "backend cannot be used on this kernel"); !strings.Contains(line, "backend=nftables") || !strings.Contains(line, "operation not supported") {
		t.Error(line)
	}
	l.wants(t, redirect.InSync)
	l.remove(t, l.m)
	l.gone(t)
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
		_, err := l.manager(t, "nftables", spoil).Apply(t.Context(), config(nil))
		return err
	})
	if !errors.Is(err, redirect.ErrNoBackend) || !strings.Contains(err.Error(), "nftables: the kernel is too old") {
		t.Errorf("got %v", err)
	}
	auto := l.manager(t, redirect.Auto, spoil)
	if p := l.apply(t, auto, config(nil)); p.Backend != "iptables-nft" {
		t.Errorf("chose %s", p.Backend)
	}
	l.remove(t, auto)
	l.gone(t)
}

// TestRulesOfMissingPrograms has Kuma's rules on a host where iptables is not installed any more: nobody must believe that they
// are gone.
func TestRulesOfMissingPrograms(t *testing.T) {
	l := newLab(t, "rd-nobin", redirect.Auto)
	without := func(all []redirect.Candidate) {
		for i := range all[1:] {
			all[i+1].Backend, all[i+1].Err = nil, errors.New("install the package iptables")
		}
	}
	m := l.manager(t, redirect.Auto, without)
	l.apply(t, m, config(nil))
	l.remove(t, m)
	kumasRules(t, l.Host, "nft")
	before := l.snapshot(t)
	apply := l.Do(func() error { _, err := m.Apply(t.Context(), config(nil)); return err })
	remove := l.Do(func() error { _, err := m.Remove(t.Context()); return err })
	for _, err := range []error{apply, remove} {
		if err == nil || !strings.Contains(err.Error(), "clean iptables-nft: rules of an earlier installation are there, and nothing to remove them with: install the package iptables") {
			t.Errorf("got %v", err)
		}
	}
	if diff := cmp.Diff(before, l.snapshot(t)); diff != "" {
		t.Errorf("the host is not as before:\n%s", diff)
	}
	l.remove(t, l.m)
	l.gone(t)
}

// TestBothFlavoursAreCleaned has Kuma's rules in both flavours, installs, and has Kuma's come again beside ours.
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
			saved := l.shell(t, "for f in nft legacy; do iptables-$f-save; ip6tables-$f-save; done 2>/dev/null | grep -c ':KUMA_MESH_INBOUND ' || true")
			chains, other := "2", "legacy"
			switch backend {
			case "nftables":
				chains = "0"
			case "iptables-legacy":
				other = "nft"
			}
			if strings.TrimSpace(saved) != chains {
				t.Errorf("%s chains of iptables, want %s", saved, chains)
			}
			kumasRules(t, l.Host, other)
			l.wants(t, redirect.Drift)
			l.remove(t, l.m)
			l.wants(t, redirect.Absent)
		})
	}
}

// TestFailureOfCleaningLeavesEverything has somebody use our chain in the other flavour, so that it cannot be deleted.
func TestFailureOfCleaningLeavesEverything(t *testing.T) {
	for _, tc := range []struct{ from, to string }{
		{"iptables-nft", "iptables-legacy"}, {"iptables-legacy", "iptables-nft"}, {"iptables-nft", "nftables"}, {"iptables-legacy", "nftables"},
	} {
		t.Run(tc.from+" to "+tc.to, func(t *testing.T) {
			l := newLab(t, "rd-stuck", tc.from)
			foreign(t, l.Host)
			l.apply(t, l.m, config(func(c *tp.Config) { c.DNS.CaptureAll = true }))
			l.shell(t, tc.from+" -t nat -N MINE; "+tc.from+" -t nat -A MINE -p tcp -j KUMA_MESH_OUTBOUND")
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
			l.remove(t, l.manager(t, "iptables-legacy", nil))
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
