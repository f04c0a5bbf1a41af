//go:build linux

// Package fault attacks the running product: it kills, cuts, fills, corrupts and floods what a mesh stands on, and asks that
// traffic goes on, that errors say what happened, and that everything recovers by itself (demands.md §2.2).
package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// patience bounds what a test waits for; it is no measurement.
const patience = 20 * time.Second

const mesh = `type: Mesh
name: default
meshServices:
  mode: Exclusive
mtls:
  enabledBackend: ca-1
  backends:
  - name: ca-1
    type: builtin
`

// permission decides what web may do at the service.
func permission(service, action string) string {
	return fmt.Sprintf(`type: MeshTrafficPermission
mesh: default
name: web-to-%[1]s
spec:
  targetRef:
    kind: MeshSubset
    tags:
      kuma.io/service: %[1]s
  from:
  - targetRef:
      kind: MeshSubset
      tags:
        kuma.io/service: web
    default:
      action: %[2]s
`, service, action)
}

const backendURL = "http://backend.svc.mesh.local:8080/"

// Steps of a test under short names.
var ctx, apply, add, await = scenetest.Context, scenetest.Apply, scenetest.Add, scenetest.Await

// newScene brings up a control plane with a mesh in which web may call backend.
func newScene(t *testing.T, prefix string, env ...string) *scene.Scene {
	t.Helper()
	s := scenetest.New(t, prefix)
	startControlPlane(t, s, env...)
	return s
}

func startControlPlane(t *testing.T, s *scene.Scene, env ...string) {
	t.Helper()
	if err := s.StartControlPlane(ctx(t), env...); err != nil {
		t.Fatal(err)
	}
	apply(t, s, mesh+"---\n"+permission("backend", "Allow"))
}

// startAgent starts the workload's agent and waits until it is ready.
func startAgent(t *testing.T, w *scene.Workload, cfg scene.WorkloadConfig) {
	t.Helper()
	if err := w.StartAgent(ctx(t), cfg); err != nil {
		t.Fatal(err)
	}
	ready(t, w)
}

func ready(t *testing.T, w *scene.Workload) {
	t.Helper()
	if err := w.Ready(ctx(t)); err != nil {
		t.Fatalf("%v; the agent said:\n%s", err, w.Agent.Log())
	}
}

// awaitStatus asks until answers have this status, many in a row: every instance has then heard of the change.
func awaitStatus(t *testing.T, w *scene.Workload, url string, want int) {
	t.Helper()
	const inARow = 4
	await(t, fmt.Sprintf("%s to answer %d", url, want), func(c context.Context) error {
		for range inARow {
			if got, body, err := w.Curl(c, url); err != nil {
				return err
			} else if got != want {
				return fmt.Errorf("got %d: %s", got, body)
			}
		}
		return nil
	})
}

// awaitLog waits until the process has printed text after its first `from` bytes.
func awaitLog(t *testing.T, p *scene.Process, from int, text string) {
	t.Helper()
	await(t, fmt.Sprintf("%s to say %q", p.Name, text), func(context.Context) error {
		if log := p.Log(); !strings.Contains(log[from:], text) {
			return errors.New("it said " + lastLine(log))
		}
		return nil
	})
}

// converges proves that the workloads hear of changes: a permission is taken away and given back.
func converges(t *testing.T, s *scene.Scene, web *scene.Workload) {
	t.Helper()
	apply(t, s, permission("backend", "Deny"))
	awaitStatus(t, web, backendURL, http.StatusForbidden)
	apply(t, s, permission("backend", "Allow"))
	awaitStatus(t, web, backendURL, http.StatusOK)
}

// status is what `kuma-dp debug status` shows.
type status struct {
	Ready   bool
	Missing []string
	Relay   struct {
		Connected bool
		Streams   int
		LastError string
	}
}

func agentStatus(c context.Context, w *scene.Workload) (status, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(c context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(c, "unix", filepath.Join(w.WorkDir, "kuma-admin.sock"))
	}}}
	req, err := http.NewRequestWithContext(c, http.MethodGet, "http://agent/status", nil)
	if err != nil {
		return status{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return status{}, err
	}
	defer resp.Body.Close()
	var st status
	return st, json.NewDecoder(resp.Body).Decode(&st)
}

// awaitStreams waits until the agent is connected and has been so at least this many times.
func awaitStreams(t *testing.T, w *scene.Workload, least int) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Log(w.Agent.Log())
		}
	}()
	await(t, w.Name+" to connect again", func(c context.Context) error {
		st, err := agentStatus(c, w)
		if err == nil && (!st.Relay.Connected || st.Relay.Streams < least) {
			err = fmt.Errorf("connected %v, %d streams, %s", st.Relay.Connected, st.Relay.Streams, st.Relay.LastError)
		}
		return err
	})
}

// processes returns the processes of the workload's host whose name starts so.
func processes(t *testing.T, w *scene.Workload, name string) []int {
	t.Helper()
	out, err := w.Host.Command(ctx(t), 0, "ip", "netns", "pids", w.Host.Namespace).Output()
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for field := range strings.FieldsSeq(string(out)) {
		comm, err := os.ReadFile("/proc/" + field + "/comm")
		pid, parse := strconv.Atoi(field)
		if err == nil && parse == nil && strings.HasPrefix(string(comm), name) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// one returns the only such process.
func one(t *testing.T, w *scene.Workload, name string) int {
	t.Helper()
	pids := processes(t, w, name)
	if len(pids) != 1 {
		t.Fatalf("%d processes %s on %s, want 1", len(pids), name, w.Name)
	}
	return pids[0]
}

func awaitNone(t *testing.T, w *scene.Workload, name string) {
	t.Helper()
	await(t, name+" to end", func(context.Context) error {
		if left := processes(t, w, name); len(left) > 0 { //nolint:contextcheck // it has the test's
			return fmt.Errorf("%v still run", left)
		}
		return nil
	})
}

func send(t *testing.T, p *scene.Process, sig unix.Signal) {
	t.Helper()
	if err := p.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// usage is what a process holds.
type usage struct{ fds, threads, kilobytes int }

func measure(t *testing.T, pid int) usage {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	u := usage{fds: len(fds)}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		switch {
		case err != nil:
		case name == "Threads":
			u.threads = n
		case name == "VmRSS":
			u.kilobytes = n
		}
	}
	return u
}

// goroutines ends an agent by SIGQUIT and counts what it prints then.
func goroutines(t *testing.T, w *scene.Workload) int {
	t.Helper()
	from := len(w.Agent.Log())
	if err := unix.Kill(one(t, w, "kuma-dp"), unix.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	if code, _ := w.Agent.Wait(ctx(t)); code != 2 {
		t.Errorf("exit code %d after SIGQUIT, want 2", code)
	}
	n := 0
	for line := range strings.Lines(w.Agent.Log()[from:]) {
		if strings.HasPrefix(line, "goroutine ") {
			n++
		}
	}
	return n
}

// tmpfs mounts a small file system on dir, for uid, until the test ends.
func tmpfs(t *testing.T, dir string, uid int, size string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%s,mode=0700,uid=%d,gid=%d", size, uid, uid)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Lazily, as processes of the scene may still have files open.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
}

// fill writes a file until the file system of dir has no byte left, and returns the file's path.
func fill(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 4096); ; {
		if _, err := f.Write(chunk); errors.Is(err, unix.ENOSPC) {
			return path
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
