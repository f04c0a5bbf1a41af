package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kuma-dp/kuma-dp/internal/command"
)

// The test binary is kuma-cp when it is told so: real signals and exit codes need a process.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_BE_KUMA_CP") == "1" {
		main()
	}
	os.Exit(m.Run())
}

func process(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append([]string{
		"TEST_BE_KUMA_CP=1", "HOME=" + t.TempDir(), "KUMA_STORE_TYPE=memory", "KUMA_API_SERVER_HTTP_PORT=0", "KUMA_API_SERVER_HTTPS_ENABLED=false",
		"KUMA_DP_SERVER_PORT=0", "KUMA_DIAGNOSTICS_SERVER_PORT=0",
	}, env...)
	return cmd
}

func TestExitCodes(t *testing.T) {
	taken, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("nonsense: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		code int
		want string
	}{
		{"version", nil, []string{"version"}, 0, "Kuma: "},
		{"detailed version", nil, []string{"version", "--detailed"}, 0, "Build Date:"},
		{"help", nil, nil, 0, "Exit codes:"},
		{"unknown command", nil, []string{"rum"}, command.ExitUsage, "rum"},
		{"unknown flag", nil, []string{"run", "--nope"}, command.ExitUsage, "--nope"},
		{"argument", nil, []string{"run", "now"}, command.ExitUsage, "now"},
		{"unknown log level", nil, []string{"run", "--log-level", "loud"}, command.ExitUsage, "loud"},
		{"unknown setting", nil, []string{"run", "-c", file}, command.ExitStart, "nonsense"},
		{"wrong setting", []string{"KUMA_STORE_TYPE=postgres"}, []string{"run"}, command.ExitStart, "store.type"},
		{"port in use", []string{"KUMA_DP_SERVER_PORT=" + port}, []string{"run"}, command.ExitStart, "port " + port},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := process(t, tt.env, tt.args...)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState == nil {
				t.Fatal(err)
			}
			if got := cmd.ProcessState.ExitCode(); got != tt.code || !strings.Contains(string(out), tt.want) {
				t.Errorf("exit code %d, want %d with %q:\n%s", got, tt.code, tt.want, out)
			}
		})
	}
}

// watcher keeps what is written and says when a text has come by. The buffer is a field: embedded, its ReadFrom would go
// around Write.
type watcher struct {
	buf  bytes.Buffer
	text string
	seen chan struct{}
}

func (w *watcher) Write(b []byte) (int, error) {
	n, err := w.buf.Write(b)
	if w.seen != nil && strings.Contains(w.buf.String(), w.text) {
		close(w.seen)
		w.seen = nil
	}
	return n, err
}

func (w *watcher) String() string { return w.buf.String() }

func TestASignalStopsInOrder(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		cmd := process(t, []string{"KUMA_NO_SUCH_SETTING=1"}, "run")
		seen := make(chan struct{})
		log := &watcher{text: "control plane is ready", seen: seen}
		cmd.Stderr = log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		exited := make(chan error, 1)
		go func() { exited <- cmd.Wait() }()
		select {
		case <-seen:
		case err := <-exited:
			t.Fatalf("%v:\n%s", err, log.String())
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := <-exited; err != nil {
			t.Errorf("%s: %v:\n%s", sig, err, log.String())
		}
		if !strings.Contains(log.String(), "KUMA_NO_SUCH_SETTING") {
			t.Errorf("a variable that configures nothing goes unnoticed:\n%s", log.String())
		}
	}
}
