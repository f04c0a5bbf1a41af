package socket_test

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kuma-dp/kuma-dp/agent/socket"
)

// listenVar makes this test binary another process that listens on the socket it names, until its standard input ends.
const listenVar = "TEST_SOCKET_LISTEN"

func TestMain(m *testing.M) {
	if path := os.Getenv(listenVar); path != "" {
		_, err := net.Listen("unix", path)
		fmt.Println("listening", err)
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	os.Exit(m.Run())
}

// other starts a process that listens on path.
func other(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), listenVar+"="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // it may have been killed
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "listening <nil>\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	return cmd
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := socket.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v, %v; want a socket of its owner only", info.Mode(), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestListenRefusesWhatIsNotOurs(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("keep"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		plant func(t *testing.T, path string) error
		want  string
	}{
		{"symbolic link", func(_ *testing.T, p string) error { return os.Symlink(secret, p) }, "a symbolic link is in the way"},
		{"dangling symbolic link", func(_ *testing.T, p string) error { return os.Symlink(secret+"2", p) }, "a symbolic link is in the way"},
		{"symbolic link to a stale socket", func(t *testing.T, p string) error { return os.Symlink(stale(t, p+"2"), p) }, "a symbolic link is in the way"},
		{"file", func(_ *testing.T, p string) error { return os.WriteFile(p, []byte("keep"), 0o600) }, "a file is in the way"},
		{"directory", func(_ *testing.T, p string) error { return os.Mkdir(p, 0o700) }, "a directory is in the way"},
		{"live socket of another process", func(t *testing.T, p string) error { other(t, p); return nil }, "another process listens on it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.sock")
			if err := tc.plant(t, path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			l, err := socket.Listen(path)
			if err == nil {
				l.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want %q with the path", err, tc.want)
			}
			after, err := os.Lstat(path)
			if err != nil || after.Mode() != before.Mode() || !os.SameFile(before, after) {
				t.Errorf("what was there became %v, %v", after, err)
			}
		})
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "keep" {
		t.Errorf("the link's target became %q, %v", b, err)
	}
	if info, err := os.Stat(secret); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the link's target has mode %v, %v", info.Mode(), err)
	}
}

// stale leaves a socket behind as a killed process does, and returns its path.
func stale(t *testing.T, path string) string {
	t.Helper()
	cmd := other(t, path)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = cmd.Process.Wait()
	if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeSocket == 0 {
		t.Fatalf("nothing is left behind: %v", err)
	}
	return path
}

func TestListenReplacesWhatADeadProcessLeft(t *testing.T) {
	for name, plant := range map[string]func(string) error{
		"socket": func(p string) error { stale(t, p); return nil },
		"pipe":   func(p string) error { return syscall.Mkfifo(p, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.sock")
			if err := plant(path); err != nil {
				t.Fatal(err)
			}
			l, err := socket.Listen(path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatalf("the new socket does not answer: %v", err)
			}
			c.Close()
		})
	}
}

func TestListenRefusesSocketsOfOtherUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("to give a socket to another user this test needs root")
	}
	path := stale(t, filepath.Join(t.TempDir(), "a.sock"))
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if err := socket.Clear(path); err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
		t.Errorf("got %v, want its owner named", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("it was removed: %v", err)
	}
}

func TestListenRefusesLongPaths(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 108))
	if _, err := socket.Listen(path); err == nil || !strings.Contains(err.Error(), "choose a shorter work directory") {
		t.Errorf("got %v", err)
	}
}

func TestListenShared(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.sock")
	for _, mode := range []fs.FileMode{0o777, 0o1777, 0o775} {
		if err := os.Chmod(dir, mode&0o777|map[bool]fs.FileMode{true: fs.ModeSticky}[mode&0o1000 != 0]); err != nil {
			t.Fatal(err)
		}
		if l, err := socket.ListenShared(path); err == nil || !strings.Contains(err.Error(), "others can write to its folder") {
			t.Errorf("mode %o: got %v, %v", mode, l, err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := socket.ListenShared(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o666 {
		t.Errorf("mode %v, %v; want a socket for all", info.Mode(), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if _, err := socket.ListenShared(path); err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
		t.Errorf("got %v, want the owner of the folder named", err)
	}
	if _, err := socket.ListenShared(filepath.Join(dir, "none", "a.sock")); err == nil {
		t.Error("a folder that does not exist is made")
	}
}
