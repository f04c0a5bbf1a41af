//go:build linux

package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/internal/transcript"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
)

const patience = 20 * time.Second

const installFlags = "install transparent-proxy --kuma-dp-user 65534 --redirect-all-dns-traffic --exclude-inbound-ports 22"

func TestStatusCommand(t *testing.T) {
	h := proxyHost(t, "kctl-status")
	before := rulesOf(t, h)
	expect := func(line string, want int, texts ...string) string {
		t.Helper()
		code, out, errs := kumactlOn(t, h, line)
		for _, text := range texts {
			if !strings.Contains(out+errs, text) {
				t.Errorf("%s: lacks %q: %q, %q", line, text, out, errs)
			}
		}
		if code != want {
			t.Errorf("%s: exit %d, want %d: %q, %q", line, code, want, out, errs)
		}
		return out
	}
	expect("transparent-proxy status", exitAbsent, "absent: nothing is redirected")
	expect("transparent-proxy status --repair", exitUnknown, "Error: repair redirection: nothing is installed here: run 'kumactl install transparent-proxy'")
	expect(installFlags, exitOK, "set up successfully")
	expect("transparent-proxy status", exitOK, "in sync", "backend: nftables", "installed: 20")
	// Flags compare with another configuration, and change nothing.
	expect("transparent-proxy status --kuma-dp-user 65534 --redirect-all-dns-traffic", exitDrift, "drift: 2 differences\n",
		"the table was made for another plan", "nftables nat KUMA_MESH_INBOUND handle ", "the rule is not in the plan")
	hostShell(t, h, `nft delete rule inet kuma_mesh KUMA_MESH_INBOUND handle $(nft -a list chain inet kuma_mesh KUMA_MESH_INBOUND | sed -n 's/.*"exclude.port.22" # handle //p')`)
	expect("transparent-proxy status", exitDrift, "drift: 1 difference\n", "nftables nat KUMA_MESH_INBOUND exclude.port.22: the rule is missing")
	var got struct {
		State, Backend string
		Differences    []struct{ Backend, Table, Chain, Rule, Problem string }
	}
	if err := json.Unmarshal([]byte(expect("transparent-proxy status -o json", exitDrift)), &got); err != nil {
		t.Fatal(err)
	}
	if got.State != "drift" || got.Backend != "nftables" || len(got.Differences) != 1 || got.Differences[0].Rule != "exclude.port.22" {
		t.Errorf("got %+v", got)
	}
	expect("transparent-proxy status --repair", exitOK, "exclude.port.22: the rule is missing", "repaired")
	expect("transparent-proxy status", exitOK, "in sync")
	expect("transparent-proxy status --repair --kuma-dp-user 65534 --keep-ssh=false", exitOK)
	expect("transparent-proxy status", exitOK, "in sync")
	if out := rulesOf(t, h); strings.Contains(out, "dport 53") {
		t.Errorf("repair with flags does not follow them:\n%s", out)
	}
	for line, want := range map[string]string{
		"transparent-proxy status -o yaml": `output format "yaml" is none of text, json`, "transparent-proxy status --watch --repair": "leave --repair out",
		"transparent-proxy status --backend ebpf": `unknown backend "ebpf": choose one of`, "transparent-proxy status now": "want none",
		"transparent-proxy nonsense": "unknown command", "install transparent-proxy --backend ebpf --kuma-dp-user 65534": `unknown backend "ebpf"`,
	} {
		if code, _, errs := kumactlOn(t, h, line); code == exitOK || !strings.Contains(errs, want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: exit %d, %q", line, code, errs)
		}
	}
	expect("transparent-proxy confirm", exitFailure, "no installation waits for confirmation")
	expect("transparent-proxy rollback", exitFailure, "no installation waits for confirmation")
	expect("uninstall transparent-proxy", exitOK, "cleaned up")
	if after := rulesOf(t, h); after != before {
		t.Errorf("the host is not as before:\n%s", after)
	}
}

