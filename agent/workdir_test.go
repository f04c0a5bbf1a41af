package agent

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWorkdir(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	open := func(t *testing.T, dir string) *workdir {
		t.Helper()
		w, err := openWorkdir(dir, dir, log)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	t.Run("temporary directories are private, and removed", func(t *testing.T) {
		t.Setenv("TMPDIR", t.TempDir())
		w := open(t, "")
		info, err := os.Stat(w.config)
		if err != nil || info.Mode().Perm() != 0o700 || w.sockets != w.config {
			t.Errorf("mode %v, %v, sockets %s config %s", info.Mode(), err, w.sockets, w.config)
		}
		if err := w.close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(w.config); !os.IsNotExist(err) {
			t.Errorf("still there: %v", err)
		}
	})
	t.Run("those of the dead are removed, those of the living and of strangers are not", func(t *testing.T) {
		tmp := t.TempDir()
		t.Setenv("TMPDIR", tmp)
		living := open(t, "")
		dead, stranger := filepath.Join(tmp, "kuma-dp-1"), filepath.Join(tmp, "kuma-dp-2")
		for _, dir := range []string{dead, stranger} {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dead, lockName), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		second := open(t, "")
		for dir, want := range map[string]bool{living.config: true, dead: false, stranger: true, second.config: true} {
			if _, err := os.Stat(dir); (err == nil) != want {
				t.Errorf("%s exists: %v, want %v", dir, err == nil, want)
			}
		}
		for _, w := range []*workdir{living, second} {
			if err := w.close(); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("one agent at a time", func(t *testing.T) {
		t.Setenv("TMPDIR", t.TempDir())
		dir := filepath.Join(t.TempDir(), "w")
		w := open(t, dir)
		if _, err := openWorkdir(dir, dir, log); err == nil || !strings.Contains(err.Error(), "in use by another kuma-dp") {
			t.Errorf("second agent: %v", err)
		}
		if err := w.close(); err != nil {
			t.Error(err)
		}
		if err := open(t, dir).close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("a planted lock is not followed", func(t *testing.T) {
		t.Setenv("TMPDIR", t.TempDir())
		dir, target := t.TempDir(), filepath.Join(t.TempDir(), "target")
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(dir, lockName)); err != nil {
			t.Fatal(err)
		}
		if _, err := openWorkdir(dir, dir, log); err == nil {
			t.Error("accepted")
		}
		if _, err := os.Lstat(target); !os.IsNotExist(err) {
			t.Errorf("the link was followed: %v", err)
		}
	})
}
