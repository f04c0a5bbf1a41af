//go:build linux

package fault

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// TestAgentFails attacks one agent after the other while web calls backend.
func TestAgentFails(t *testing.T) {
	s := newScene(t, "kuma-dpfail")
	add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend"})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	awaitStatus(t, web, backendURL, http.StatusOK)
	victim := scene.WorkloadConfig{Name: "victim", Service: "victim", Args: []string{"--drain-time", "1ms"}}
	idle := victim
	idle.NoAgent = true
	w := add(t, s, idle)
	// begin starts the agent for the rest of a subtest.
	begin := func(t *testing.T, cfg scene.WorkloadConfig) {
		t.Helper()
		if err := w.StartAgent(ctx(t), cfg); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			w.KillAgent()
			awaitNone(t, w, "envoy")
		})
	}
	start := func(t *testing.T, cfg scene.WorkloadConfig) {
		t.Helper()
		begin(t, cfg)
		ready(t, w)
	}
	end := func(t *testing.T) {
		t.Helper()
		send(t, w.Agent, unix.SIGTERM)
		if code, err := w.Agent.Wait(ctx(t)); code != 0 {
			t.Errorf("exit code %d: %v", code, err)
		}
	}

	t.Run("envoy is killed", func(t *testing.T) {
		start(t, victim)
		if err := unix.Kill(one(t, w, "envoy"), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if code, _ := w.Agent.Wait(ctx(t)); code != 4 {
			t.Errorf("exit code %d, want 4", code)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("noticed after %s, want less than a second", took)
		}
		if last := lastLine(w.Agent.Log()); !strings.Contains(last, "signal: killed") {
			t.Errorf("the error does not say so: %s", last)
		}
		awaitNone(t, w, "envoy")
	})

	t.Run("the agent is killed and started again over what it left", func(t *testing.T) {
		start(t, victim)
		w.KillAgent()
		awaitNone(t, w, "envoy")
		if _, err := os.Stat(filepath.Join(w.WorkDir, "bootstrap.yaml")); err != nil {
			t.Errorf("it left nothing, so that this proves nothing: %v", err)
		}
		start(t, victim)
		end(t)
	})

	t.Run("envoy hangs and goes on", func(t *testing.T) {
		start(t, victim)
		envoy := one(t, w, "envoy")
		if err := unix.Kill(envoy, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		client := scene.HTTPClient(w.Host)
		defer client.CloseIdleConnections()
		resp, err := client.Get("http://127.0.0.1:9902/ready")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("ready says %s of an Envoy that hangs", resp.Status)
		}
		if err := unix.Kill(envoy, unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		ready(t, w)
		end(t)
	})

	t.Run("it has too few files", func(t *testing.T) {
		limited(t, s, files)
		start(t, victim)
		pid := one(t, w, "kuma-dp")
		spent := -cpu(t, pid)
		const many = 2 * files
		conns := make([]net.Conn, 0, many)
		for range many {
			c, err := w.Host.DialContext(ctx(t), "tcp", "127.0.0.1:9902")
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
		}
		// A header is waited for no longer than two seconds: the agent closes some by itself, which is the event to wait for.
		if err := conns[0].SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conns[0]); err != nil {
			t.Errorf("the agent never closed an idle connection: %v", err)
		}
		if spent += cpu(t, pid); spent > 100 {
			t.Errorf("it spun for %d hundredths of a second", spent)
		}
		for _, c := range conns {
			c.Close()
		}
		ready(t, w)
		if n := strings.Count(w.Agent.Log(), "too many open files"); n > 20 {
			t.Errorf("told %d times", n)
		}
		end(t)
	})

	t.Run("the disk is full", func(t *testing.T) {
		dir := filepath.Join(w.WorkDir, "small")
		tmpfs(t, dir, scene.ProxyUID, "64k")
		small := victim
		small.Args = append([]string{"--config-dir", dir}, victim.Args...)
		small.Env = []string{"KUMA_DATAPLANE_RUNTIME_SOCKET_DIR=" + dir}
		filler := fill(t, dir)
		begin(t, small)
		if code, _ := w.Agent.Wait(ctx(t)); code == 0 {
			t.Error("it started although it could not write")
		}
		if last := lastLine(w.Agent.Log()); !strings.HasPrefix(last, "Error: ") || !strings.Contains(last, dir) || !strings.Contains(last, "no space left") {
			t.Errorf("the error names neither the folder nor the reason: %s", last)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		start(t, small)
		fill(t, dir)
		// It needs no disk to go on.
		s.ControlPlane.Kill()
		if err := s.ControlPlane.Start(ctx(t)); err != nil {
			t.Fatal(err)
		}
		converges(t, s, web)
		ready(t, w)
		end(t)
	})

	t.Run("the work directory cannot be written", func(t *testing.T) {
		dir := filepath.Join(w.WorkDir, "fixed")
		tmpfs(t, dir, scene.ProxyUID, "64k")
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		fixed := victim
		fixed.Args = append([]string{"--config-dir", dir}, victim.Args...)
		begin(t, fixed)
		if code, _ := w.Agent.Wait(ctx(t)); code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		if last := lastLine(w.Agent.Log()); !strings.HasPrefix(last, "Error: ") || !strings.Contains(last, dir) || !strings.Contains(last, "read-only") {
			t.Errorf("the error names neither the folder nor the reason: %s", last)
		}
	})

	t.Run("its folder is another agent's", func(t *testing.T) {
		start(t, victim)
		second := w.Second("second", "second", 9911)
		dir := filepath.Join(s.Dir(), "victim-second")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := second.Start(ctx(t), "KUMA_READINESS_PORT=9912", "KUMA_DNS_ENABLED=false",
			"KUMA_DATAPLANE_RUNTIME_CONFIG_DIR="+w.WorkDir, "KUMA_DATAPLANE_RUNTIME_SOCKET_DIR="+w.WorkDir); err != nil {
			t.Fatal(err)
		}
		if code, err := second.Agent.Wait(ctx(t)); code != 1 || !strings.Contains(lastLine(second.Agent.Log()), w.WorkDir+" is in use") {
			t.Errorf("exit code %d, want 1 and the folder: %v", code, err)
		}
		for _, name := range []string{"bootstrap.yaml", "kuma-admin.sock", "kuma-xds.sock"} {
			if _, err := os.Stat(filepath.Join(w.WorkDir, name)); err != nil {
				t.Errorf("the second agent took a file of the first: %v", err)
			}
		}
		ready(t, w)
		end(t)
	})

	t.Run("envoy is something else", func(t *testing.T) {
		for name, text := range map[string]string{
			"prints junk":  "#!/bin/sh\nhead -c 100000 /dev/zero | tr '\\0' x\n",
			"fails":        "#!/bin/sh\necho no >&2; exit 9\n",
			"is no binary": "junk\n",
		} {
			t.Run(name, func(t *testing.T) {
				path := filepath.Join(s.Dir(), "not-envoy")
				if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
				wrong := victim
				wrong.Args = append([]string{"--binary-path", path}, victim.Args...)
				begin(t, wrong)
				if code, _ := w.Agent.Wait(ctx(t)); code != 4 {
					t.Errorf("exit code %d, want 4", code)
				}
				if last := lastLine(w.Agent.Log()); !strings.HasPrefix(last, "Error: ") || !strings.Contains(last, path) || len(last) > 2000 {
					t.Errorf("the error does not name the binary, or is too long: %.3000s", last)
				}
				left, err := filepath.Glob(filepath.Join(w.WorkDir, "*.sock"))
				if err != nil || len(left) > 0 {
					t.Errorf("left behind: %v %v", left, err)
				}
			})
		}
	})

	t.Run("a port is in use", func(t *testing.T) {
		for _, test := range []struct {
			address string
			code    int
		}{
			{"127.0.0.1:9901", 4},
			{"127.0.0.1:15053", 1},
		} {
			t.Run(test.address, func(t *testing.T) {
				l, err := w.Host.Listen("tcp", test.address)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				begin(t, victim)
				if code, _ := w.Agent.Wait(ctx(t)); code != test.code {
					t.Errorf("exit code %d, want %d", code, test.code)
				}
				_, port, _ := net.SplitHostPort(test.address)
				// The owner is another user, whose process an agent may not see: it says which user.
				if last := lastLine(w.Agent.Log()); !strings.HasPrefix(last, "Error: ") || !strings.Contains(last, port) || !strings.Contains(last, "in use") {
					t.Errorf("the error does not name the port: %s", last)
				}
				awaitNone(t, w, "envoy")
			})
		}
		for _, address := range []string{"0.0.0.0:15001", "0.0.0.0:15006"} {
			t.Run(address, func(t *testing.T) {
				l, err := w.Host.Listen("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				begin(t, victim)
				_, port, _ := net.SplitHostPort(address)
				// Envoy lives on without the listener, and so may the rest of the workload; somebody must hear of it.
				inUse := port + "': Address already in use"
				s.ExpectRefusal(w.Name, inUse)
				awaitLog(t, w.Agent, 0, inUse)
				awaitLog(t, w.Agent, 0, "envoy refused configuration")
				l.Close()
				end(t)
			})
		}
	})

	t.Run("the control plane comes after the agent", func(t *testing.T) {
		if err := s.ControlPlane.Stop(ctx(t)); err != nil {
			t.Fatal(err)
		}
		early := victim
		early.Env = []string{"KUMA_CONTROL_PLANE_RETRY_BACKOFF=200ms"}
		begin(t, early)
		awaitLog(t, w.Agent, 0, "connection refused")
		if err := s.ControlPlane.Start(ctx(t)); err != nil {
			t.Fatal(err)
		}
		ready(t, w)
		end(t)
	})

	t.Run("it is told to end while it waits for the control plane", func(t *testing.T) {
		if err := s.ControlPlane.Stop(ctx(t)); err != nil {
			t.Fatal(err)
		}
		begin(t, victim)
		awaitLog(t, w.Agent, 0, "connection refused")
		send(t, w.Agent, unix.SIGTERM)
		told := time.Now()
		if code, err := w.Agent.Wait(ctx(t)); code != 3 {
			t.Errorf("exit code %d, want 3: %v", code, err)
		}
		if took := time.Since(told); took > time.Second {
			t.Errorf("it went on waiting for %s", took)
		}
		if err := s.ControlPlane.Start(ctx(t)); err != nil {
			t.Fatal(err)
		}
	})
}

// TestToken lets the token of a running agent expire, gives it another's and then a good one.
func TestToken(t *testing.T) {
	s := newScene(t, "kuma-token")
	add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend"})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	awaitStatus(t, web, backendURL, http.StatusOK)
	load := scenetest.StartLoad(t, web)
	token := filepath.Join(web.WorkDir, "token")
	replace := func(name, validFor string) {
		t.Helper()
		text, err := s.Kumactl(ctx(t), nil, "generate", "dataplane-token", "--name", name, "--mesh", "default", "--valid-for", validFor)
		if err != nil {
			t.Fatal(err)
		}
		fresh := token + ".new"
		if err := errors.Join(os.WriteFile(fresh, []byte(text), 0o600), os.Chown(fresh, scene.ProxyUID, scene.ProxyUID), os.Rename(fresh, token)); err != nil {
			t.Fatal(err)
		}
	}
	restart := func() (said int) {
		t.Helper()
		said = len(web.Agent.Log())
		s.ControlPlane.Kill()
		if err := s.ControlPlane.Start(ctx(t)); err != nil {
			t.Fatal(err)
		}
		return said
	}
	streams := func() int {
		t.Helper()
		st, err := agentStatus(ctx(t), web)
		if err != nil {
			t.Fatal(err)
		}
		return st.Relay.Streams
	}
	for _, test := range []struct{ name, token, validFor, want string }{
		{"expired", "web", "1ms", "expired"},
		{"another's", "backend-1", "1h", "backend-1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			replace(test.token, test.validFor)
			from := restart()
			awaitLog(t, web.Agent, from, "authentication failed")
			said := web.Agent.Log()[from:]
			if !strings.Contains(said, test.want) {
				t.Errorf("the refusal does not say %q:\n%s", test.want, said)
			}
			text, err := os.ReadFile(token)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(web.Agent.Log(), strings.TrimSpace(string(text))) {
				t.Error("the log holds the token")
			}
			ready(t, web)
			before := streams()
			replace("web", "1h")
			awaitStreams(t, web, before+1)
			converges(t, s, web)
		})
	}
	// The changes of permission are the only failures; they come from converges.
	load.Stop()
	for _, line := range strings.Split(load.First(), "\n") {
		if load.Failed.Load() > 0 && !strings.Contains(line, strconv.Itoa(http.StatusForbidden)) {
			t.Errorf("%d of %d requests failed, first: %s", load.Failed.Load(), load.Sent.Load(), line)
		}
	}
}

// cpu is how long a process has computed, in hundredths of a second.
func cpu(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	total := 0
	for _, i := range []int{11, 12} { // utime and stime of proc(5), counted after the name
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	return total
}

// files is how many an agent of limited may have open.
const files = 128

// limited makes agents of the scene start with few files, until the test ends. It is done by a script in place of the binary,
// as a service manager would do it.
func limited(t *testing.T, s *scene.Scene, files int) {
	t.Helper()
	path := s.Path("kuma-dp")
	real := path + ".real"
	script := fmt.Sprintf("#!/bin/sh\nulimit -n %d\nexec %s \"$@\"\n", files, real)
	if err := errors.Join(os.Rename(path, real), os.WriteFile(path, []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Rename(real, path); err != nil {
			t.Error(err)
		}
	})
}
