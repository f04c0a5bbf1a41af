package envoy

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/transcript"
)

func TestArgs(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"defaults", Config{}, "--config-path b.yaml --drain-time-s 30 --drain-strategy immediate --disable-hot-restart --log-level info --cpuset-threads"},
		{
			"all",
			Config{DrainTime: 1500 * time.Millisecond, Concurrency: 2, LogLevel: "debug", ComponentLogLevel: "upstream:trace"},
			"--config-path b.yaml --drain-time-s 1 --drain-strategy immediate --disable-hot-restart --log-level debug --component-log-level upstream:trace --concurrency 2",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Binary, tt.cfg.BootstrapPath, tt.cfg.Admin = "envoy", "b.yaml", "127.0.0.1:9901"
			p, err := New(tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(p.Args(), " "); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestConfigIsChecked(t *testing.T) {
	_, err := New(Config{DrainTime: -1, StopTimeout: -1, Concurrency: -1, Admin: "x"})
	for _, want := range []string{"Binary", "BootstrapPath", "DrainTime", "StopTimeout", "Concurrency", "Admin"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
}

func TestParseAdmin(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:9901": "tcp 127.0.0.1:9901", "[::1]:9901": "tcp [::1]:9901", "0.0.0.0:1": "tcp 127.0.0.1:1", "[::]:1": "tcp [::1]:1",
		"localhost:9901": "tcp localhost:9901", "/run/a.sock": "unix /run/a.sock", "unix:/run/a.sock": "unix /run/a.sock",
		"": "", "a.sock": "", "127.0.0.1": "", "127.0.0.1:0": "", "127.0.0.1:x": "", "127.0.0.1:65536": "", "unix:a.sock": "",
	} {
		network, addr, err := parseAdmin(in)
		if got := strings.TrimSpace(network + " " + addr); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestStartAndStop(t *testing.T) {
	r := startFake(t, fakeConfig{NotReady: []string{"PRE_INITIALIZING", "INITIALIZING"}}, nil)
	r.ready(t)
	if r.State() != Running || r.PID() == 0 {
		t.Errorf("state %v, pid %d", r.State(), r.PID())
	}
	if pgid, err := syscall.Getpgid(r.PID()); err != nil || pgid != r.PID() {
		t.Errorf("process group %d, %v, want its own, %d", pgid, err, r.PID())
	}
	r.cancel()
	if err := r.wait(t); err != nil {
		t.Error(err)
	}
	if r.State() != Stopped {
		t.Errorf("state %v", r.State())
	}
	out := r.out.String()
	if !strings.Contains(out, "args "+strings.Join(r.Args(), " ")+"\n") || strings.Count(out, "GET /ready") != 3 || strings.Count(out, "SIGTERM") != 1 {
		t.Errorf("envoy saw:\n%s", out)
	}
	if err := r.Run(t.Context()); err == nil {
		t.Error("a second run must fail")
	}
	if err := r.Ready(t.Context()); err == nil {
		t.Error("a stopped envoy cannot get ready")
	}
}

func TestBootstrapIsForTheOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	path, victim := filepath.Join(dir, "new", "bootstrap.yaml"), filepath.Join(dir, "victim")
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, path); err != nil {
		t.Fatal(err)
	}
	if err := writeBootstrap(path, []byte("secret")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v, want a file with 0600", info.Mode(), err)
	}
	if _, err := os.Stat(victim); !os.IsNotExist(err) {
		t.Errorf("the planted link was followed: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("leftovers: %v", entries)
	}
	if err := writeBootstrap(filepath.Join(path, "x"), nil); err == nil || !strings.Contains(err.Error(), "write envoy bootstrap") {
		t.Errorf("got %v", err)
	}
}

func TestEndByItself(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	status := func(n int) *int { return &n }
	for _, tt := range []struct {
		name     string
		fake     fakeConfig
		want     []string // empty: no error
		wantNot  []string
		wantCode int
	}{
		{name: "status 0", fake: fakeConfig{Exit: status(0)}},
		{name: "status 3 in silence", fake: fakeConfig{Exit: status(3)}, want: []string{"exit status 3", "--envoy-log-level=debug"}, wantCode: 3},
		{
			name: "last words", fake: fakeConfig{Exit: status(1), Stderr: "[2026-11-23 05:12:19.480][1][info][main] [x.cc:1] starting\n" +
				"[2026-11-23 05:12:19.480][1][critical][main] [x.cc:2] error `no such field: 'foo'`\n[2026-11-23 05:12:19.480][1][info][main] [x.cc:3] exiting\nlast line"},
			want: []string{"exit status 1", "no such field: 'foo'", "last line"}, wantNot: []string{"starting", "exiting"}, wantCode: 1,
		},
		{name: "signal", fake: fakeConfig{Kill: true}, want: []string{"signal: killed", "memory"}, wantCode: -1},
		{
			name: "port in use", fake: fakeConfig{Exit: status(1), Stderr: "cannot bind '" + taken.Addr().String() + "': Address already in use\n"},
			want: []string{"port " + port(taken), "in use by envoy.test (pid "}, wantCode: 1,
		},
		{
			name: "secrets", fake: fakeConfig{Exit: status(1), Stderr: `bad: {"t":"eyJhbGciOi.eyJOYW1l.c2ln","k":"-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----"}` + "\n"},
			want: []string{"bad:", "[token]", "[private key]"}, wantNot: []string{"eyJ", "MHcC"}, wantCode: 1,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := startFake(t, tt.fake, nil)
			readyErr := r.Ready(t.Context())
			err := r.wait(t)
			if r.State() != Exited || readyErr == nil {
				t.Errorf("state %v, ready: %v", r.State(), readyErr)
			}
			if got := r.err.String(); got != tt.fake.Stderr {
				t.Errorf("stderr was changed to %q", got)
			}
			if len(tt.want) == 0 {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			exit, ok := errors.AsType[*ExitError](err)
			if !ok || exit.Status != tt.wantCode || (exit.Signal != 0) != (tt.wantCode < 0) {
				t.Fatalf("got %#v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not contain %q", err, want)
				}
			}
			for _, no := range tt.wantNot {
				if strings.Contains(err.Error(), no) {
					t.Errorf("%q contains %q", err, no)
				}
			}
			if !errors.Is(readyErr, err) {
				t.Errorf("waiting for readiness failed with %v, want the reason of the end", readyErr)
			}
		})
	}
}

func port(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func TestCannotStart(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no binary", Config{Binary: filepath.Join(dir, "none"), Bootstrap: []byte("x")}, "start envoy"},
		{"not a program", Config{Binary: "/dev/null", Bootstrap: []byte("x")}, "start envoy"},
		{"bootstrap cannot be written", Config{Binary: fakeBinary, BootstrapPath: "/dev/null/x", Bootstrap: []byte("x")}, "write envoy bootstrap"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.cfg.BootstrapPath == "" {
				tt.cfg.BootstrapPath = filepath.Join(dir, "b.yaml")
			}
			tt.cfg.Admin = filepath.Join(dir, "admin.sock")
			r := startProcess(t, tt.cfg, nil)
			if err := r.wait(t); err == nil || !strings.Contains(err.Error(), tt.want) || r.State() != Exited {
				t.Errorf("got %v in state %v, want %q", err, r.State(), tt.want)
			}
		})
	}
}

func TestSIGTERMIgnored(t *testing.T) {
	r := startFake(t, fakeConfig{IgnoreTerm: true}, func(c *Config) { c.StopTimeout = 100 * time.Millisecond })
	r.ready(t)
	r.cancel()
	if err := r.wait(t); err != nil || r.State() != Stopped {
		t.Errorf("got %v in state %v", err, r.State())
	}
	if !strings.Contains(r.out.String(), "SIGTERM") {
		t.Error("no SIGTERM came before the SIGKILL")
	}
	if err := syscall.Kill(r.PID(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process is still there: %v", err)
	}
}

func TestReadyEndsWithItsContext(t *testing.T) {
	r := startFake(t, fakeConfig{NotReady: slices.Repeat([]string{"INITIALIZING"}, 10000)}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { r.out.Await(t, "GET /ready\nGET /ready"); cancel() }()
	if err := r.Ready(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "INITIALIZING") {
		t.Errorf("got %v, want it to tell the last answer", err)
	}
}

func TestOutputThatFails(t *testing.T) {
	r := startFake(t, fakeConfig{Stderr: strings.Repeat("line\n", 100)}, func(c *Config) { c.Stdout, c.Stderr = failing{}, failing{} })
	r.ready(t)
	r.cancel()
	if err := r.wait(t); err != nil {
		t.Error(err)
	}
}

// The kernel ends Envoy when the agent is killed.
func TestAgentKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.yaml")
	bootstrap, err := json.Marshal(fakeConfig{IgnoreTerm: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bootstrap, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], fakeBinary)
	cmd.Env = append(os.Environ(), agentVar+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := transcript.New()
	end := make(chan struct{})
	go func() {
		defer close(end)
		io.Copy(seen, out) // ends when the last process that has the pipe has ended
	}()
	seen.Await(t, "serving")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-end:
	case <-time.After(30 * time.Second):
		t.Error("envoy outlives the agent")
	}
	cmd.Wait()
}
