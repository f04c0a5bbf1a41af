//go:build linux

package nftables

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// Variables that make this test binary a process that uses the backend.
const (
	doVar    = "NFTABLES_TEST_DO"       // install, cycle or, without rights, facts
	stateVar = "NFTABLES_TEST_STATE"    // its state directory
	dieVar   = "NFTABLES_TEST_DIE_WHEN" // the log message at which it kills itself
)

func TestMain(m *testing.M) {
	if what := os.Getenv(doVar); what != "" {
		if err := process(what); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func processPlan() *tp.Plan {
	cfg := tp.DefaultConfig()
	cfg.DNS.CaptureAll = true
	return must(tp.NewPlan(cfg, redirectlab.Facts()))
}

func process(what string) error {
	runtime.LockOSThread()
	b := New(Config{StateDir: os.Getenv(stateVar), Log: slog.New(killer(os.Getenv(dieVar)))})
	ctx := context.Background()
	var host tp.Host
	if err := b.Facts(ctx, &host); err != nil || what == "facts" {
		return err
	}
	if err := b.Apply(ctx, processPlan()); err != nil || what == "install" {
		return err
	}
	if d, err := b.Check(ctx, processPlan()); err != nil || len(d) > 0 {
		return fmt.Errorf("check: %v: %w", d, err)
	}
	_, err := b.Remove(ctx)
	return err
}

// killer ends this process at a message, as if by kill -9.
type killer string

func (k killer) Enabled(context.Context, slog.Level) bool { return true }
func (k killer) WithAttrs([]slog.Attr) slog.Handler       { return k }
func (k killer) WithGroup(string) slog.Handler            { return k }
func (k killer) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		fmt.Println(r.Message)
	}
	if r.Message == string(k) {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
	return nil
}

// start runs this binary on a host through a command, with no other program in reach.
func start(t *testing.T, h *netlab.Host, what, state, die string, through ...string) error {
	t.Helper()
	args := append(slices.Clone(through), "env", "-i", "PATH=/nonexistent", doVar+"="+what, stateVar+"="+state, dieVar+"="+die, must(os.Executable()))
	out, err := h.Command(t.Context(), 0, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	} else if len(out) > 0 {
		err = fmt.Errorf("it says %s", out)
	}
	return err
}

func TestFewRights(t *testing.T) {
	for _, tc := range []struct {
		name    string
		through []string
	}{
		{"no programs", nil},
		{"capabilities of kuma-init", []string{"setpriv", "--bounding-set", "-all,+net_admin,+net_raw", "--inh-caps", "-all", "--no-new-privs"}},
		{"user namespace", []string{"unshare", "--user", "--map-root-user", "--net"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := redirectlab.NewHosts(t, "tp-nftcaps", "mesh")[0]
			before := redirectlab.Snapshot(t, h)
			if err := start(t, h, "cycle", t.TempDir()+"/state", "", tc.through...); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(before, redirectlab.Snapshot(t, h)); diff != "" {
				t.Errorf("the host is not as before:\n%s", diff)
			}
		})
	}
}

// TestKilled ends the installing process after each of its steps: there is all or nothing of the rules, and removing
// restores the host.
func TestKilled(t *testing.T) {
	for _, earlier := range []bool{false, true} {
		for _, step := range []string{"journal written", "addresses added to loopback", "rules replaced"} {
			t.Run(fmt.Sprintf("%s, earlier %t", step, earlier), func(t *testing.T) {
				h := redirectlab.NewHosts(t, "tp-nftkill", "mesh")[0]
				addHostile(t, h)
				b := newBackend(t)
				pristine := redirectlab.Snapshot(t, h)
				var now *tp.Plan
				if earlier {
					now = redirectlab.NewPlan(t, func(c *tp.Config) { c.IPFamilyMode = tp.IPv4Only })
					redirectlab.Apply(t, h, b, now)
				}
				err := start(t, h, "install", b.cfg.StateDir, step)
				if err == nil || !strings.Contains(err.Error(), "killed") {
					t.Fatalf("got %v, want that it was killed", err)
				}
				if step == "rules replaced" {
					now = processPlan()
				}
				if d := redirectlab.Check(t, h, b, now); len(d) > 0 {
					t.Errorf("neither all nor nothing: %v", d)
				}
				redirectlab.Remove(t, h, b)
				if diff := cmp.Diff(pristine, redirectlab.Snapshot(t, h)); diff != "" {
					t.Errorf("the host is not as before:\n%s", diff)
				}
			})
		}
	}
}
