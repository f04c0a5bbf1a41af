//go:build linux

package identity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/test/scene"
)

// renewals is how many certificates a proxy gets while it is watched, the first included.
const renewals = 6

// redacted is what Envoy shows instead of a key, in base64 as all bytes are.
const redacted = "W3JlZGFjdGVkXQ=="

// TestKeyAndTokenStayWhereTheyBelong watches all that an agent and its Envoy write through several renewals, and looks through
// what they show, hold and leave: the private keys go over the relay's socket and nowhere else, the token nowhere (demands.md
// §3.3, assertions 1, 3, 6a, 11, 12). What goes to the control plane is encrypted, so its memory is searched instead.
func TestKeyAndTokenStayWhereTheyBelong(t *testing.T) {
	t.Parallel()
	s := newScene(t, "kuma-secret", shortLived("5s")+"---\n"+scene.Permission)
	add(t, s, scene.WorkloadConfig{Name: "backend", Service: "backend"})
	trace := filepath.Join(s.Dir(), "trace")
	web := add(t, s, scene.WorkloadConfig{
		Name: "watched", Service: "web", Tracer: tracer(trace), Args: []string{"--log-level", "debug", "--drain-time", "1s"},
	})
	awaitAnswer(t, web)
	awaitLines(t, web.Agent, 0, renewals, issued)
	awaitAnswer(t, web)
	token := tokenOf(t, web)

	agent, envoy := pidOf(t, web, "kuma-dp"), pidOf(t, web, "envoy")
	shown := whatIsShown(t, web, agent, envoy)
	t.Run("memory is read by nobody", func(t *testing.T) { unreadable(t, web, agent, envoy) })
	memories := map[string][]byte{"the agent": memoryOf(t, agent), "Envoy": memoryOf(t, envoy)}
	plane := memoryOf(t, s.ControlPlane.Process.PID())

	if err := unix.Kill(agent, syscall.SIGTERM); err != nil { // the trace is whole when it has ended
		t.Fatal(err)
	}
	if code, err := web.Agent.Wait(ctx(t)); code != 0 {
		t.Fatal(err)
	}
	calls := readTrace(t, trace)
	keys, relayed := relayedKeys(t, calls)
	log := web.Agent.Log()
	// A further key is the control plane's, for the listener by which it reaches Envoy's admin interface.
	own := slices.DeleteFunc(slices.Clone(keys), func(k secret) bool { return k.within != "Secret" })
	if got, want := len(own), strings.Count(log, issued); got != want || want < renewals {
		t.Fatalf("Envoy was sent %d keys, want one for each of the %d certificates", got, want)
	}
	secrets := append(slices.Clone(keys), token)

	for to, text := range streams(calls) {
		look := secrets
		if slices.Contains(relayed, to) {
			look = []secret{token}
		}
		hunt(t, fmt.Sprintf("written to %s>", readable(to)), text, look)
	}
	for _, c := range calls {
		switch {
		case c.cut:
			t.Errorf("the trace of a %s to %s is not whole", c.name, readable(c.to))
		case slices.Contains([]string{"splice", "tee", "sendfile", "copy_file_range", "io_uring_setup", "process_vm_writev"}, c.name):
			t.Errorf("a %s, of which the trace does not show what it writes: %s, %s", c.name, readable(c.to), readable(c.args))
		case c.name == "mmap" && strings.Contains(c.to, "MAP_SHARED") && strings.Contains(c.to, "PROT_WRITE") && !strings.Contains(c.to, "MAP_ANONYMOUS"):
			t.Errorf("a file is written to by its memory, which the trace does not show: %s", readable(c.to))
		}
	}

	shown["what the agent prints"] = log
	for where, text := range shown {
		hunt(t, where, []byte(text), secrets)
		if strings.Contains(text, "eyJ") {
			t.Errorf("%s has what looks like a token", where)
		}
	}
	leftBehind(t, s, trace, secrets)

	for who, memory := range memories {
		if howMany(plain(own), memory) == 0 {
			t.Errorf("the search finds no key in the memory of %s, which has at least the last: it finds nothing", who)
		}
	}
	hunt(t, "the memory of the control plane", plane, plain(own))
	hunt(t, "the memory of the control plane", plane, own[len(own)-2:])
	written := 0
	for _, c := range calls {
		written += len(c.data)
	}
	t.Logf("%d calls wrote %d bytes, %d keys", len(calls), written, len(keys))
}

// hunt fails the test when a secret is in text.
func hunt(t *testing.T, where string, text []byte, secrets []secret) {
	t.Helper()
	flat := flatten(text)
	for _, s := range secrets {
		if how := s.find(text, flat); how != "" {
			t.Errorf("%s: %s", where, how)
		}
	}
}

func howMany(secrets []secret, text []byte) (n int) {
	flat := flatten(text)
	for _, s := range secrets {
		if s.find(text, flat) != "" {
			n++
		}
	}
	return n
}

