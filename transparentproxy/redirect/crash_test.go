//go:build linux

package redirect_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/redirect"
)

// deadlyTool stands before an iptables-restore and kills whoever calls it, at the n-th call, before or after it did its work.
const deadlyTool = `#!/bin/sh
n=$(($(cat DIR/count) + 1)); echo $n > DIR/count
[ $n = "$(cat DIR/before)" ] && { kill -9 $PPID; exit 1; }
REAL "$@"; code=$?
[ $n = "$(cat DIR/after)" ] && kill -9 $PPID
exit $code
`

// deadlyTools makes a directory of them.
func deadlyTools(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"iptables", "ip6tables"} {
		for _, flavour := range []string{"nft", "legacy"} {
			tool := name + "-" + flavour + "-restore"
			real, err := exec.LookPath(tool)
			if err != nil {
				t.Fatal(err)
			}
			script := strings.NewReplacer("DIR", dir, "REAL", real).Replace(deadlyTool)
			if err := os.WriteFile(filepath.Join(dir, tool), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// TestKilledAtEveryStep kills an installation and a removal before and after each of their steps. Then either a removal or an
// installation and a removal make the host as it was, with rules of others in place all the time.
func TestKilledAtEveryStep(t *testing.T) {
	for _, tc := range []struct {
		name, first, what, backend string
		steps                      int // at least
	}{
		{"install", "", "install", "nftables", 2},
		{"install with iptables", "", "install", "iptables-nft", 6},
		{"install again", "nftables", "install", "nftables", 2},
		{"switch from iptables", "iptables-nft", "install", "nftables", 6},
		{"switch from legacy", "iptables-legacy", "install", "nftables", 6},
		{"switch to legacy", "nftables", "install", "iptables-legacy", 6},
		{"switch from nft to legacy", "iptables-nft", "install", "iptables-legacy", 8},
		{"switch from legacy to nft", "iptables-legacy", "install", "iptables-nft", 8},
		{"remove", "nftables", "remove", "auto", 2},
		{"remove iptables", "iptables-nft", "remove", "auto", 6},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t, "rd-kill", redirect.Auto)
			foreign(t, l.Host)
			tools := deadlyTools(t)
			want := l.snapshot(t)
			kills := 0
			for _, where := range []string{"backend", "before", "after"} {
				for n := 1; ; n++ {
					if tc.first != "" {
						l.apply(t, l.manager(t, tc.first, nil), config(func(c *tp.Config) { c.Inbound.Port = 25006 }))
					}
					killed := l.kill(t, tools, tc.what, tc.backend, where, n)
					if rules := l.shell(t, "iptables-nft-save; iptables-legacy-save; nft list ruleset"); tc.first != "" && tc.what == "install" &&
						!strings.Contains(rules, "--to-ports 15001") && !strings.Contains(rules, "redirect to :15001") {
						t.Errorf("killed %s step %d: nothing is redirected", where, n)
					}
					if n%2 == 0 {
						l.apply(t, l.m, config(nil))
						l.wants(t, redirect.InSync)
					}
					l.remove(t, l.m)
					if diff := cmp.Diff(want, l.snapshot(t)); diff != "" {
						t.Fatalf("killed %s step %d: the host is not as before:\n%s", where, n, diff)
					}
					l.gone(t)
					if !killed {
						break
					}
					kills++
				}
			}
			if kills < tc.steps {
				t.Errorf("only %d kills, want %d", kills, tc.steps)
			}
			t.Logf("%d kills", kills)
		})
	}
}

// kill runs a child that is killed, and says whether it was: it is not when it has fewer steps.
func (l *lab) kill(t *testing.T, tools, what, backend, where string, n int) bool {
	t.Helper()
	point := 0
	for _, name := range []string{"count", "before", "after"} {
		value := 0
		switch {
		case name == where:
			value = n
		case where == "backend":
			point = n
		}
		if err := os.WriteFile(filepath.Join(tools, name), []byte(strconv.Itoa(value)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := l.Command(t.Context(), 0, os.Args[0])
	cmd.Env = append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"),
		childVariable+"="+strings.Join([]string{what, backend, l.dir, strconv.Itoa(point)}, " "))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Fatalf("killed %s step %d: %v: %s", where, n, err, out)
	}
	return true
}