func TestBackendFlag(t *testing.T) {
	h := proxyHost(t, "kctl-backend")
	for _, tc := range []struct{ backend, want string }{
		{"auto", "nftables"},
		{"iptables-legacy", ""},
		{"iptables", "iptables-legacy"},
		{"iptables-nft", ""},
		{"iptables", "iptables-nft"},
		{"auto", "iptables-nft"},
		{"nftables", ""},
		{"auto", "nftables"},
	} {
		backend, want := tc.backend, cmp.Or(tc.want, tc.backend)
		if code, _, errs := kumactlOn(t, h, installFlags+" --backend "+backend); code != exitOK {
			t.Fatalf("%s: %s", backend, errs)
		}
		if _, out, _ := kumactlOn(t, h, "transparent-proxy status"); !strings.Contains(out, "in sync") || !strings.Contains(out, "backend: "+want) {
			t.Errorf("%s: %s", backend, out)
		}
	}
	if code, _, errs := kumactlOn(t, h, "uninstall transparent-proxy"); code != exitOK {
		t.Error(errs)
	}
}

// TestKeepSSH runs in what looks like an SSH session.
func TestKeepSSH(t *testing.T) {
	h := proxyHost(t, "kctl-ssh")
	t.Setenv("SSH_CONNECTION", "10.0.0.9 50000 10.0.0.2 2222")
	_, out, errs := kumactlOn(t, h, "install transparent-proxy --kuma-dp-user 65534 --dry-run --keep-ssh")
	if !strings.Contains(out, "-p tcp --dport 2222 -j RETURN") || !strings.Contains(errs, "this SSH session stays out of redirection") || !strings.Contains(errs, "port=2222") {
		t.Errorf("not kept: %s\n%s", out, errs)
	}
	if _, out, _ = kumactlOn(t, h, "install transparent-proxy --kuma-dp-user 65534 --dry-run --keep-ssh=false"); strings.Contains(out, "2222") {
		t.Errorf("kept although told not to: %s", out)
	}
}

func proxyHost(t *testing.T, prefix string) *netlab.Host {
	t.Helper()
	h := redirectlab.NewHosts(t, prefix, "mesh")[0]
	// An installation's record is the machine's, not the namespace's, and would outlive it.
	t.Cleanup(func() {
		if code, _, errs := kumactlOn(t, h, "uninstall transparent-proxy"); code != exitOK {
			t.Errorf("cleaning up: exit %d: %s", code, errs)
		}
	})
	return h
}

