//go:build linux

package netns

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) {
	if dir := os.Getenv("KUMA_HOST_LOCK"); dir != "" { // holds the lock until it is killed
		if _, err := Lock(context.Background(), dir); err != nil {
			panic(err)
		}
		os.Stdout.Close()
		select {}
	}
	goleak.VerifyTestMain(m)
}

func TestFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	f, err := Open(dir, "x")
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]int
	if found, err := f.Read(&got); found || err != nil {
		t.Errorf("nothing there: %v, %v", found, err)
	}
	if err := f.Write(map[string]int{"a": 1}); err != nil {
		t.Fatal(err)
	}
	if found, err := f.Read(&got); !found || err != nil || got["a"] != 1 {
		t.Errorf("got %v, %v, %v", got, found, err)
	}
	if st, err := os.Stat(f.Path()); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	other := f
	other.namespace = "another"
	if found, err := other.Read(&got); found || err != nil {
		t.Errorf("of another namespace: %v, %v", found, err)
	}
	if err := os.Rename(f.Path(), f.Path()+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(f.Path()+".moved", f.Path()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(&got); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link: %v", err)
	}
	if err := os.Remove(f.Path() + ".moved"); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory is left")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := f.Write(1); err == nil || !strings.Contains(err.Error(), "writable by nobody else") {
		t.Errorf("a directory of everybody: %v", err)
	}
}

// TestFilesOfTheOwner has root write into a directory that was made for the agent's user.
func TestFilesOfTheOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("run the tests as root")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 5678, 5679); err != nil {
		t.Fatal(err)
	}
	f, err := Open(dir, "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Write(1); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(f.Path(), &st); err != nil || st.Uid != 5678 || st.Gid != 5679 {
		t.Errorf("belongs to %d:%d, %v", st.Uid, st.Gid, err)
	}
}

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	unlock, err := Lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Lock(ctx, dir); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "it is held by netns.test (process") {
		t.Errorf("got %v", err)
	}
	next := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		unlock, err := Lock(ctx, dir)
		if err == nil {
			err = unlock()
		}
		next <- err
	}()
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if err := <-next; err != nil {
		t.Errorf("after the first gave it up: %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory is left")
	}
}

func TestLockOfAProcessThatDies(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "KUMA_HOST_LOCK="+dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err == nil { // closed once it has the lock
		t.Fatal("it says something")
	}
	got := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		unlock, err := Lock(ctx, dir)
		if err == nil {
			err = unlock()
		}
		got <- err
	}()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestLockIsExclusive(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	inside := make(chan struct{}, 1)
	done := make(chan error, 8)
	for range cap(done) {
		go func() {
			for range 50 {
				unlock, err := Lock(t.Context(), dir)
				if err != nil {
					done <- err
					return
				}
				select {
				case inside <- struct{}{}:
				default:
					done <- errors.New("two hold the lock")
					return
				}
				<-inside
				if err := unlock(); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func TestAwaitGone(t *testing.T) {
	f, err := Open(filepath.Join(t.TempDir(), "state"), "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.AwaitGone(t.Context()); err != nil {
		t.Errorf("nothing there: %v", err)
	}
	for name, end := range map[string]func() error{"removed": f.Remove, "replaced": func() error { return f.Write(2) }} {
		if err := f.Write(1); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := f.AwaitGone(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("still there: %v", err)
		}
		cancel()
		gone := make(chan error, 1)
		go func() { gone <- f.AwaitGone(t.Context()) }()
		for late := time.After(patience); ; { // it may not have looked yet
			if err := end(); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-gone:
				if err != nil {
					t.Error(err)
				}
			case <-late:
				t.Fatalf("%s, and not noticed", name)
			case <-time.After(time.Millisecond):
				continue
			}
			break
		}
	}
}
