//go:build linux

package iptables

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

func script(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func given(prefix string) Executables {
	return Executables{"/usr/sbin/" + prefix, "/usr/sbin/" + prefix + "-save", "/usr/sbin/" + prefix + "-restore"}
}

func TestGivenExecutables(t *testing.T) {
	for _, tc := range []struct {
		name    string
		given   map[tp.Family]Executables
		want    Flavour // what is used on a host without rules of others
		four    string  // where the rules of IPv4 are then
		six     string
		warning string
	}{
		{name: "none", want: NFT, four: "iptables-nft-save", six: "ip6tables-nft-save"},
		{
			name:  "legacy",
			given: map[tp.Family]Executables{tp.IPv4: given("iptables-legacy"), tp.IPv6: given("ip6tables-legacy")},
			want:  Legacy, four: "iptables-legacy-save", six: "ip6tables-legacy-save",
		},
		{name: "legacy of IPv4 decides", given: map[tp.Family]Executables{tp.IPv4: given("iptables-legacy")}, want: Legacy, four: "iptables-legacy-save", six: "ip6tables-legacy-save"},
		{
			name:  "two flavours",
			given: map[tp.Family]Executables{tp.IPv4: given("iptables-legacy"), tp.IPv6: given("ip6tables-nft")},
			want:  Legacy, four: "iptables-legacy-save", six: "ip6tables-legacy-save", warning: "those of IPv4 of legacy",
		},
		{
			name:  "two flavours in one family",
			given: map[tp.Family]Executables{tp.IPv4: {"/usr/sbin/iptables-nft", "/usr/sbin/iptables-nft-save", "/usr/sbin/iptables-legacy-restore"}},
			want:  NFT, four: "iptables-nft-save", six: "ip6tables-nft-save", warning: "of the flavour nft, /usr/sbin/iptables-legacy-restore of legacy",
		},
		{
			name:  "no such file",
			given: map[tp.Family]Executables{tp.IPv4: given("no-such-iptables")},
			want:  NFT, four: "iptables-nft-save", six: "ip6tables-nft-save", warning: "not the absolute path of a program",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := redirectlab.NewHosts(t, "tp-exec", "mesh")[0]
			var log bytes.Buffer
			b, err := New(t.Context(), Config{
				Log: slog.New(slog.NewTextHandler(&log, nil)), Wait: DefaultWait, WaitInterval: time.Millisecond,
				StateDir: t.TempDir() + "/state", Executables: tc.given,
			})
			if err != nil {
				t.Fatal(err)
			}
			plan := redirectlab.NewPlan(t, nil)
			redirectlab.Apply(t, h, b, plan)
			for _, save := range []string{tc.four, tc.six} {
				if out := redirectlab.Shell(t, h, "", save); !strings.Contains(out, "-j KUMA_MESH_OUTBOUND") {
					t.Errorf("nothing in %s", save)
				}
			}
			if d := redirectlab.Check(t, h, b, plan); len(d) > 0 {
				t.Errorf("after apply: %v", d)
			}
			if (tc.warning == "") != (log.Len() == 0) || !strings.Contains(log.String(), tc.warning) {
				t.Errorf("got %q, want a warning with %q", &log, tc.warning)
			}
			// Whatever is given, what another choice left is cleaned.
			other, err := New(t.Context(), Config{Wait: DefaultWait, StateDir: b.cfg.StateDir})
			if err != nil {
				t.Fatal(err)
			}
			redirectlab.Apply(t, h, other, plan)
			redirectlab.Apply(t, h, b, plan)
			out := redirectlab.Shell(t, h, "", "for f in nft legacy; do iptables-$f-save; done 2>/dev/null")
			if n := strings.Count(out, ":KUMA_MESH_OUTBOUND "); n != 1 {
				t.Errorf("%d installations of IPv4, want 1", n)
			}
		})
	}
}

