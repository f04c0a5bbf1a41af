//go:build linux

package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// TestControlPlaneDisk fills the control plane's disk: what it cannot store it refuses, what was stored stays, traffic does not
// notice, and with space again it goes on by itself.
func TestControlPlaneDisk(t *testing.T) {
	s := scenetest.New(t, "kuma-cpdisk")
	dir := filepath.Join(s.Dir(), "cp")
	tmpfs(t, dir, 0, "4m")
	startControlPlane(t, s)
	add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend"})
	web := add(t, s, scene.WorkloadConfig{Name: "web", Service: "web"})
	awaitStatus(t, web, backendURL, http.StatusOK)
	load := scenetest.StartLoad(t, web)

	filler := fill(t, dir)
	// The file has free pages for some changes; refused is the first that needs more.
	refused := ""
	for i := range 64 {
		name := "filler-" + strconv.Itoa(i)
		big := strings.Replace(permission("backend", "Allow"), "name: web-to-backend", "name: "+name+"\nlabels:\n"+labels(200), 1)
		if err := s.Apply(ctx(t), big); err != nil {
			refused = name
			if !strings.Contains(err.Error(), "500") && !strings.Contains(err.Error(), "rror") {
				t.Errorf("the refusal says nothing: %v", err)
			}
			break
		}
	}
	if refused == "" {
		t.Fatal("64 big changes were stored on a full disk")
	}
	get := func(name string) error {
		_, err := s.Kumactl(ctx(t), nil, "get", "meshtrafficpermission", name)
		return err
	}
	if get(refused) == nil {
		t.Error("what was refused is there")
	}
	if err := get("web-to-backend"); err != nil {
		t.Errorf("what was stored is gone: %v", err)
	}
	if !strings.Contains(s.ControlPlane.Process.Log(), "no space left") {
		t.Errorf("the log does not tell the reason:\n%s", s.ControlPlane.Process.Log())
	}
	if n := strings.Count(s.ControlPlane.Process.Log(), "\n"); n > 200 {
		t.Errorf("it logged %d lines", n)
	}

	// A crash in this state loses nothing either.
	s.ControlPlane.Kill()
	if err := s.ControlPlane.Start(ctx(t)); err != nil {
		t.Fatal(err)
	}
	if err := get("web-to-backend"); err != nil {
		t.Errorf("what was stored is gone after a crash: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	load.Unharmed()
	converges(t, s, web)
}

func labels(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  label-%d: %s\n", i, strings.Repeat("x", 60))
	}
	return b.String()
}

// TestControlPlaneStore starts control planes on folders that are damaged, read-only or another's.
func TestControlPlaneStore(t *testing.T) {
	s := newScene(t, "kuma-cpstore")
	own := filepath.Dir(s.ControlPlane.CAFile())
	if err := s.ControlPlane.Stop(ctx(t)); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(own, "kuma-cp.db"))
	if err != nil {
		t.Fatal(err)
	}
	folder := func(t *testing.T, db []byte) string {
		t.Helper()
		dir := t.TempDir()
		for _, name := range []string{"kuma-cp.crt", "kuma-cp.key"} {
			b, err := os.ReadFile(filepath.Join(own, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "kuma-cp.db"), db, 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	flip := func(at ...int) []byte {
		b := bytes.Clone(whole)
		for _, i := range at {
			b[i] ^= 0xff
		}
		return b
	}
	every := func(step int) (at []int) {
		for i := step / 2; i < len(whole); i += step {
			at = append(at, i)
		}
		return at
	}
	secret := bytes.Index(whole, []byte("BEGIN"))
	if secret < 0 {
		secret = bytes.Index(whole, []byte(`"data"`))
	}
	if secret < 0 {
		t.Fatal("no secret in the store")
	}
	used := bytes.TrimRight(whole, "\x00")
	for _, test := range []struct {
		name string
		db   []byte
	}{
		{"empty", nil},
		{"one byte", []byte{1}},
		{"cut to half", used[:len(used)/2]}, // of the whole file, the second half may be empty
		{"cut by the last page that was used", used[:(len(used)-1)/4096*4096]},
		{"both heads flipped", flip(20, 4096+20)},
		{"flipped in a secret", flip(secret + 40)},
		{"flipped everywhere", flip(every(512)...)},
		{"zeros", make([]byte, len(whole))},
		{"another kind of file", []byte(strings.Repeat("hello, world\n", 10000))},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := folder(t, test.db)
			code, said := runControlPlane(t, s, dir)
			if code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			last := lastLine(said)
			if !strings.HasPrefix(last, "Error: ") || !strings.Contains(last, filepath.Join(dir, "kuma-cp.db")) || strings.Contains(said, "goroutine ") {
				t.Errorf("the error does not name the file, or is a crash:\n%.2000s", said)
			}
			now, err := os.ReadFile(filepath.Join(dir, "kuma-cp.db"))
			if err != nil || !bytes.Equal(now, test.db) {
				t.Errorf("the damaged file was changed (%v): nobody can repair it any more", err)
			}
		})
	}

	t.Run("read-only", func(t *testing.T) {
		dir := t.TempDir()
		tmpfs(t, dir, 0, "1m")
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		code, said := runControlPlane(t, s, dir)
		if last := lastLine(said); code != 1 || !strings.HasPrefix(last, "Error: ") || !strings.Contains(last, dir) || !strings.Contains(last, "read-only") {
			t.Errorf("exit code %d, %s", code, last)
		}
	})

	t.Run("full from the start", func(t *testing.T) {
		dir := t.TempDir()
		tmpfs(t, dir, 0, "64k")
		fill(t, dir)
		code, said := runControlPlane(t, s, dir)
		if last := lastLine(said); code != 1 || !strings.HasPrefix(last, "Error: ") || !strings.Contains(last, dir) || !strings.Contains(last, "no space left") {
			t.Errorf("exit code %d, %s", code, last)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 1 {
			t.Errorf("left behind: %v %v", left, err)
		}
	})

	t.Run("in use by another control plane", func(t *testing.T) {
		if err := s.ControlPlane.Start(ctx(t)); err != nil {
			t.Fatal(err)
		}
		code, said := runControlPlane(t, s, own)
		if last := lastLine(said); code != 1 || !strings.HasPrefix(last, "Error: ") || !strings.Contains(last, filepath.Join(own, "kuma-cp.db")) {
			t.Errorf("exit code %d, %s", code, last)
		}
		apply(t, s, permission("backend", "Deny")) // the first one suffers nothing
	})
}

// runControlPlane runs a further kuma-cp with this work directory to its end, or as long as it takes to see that it serves.
func runControlPlane(t *testing.T, s *scene.Scene, dir string) (code int, said string) {
	t.Helper()
	return runControlPlaneAs(t, s, 0, dir)
}

func runControlPlaneAs(t *testing.T, s *scene.Scene, uid int, dir string) (code int, said string) {
	t.Helper()
	c, cancel := context.WithCancel(ctx(t))
	defer cancel()
	cmd := s.ControlPlane.Host.Command(c, uid, s.Path("kuma-cp"), "run")
	cmd.Env = append(os.Environ(), "HOME="+s.Dir(), "KUMA_GENERAL_WORK_DIR="+dir)
	out := &watched{cancel: cancel}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), out.String()
	} else if err != nil && c.Err() == nil {
		t.Fatal(err)
	}
	return 0, out.String()
}

// watched ends a control plane that serves although it should not.
type watched struct {
	text   bytes.Buffer // not embedded, or its ReadFrom would go by Write
	cancel context.CancelFunc
}

func (w *watched) String() string { return w.text.String() }

func (w *watched) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("control plane is ready")) {
		w.cancel()
	}
	return w.text.Write(b)
}