// kumactlOn runs a command line in the host's namespace.
func kumactlOn(t *testing.T, h *netlab.Host, line string) (code int, stdout, stderr string) {
	t.Helper()
	if strings.HasPrefix(line, "install ") && !strings.Contains(line, "--keep-ssh") {
		line += " --keep-ssh=false" // the test may run in an SSH session
	}
	var out, errs bytes.Buffer
	if err := h.Do(func() error {
		code = run(strings.Fields(line), os.LookupEnv, strings.NewReader(""), &out, &errs)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return code, out.String(), errs.String()
}

func rulesOf(t *testing.T, h *netlab.Host) string {
	t.Helper()
	return redirectlab.Snapshot(t, h)
}

func hostShell(t *testing.T, h *netlab.Host, script string) {
	t.Helper()
	if out, err := h.Command(t.Context(), 0, "sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func buildKumactl(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "kumactl")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

// session is a kumactl with a terminal of its own.
type session struct {
	cmd      *exec.Cmd
	terminal *os.File
	out      *transcript.Transcript
	read     chan struct{} // closed at the end of what the terminal shows
}

func newSession(t *testing.T, h *netlab.Host, bin, line string) *session {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	if err := errors.Join(raw.Control(func(fd uintptr) {
		err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		n, nerr := unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		number, err = n, errors.Join(err, nerr)
	}), err); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{terminal: master, out: transcript.New(), read: make(chan struct{})}
	s.cmd = h.Command(t.Context(), 0, bin, strings.Fields(line)...)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := errors.Join(s.cmd.Start(), slave.Close()); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.read)
		_, _ = io.Copy(s.out, master) // ends when the other side is closed
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // most have ended
		_ = s.cmd.Wait()
		_ = master.Close()
		<-s.read
	})
	return s
}

func (s *session) code() int {
	_ = s.cmd.Wait() // the code says it
	return s.cmd.ProcessState.ExitCode()
}

func TestConfirmTimeout(t *testing.T) {
	bin := buildKumactl(t)
	for _, tc := range []struct {
		name, timeout string
		do            func(*testing.T, *netlab.Host, *session)
		kept          bool
	}{
		{"Enter", "1h", func(t *testing.T, _ *netlab.Host, s *session) {
			if _, err := s.terminal.WriteString("\n"); err != nil {
				t.Fatal(err)
			}
			if code := s.code(); code != exitOK {
				t.Errorf("exit %d", code)
			}
		}, true},
		{"no", "1h", func(t *testing.T, _ *netlab.Host, s *session) {
			if _, err := s.terminal.WriteString("n\n"); err != nil {
				t.Fatal(err)
			}
			if code := s.code(); code != exitFailure {
				t.Errorf("exit %d", code)
			}
		}, false},
		{"confirmed in another session", "1h", func(t *testing.T, h *netlab.Host, s *session) {
			if code, out, errs := kumactlOn(t, h, "transparent-proxy confirm"); code != exitOK || !strings.Contains(out, "stays") {
				t.Errorf("exit %d, %q, %q", code, out, errs)
			}
			if code := s.code(); code != exitOK {
				t.Errorf("exit %d", code)
			}
		}, true},
		{"nothing", "1s", func(t *testing.T, _ *netlab.Host, s *session) {
			if code := s.code(); code != exitFailure {
				t.Errorf("exit %d", code)
			}
			s.out.Await(t, "the installation was not confirmed: everything is as it was before")
		}, false},
		{"killed", "1s", func(t *testing.T, _ *netlab.Host, s *session) {
			if err := s.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"the terminal hangs up", "1s", func(t *testing.T, _ *netlab.Host, s *session) {
			if err := s.terminal.Close(); err != nil { // SIGHUP to the whole session
				t.Fatal(err)
			}
			if code := s.code(); code == exitOK {
				t.Error("it survives, so this shows nothing")
			}
		}, false},
		{"interrupted", "1h", func(t *testing.T, _ *netlab.Host, s *session) {
			if _, err := s.terminal.WriteString("\x03"); err != nil { // Ctrl-C
				t.Fatal(err)
			}
			if code := s.code(); code != exitFailure {
				t.Errorf("exit %d", code)
			}
		}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := proxyHost(t, "kctl-conf")
			hostShell(t, h, "iptables-nft -t nat -A OUTPUT -p tcp --dport 9999 -j ACCEPT")
			before := rulesOf(t, h)
			s := newSession(t, h, bin, installFlags+" --keep-ssh=false --confirm-timeout "+tc.timeout)
			s.out.Await(t, "taken back at")
			tc.do(t, h, s)
			if !tc.kept {
				for late := time.Now().Add(patience); rulesOf(t, h) != before; { // the guard has nobody to tell
					if time.Now().After(late) {
						t.Fatalf("not taken back:\n%s", rulesOf(t, h))
					}
				}
				return
			}
			if _, out, _ := kumactlOn(t, h, "transparent-proxy status"); !strings.Contains(out, "in sync") || strings.Contains(out, "waits") {
				t.Errorf("status: %s", out)
			}
			if code, _, errs := kumactlOn(t, h, "uninstall transparent-proxy"); code != exitOK {
				t.Error(errs)
			}
		})
	}
}

func TestStatusWatchCommand(t *testing.T) {
	h := proxyHost(t, "kctl-watch")
	bin := buildKumactl(t)
	if code, _, errs := kumactlOn(t, h, installFlags); code != exitOK {
		t.Fatal(errs)
	}
	cmd := h.Command(t.Context(), 0, bin, "transparent-proxy", "status", "--watch")
	out := transcript.New()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.Await(t, "watching redirection")
	hostShell(t, h, "nft flush ruleset")
	out.Await(t, "redirection repaired")
	if _, got, _ := kumactlOn(t, h, "transparent-proxy status"); !strings.Contains(got, "in sync") {
		t.Errorf("status: %s", got)
	}
	if code, _, errs := kumactlOn(t, h, "uninstall transparent-proxy"); code != exitOK {
		t.Error(errs)
	}
	_ = cmd.Wait() // the code says it
	if code := cmd.ProcessState.ExitCode(); code != exitAbsent {
		t.Errorf("exit %d after the uninstallation, want %d: %s", code, exitAbsent, out)
	}
	if after := rulesOf(t, h); strings.Contains(after, "KUMA_MESH") {
		t.Errorf("left: %s", after)
	}
}