// TestPassingFailureIsTriedAgain has iptables-restore fail some times before it works.
func TestPassingFailureIsTriedAgain(t *testing.T) {
	for _, tc := range []struct {
		name           string
		exit, failures int
		retries        int
		tries          int
		works          bool
	}{
		{"works in the end", 4, 2, 3, 3, true},
		{"not often enough", 4, 9, 3, 4, false},
		{"wrong input", exitParameter, 1, 3, 1, false},
		{"kernel without a table", exitVersion, 1, 3, 1, false},
		{"no retries", 1, 1, 0, 1, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := redirectlab.NewHosts(t, "tp-retry", "mesh")[0]
			b := newBackend(t, NFT)
			b.cfg.MaxRetries, b.cfg.RetryDelay = tc.retries, time.Millisecond
			count := filepath.Join(t.TempDir(), "count")
			restore := script(t, "iptables-restore", `echo >> `+count+`
[ $(wc -l < `+count+`) -gt `+strconv.Itoa(tc.failures)+` ] || { echo not now >&2; exit `+strconv.Itoa(tc.exit)+`; }
exec /usr/sbin/iptables-nft-restore "$@"
`)
			b.tools[slices.IndexFunc(b.tools, func(x tool) bool { return x.family == tp.IPv4 })].restore = restore
			plan := redirectlab.NewPlan(t, func(c *tp.Config) { c.IPFamilyMode = tp.IPv4Only })
			tries := 0
			err := h.Do(func() error {
				err := b.Apply(t.Context(), plan)
				text, rerr := os.ReadFile(count)
				if rerr != nil {
					t.Error(rerr)
				}
				tries = bytes.Count(text, []byte("\n"))
				return err
			})
			if (err == nil) != tc.works || err != nil && !strings.Contains(err.Error(), "not now") {
				t.Errorf("got %v, want success=%v", err, tc.works)
			}
			if tries != tc.tries {
				t.Errorf("tried %d times, want %d", tries, tc.tries)
			}
		})
	}
}

func TestWaitingForARetryEndsWithTheContext(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-retry2", "mesh")[0]
	b := newBackend(t, NFT)
	b.cfg.MaxRetries, b.cfg.RetryDelay = 1, time.Hour
	b.tools[0].restore = script(t, "iptables-restore", "exit 4\n")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := h.Do(func() error { return b.Apply(ctx, redirectlab.NewPlan(t, nil)) })
	if err == nil || !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
		t.Errorf("got %v, want the deadline", err)
	}
}

func TestKernelWithoutNAT(t *testing.T) {
	for name, said := range map[string]string{
		"legacy": "iptables-restore: line 8: can't initialize iptables table `nat': Table does not exist (do you need to insmod?)",
		"nft":    "iptables-restore: line 3: CHAIN_ADD failed (No such file or directory): chain PREROUTING",
		"target": "Warning: Extension REDIRECT revision 0 not supported, missing kernel module?",
	} {
		t.Run(name, func(t *testing.T) {
			h := redirectlab.NewHosts(t, "tp-nonat", "mesh")[0]
			b := newBackend(t, NFT)
			b.cfg.MaxRetries, b.cfg.RetryDelay = 1, time.Hour
			before := redirectlab.Snapshot(t, h)
			b.tools[0].restore = script(t, "iptables-restore", "echo \""+strings.ReplaceAll(said, "`", "\\`")+"\" >&2\nexit 1\n")
			err := h.Do(func() error { return b.Apply(t.Context(), redirectlab.NewPlan(t, nil)) })
			if err == nil || !strings.Contains(err.Error(), "this kernel lacks NAT") || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line about the kernel", err)
			}
			if after := redirectlab.Snapshot(t, h); after != before {
				t.Errorf("something was changed: %s", after)
			}
		})
	}
}

// TestSandbox looks at what a program in the sandbox sees, and that the machine sees nothing of it.
func TestSandbox(t *testing.T) {
	h := redirectlab.NewHosts(t, "tp-box", "mesh")[0]
	probe := script(t, "probe", `wc -c < /etc/nsswitch.conf; echo $XTABLES_LOCKFILE; ip -o addr show dev eth0 | grep -c 10.77.0.2; cat /proc/self/mountinfo | grep -c nsswitch`)
	run := func(sandbox bool) []string {
		t.Helper()
		cfg := &Config{Sandbox: sandbox, Log: slog.New(slog.DiscardHandler)}
		var out string
		if err := h.Do(func() (err error) { out, err = cfg.run(t.Context(), "", "/bin/sh", "-c", probe+"; true"); return err }); err != nil {
			t.Fatal(err)
		}
		return strings.Fields(out)
	}
	if got, want := run(true), []string{"0", namespaceLock, "1", "1"}; !slices.Equal(got, want) {
		t.Errorf("inside: got %q, want %q", got, want)
	}
	if got := run(false); len(got) != 3 || got[0] == "0" || got[1] != "1" || got[2] != "0" {
		t.Errorf("outside: got %q", got)
	}

	b := newBackend(t, Legacy)
	b.cfg.Sandbox = true
	plan := redirectlab.NewPlan(t, func(c *tp.Config) { c.DNS.Enabled = true })
	redirectlab.Apply(t, h, b, plan)
	if d := redirectlab.Check(t, h, b, plan); len(d) > 0 {
		t.Errorf("after apply: %v", d)
	}
	// Its lock is the namespace's, so that one held on the machine's does not matter.
	hold, err := os.OpenFile(filepath.Join(t.TempDir(), "xtables.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	if err := unix.Flock(int(hold.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	t.Setenv(lockVariable, hold.Name())
	if !redirectlab.Remove(t, h, b) {
		t.Error("Remove says that there was nothing")
	}
}