// relayedKeys returns the private keys that the relay has sent to Envoy, and the names of its connections.
func relayedKeys(t *testing.T, calls []call) (keys []secret, connections []string) {
	t.Helper()
	var all []byte
	for to := range streams(calls) {
		if !strings.Contains(to, "UNIX-STREAM") || !strings.HasSuffix(readable(to), `/kuma-xds.sock"]`) {
			continue
		}
		connections = append(connections, to)
		frames, err := http2(sent(calls, to))
		if err != nil {
			t.Fatalf("read what was written to %s: %v", readable(to), err)
		}
		for _, data := range frames {
			all = append(all, data...)
		}
	}
	return keysIn(t, all), connections
}

// whatIsShown collects what an agent and its Envoy tell to those who may ask.
func whatIsShown(t *testing.T, w *scene.Workload, agent, envoy int) map[string]string {
	t.Helper()
	shown := map[string]string{}
	for _, name := range []string{"status", "identity", "dns"} {
		text, err := page(ctx(t), w, name)
		if err != nil {
			t.Fatal(err)
		}
		shown["page "+name+" of the agent"] = text
	}
	const dump = "config_dump?include_eds"
	for _, path := range []string{dump, "certs", "memory", "clusters", "listeners", "server_info", "stats", "runtime", "init_dump", "help"} {
		code, text, err := get(ctx(t), w, "http://127.0.0.1:9901/"+path)
		if err != nil || code != http.StatusOK {
			t.Fatalf("Envoy's /%s: %d, %v", path, code, err)
		}
		shown["Envoy's /"+path] = text
	}
	if text := shown["Envoy's /"+dump]; !strings.Contains(text, "identity_cert:secret:default") || !strings.Contains(text, redacted) {
		t.Error("Envoy's dump does not tell of a key that it does not show")
	}
	for name, pid := range map[string]int{"the agent": agent, "Envoy": envoy} {
		for _, file := range []string{"environ", "cmdline"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
			if err != nil {
				t.Fatal(err)
			}
			shown[file+" of "+name] = string(text)
		}
	}
	return shown
}

// unreadable tries to get at the memory of an agent and its Envoy.
func unreadable(t *testing.T, w *scene.Workload, agent, envoy int) {
	t.Helper()
	// Not even those of the same user, as the kernel gives what is under /proc/PID to root.
	info, err := os.Stat(fmt.Sprintf("/proc/%d/environ", agent))
	if err != nil {
		t.Fatal(err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != 0 {
		t.Errorf("/proc/%d belongs to %v, want root: PR_SET_DUMPABLE is not 0", agent, info.Sys())
	}
	for _, file := range []string{"environ", "mem", "maps"} {
		out, err := w.Host.Command(ctx(t), scene.ProxyUID, "head", "-c", "1", fmt.Sprintf("/proc/%d/%s", agent, file)).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "Permission denied") {
			t.Errorf("the agent's user reads /proc/%d/%s: %q, %v", agent, file, out, err)
		}
	}
	for name, pid := range map[string]int{"the agent": agent, "Envoy": envoy} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
		if err != nil {
			t.Fatal(err)
		}
		// As much as stops cores to programs too, see core(5).
		if m := coreLimit.FindStringSubmatch(string(text)); m == nil || m[1] != "1" || m[2] != "1" {
			t.Errorf("the limit of cores of %s is %q, want 1 and 1 at most", name, m)
		}
	}
}

var coreLimit = regexp.MustCompile(`(?m)^Max core file size +(\S+) +(\S+)`)

// leftBehind searches the files that an agent and its Envoy could have written: those of the scene, and of their user wherever
// it may write, other scenes included. Tokens are in the files that scenes have made of them.
func leftBehind(t *testing.T, s *scene.Scene, trace string, secrets []secret) {
	t.Helper()
	count := 0
	for _, root := range []string{os.TempDir(), "/var/tmp", "/dev/shm", "/run"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return gone(err)
			}
			info, err := entry.Info()
			if err != nil {
				return gone(err)
			}
			ours := strings.HasPrefix(path, s.Dir()+"/")
			st, ok := info.Sys().(*syscall.Stat_t)
			switch {
			case path == trace, filepath.Dir(path) == filepath.Join(s.Dir(), "bin"), filepath.Base(path) == "token" && strings.HasPrefix(path, os.TempDir()+"/kuma-scene-"):
				return nil
			case !ours && (!ok || st.Uid != scene.ProxyUID):
				return nil
			}
			text, err := os.ReadFile(path)
			if err == nil {
				count++
				hunt(t, path, text, secrets)
			}
			return gone(err)
		})
		if err != nil {
			t.Errorf("look through %s: %v", root, err)
		}
	}
	if count == 0 {
		t.Error("no file was looked into: those of the control plane should have been")
	}
}

// gone forgives that a file of somebody else has ended meanwhile.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
