package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/command"
	"github.com/kuma-dp/kuma-dp/internal/realenvoy"
	"github.com/kuma-dp/kuma-dp/internal/transcript"
)

const (
	patience = 20 * time.Second
	// drainTime is longer than any test may take: what ends earlier did not wait for it.
	drainTime = time.Minute
)

// process is a kuma-dp with a real Envoy.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	ready string // URL
	log   *transcript.Transcript
	ended chan struct{}
	code  int // once ended
}

// launch runs kuma-dp with its work directory and waits until it is ready.
func launch(t *testing.T, c *controlPlane, dir string) *process {
	t.Helper()
	p := begin(t, c, dir)
	p.awaitReady("READY")
	return p
}

func begin(t *testing.T, c *controlPlane, dir string) *process {
	t.Helper()
	_, port, err := net.SplitHostPort(freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	// testscript.Main has put this test binary on PATH under this name.
	p := &process{t: t, ready: "http://127.0.0.1:" + port + "/ready", log: transcript.New(), ended: make(chan struct{})}
	p.cmd = exec.Command("kuma-dp", "run", "--cp-address", c.server.URL, "--mesh=default", "--name=demo", "--concurrency=1",
		"--drain-time", drainTime.String(), "--binary-path", realenvoy.ForTest(t), "--work-dir", dir, "--envoy-log-level=warning")
	p.cmd.Env = append(os.Environ(), "KUMA_READINESS_PORT="+port)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.WaitDelay = time.Second // Envoy may hold the pipes for a moment longer
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		err := p.cmd.Wait()
		p.code = p.cmd.ProcessState.ExitCode()
		if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok && !errors.Is(err, exec.ErrWaitDelay) {
			p.code = -2
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // most tests have ended it
		<-p.ended
		if t.Failed() {
			t.Logf("log of kuma-dp:\n%s", p.log)
		}
	})
	return p
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exit waits for the end and checks the code.
func (p *process) exit(want int) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatal("kuma-dp does not end")
	}
	if p.code != want {
		p.t.Errorf("exit code %d, want %d", p.code, want)
	}
}

// get returns the body of the readiness page, or why there is none.
func (p *process) get() string {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	answer, err := client.Get(p.ready)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// awaitReady asks until the page says want.
func (p *process) awaitReady(want string) {
	p.t.Helper()
	p.poll("readiness "+want, func() bool { return p.get() == want })
}

// poll asks again and again: the other side has no way to tell.
func (p *process) poll(what string, ok func() bool) {
	p.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			p.t.Fatalf("never: %s", what)
		}
	}
}

var startedLine = regexp.MustCompile(`msg="envoy started".* pid=(\d+)`)

// envoy is the process id of Envoy.
func (p *process) envoy() int {
	p.t.Helper()
	m := startedLine.FindStringSubmatch(p.log.String())
	if m == nil {
		p.t.Fatal("the log does not tell Envoy's process id")
	}
	pid, err := strconv.Atoi(m[1])
	if err != nil {
		p.t.Fatal(err)
	}
	return pid
}

// alive says whether a process runs; one that nobody has waited for yet does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, ok := strings.Cut(string(stat), ") ")
	return ok && after[0] != 'Z' && after[0] != 'X'
}

func TestSignals(t *testing.T) {
	c := newControlPlane(t, "")
	t.Run("SIGUSR2 drains and goes on, SIGTERM then does not wait", func(t *testing.T) {
		p := launch(t, c, t.TempDir())
		p.signal(syscall.SIGUSR2)
		p.log.Await(t, "draining inbound connections; the proxy goes on running")
		p.signal(syscall.SIGUSR2) // again changes nothing
		if got := p.get(); got != "READY" || !alive(p.envoy()) {
			t.Errorf("readiness %q, want READY as before", got)
		}
		p.signal(syscall.SIGTERM)
		p.exit(0)
		p.log.Await(t, "already drained, ending at once")
		if alive(p.envoy()) {
			t.Error("Envoy goes on")
		}
	})
	t.Run("the first SIGTERM drains, the second ends", func(t *testing.T) {
		dir := t.TempDir()
		p := launch(t, c, dir)
		p.signal(syscall.SIGTERM)
		p.log.Await(t, "waiting for connections to be drained")
		if got := p.get(); got != "TERMINATING" || !alive(p.envoy()) {
			t.Errorf("readiness %q, want TERMINATING, with Envoy serving", got)
		}
		p.signal(syscall.SIGINT) // of either kind
		p.exit(0)
		p.log.Await(t, "drain cut short")
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	t.Run("the third exits without cleaning up", func(t *testing.T) {
		p := launch(t, c, t.TempDir())
		envoy := p.envoy()
		if err := syscall.Kill(envoy, syscall.SIGSTOP); err != nil { // an Envoy that hangs
			t.Fatal(err)
		}
		began := time.Now()
		p.signal(syscall.SIGTERM)
		p.log.Await(t, "draining envoy connections")
		p.signal(syscall.SIGTERM)
		p.log.Await(t, "stopping envoy")
		p.signal(syscall.SIGTERM)
		p.exit(command.ExitStart)
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("took %s: it waited for Envoy", took)
		}
		p.poll("Envoy dies with the agent", func() bool { return !alive(envoy) })
	})
	t.Run("SIGHUP of a closed terminal changes nothing", func(t *testing.T) {
		p := launch(t, c, t.TempDir())
		p.signal(syscall.SIGHUP)
		if got := p.get(); got != "READY" {
			t.Errorf("readiness %q, want READY", got)
		}
	})
}

func TestKilledAgentTakesEnvoyAlongAndCanStartAgain(t *testing.T) {
	c := newControlPlane(t, "")
	dir := t.TempDir()
	p := launch(t, c, dir)
	envoy := p.envoy()
	p.signal(syscall.SIGKILL)
	p.exit(-1)
	p.poll("Envoy dies with the agent", func() bool { return !alive(envoy) })
	if _, err := os.Lstat(filepath.Join(dir, "kuma-xds.sock")); err != nil {
		t.Fatalf("the killed agent left no socket, so this test shows nothing: %v", err)
	}
	again := launch(t, c, dir) // same folder, same admin port
	t.Run("a second agent in the same folder is refused", func(t *testing.T) {
		other := begin(t, c, dir)
		other.exit(command.ExitStart)
		other.log.Await(t, "is in use by another kuma-dp")
		if got := again.get(); got != "READY" {
			t.Errorf("readiness of the first is %q now", got)
		}
	})
	again.signal(syscall.SIGTERM)
	again.log.Await(t, "waiting for connections to be drained")
	again.signal(syscall.SIGTERM)
	again.exit(0)
}

func TestHostileBootstrapIsRefused(t *testing.T) {
	c := newControlPlane(t, "staticResources: {secrets: [{name: x, genericSecret: {secret: {filename: /etc/shadow}}}]}\n")
	dir := t.TempDir()
	p := begin(t, c, dir)
	p.exit(exitControlPlane)
	p.log.Await(t, `genericSecret.secret.filename names "/etc/shadow", outside of the work directory`)
	if strings.Contains(p.log.String(), "envoy started") {
		t.Error("Envoy was started with it")
	}
}
