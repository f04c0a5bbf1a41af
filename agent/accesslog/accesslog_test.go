package accesslog_test

import (
	"bufio"
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/agent/accesslog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLinesReachTheirReceivers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	path := filepath.Join(t.TempDir(), "kuma-al-demo-default.sock")
	s, err := accesslog.New(accesslog.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("pipe has mode %v, %v; want 0600", info.Mode(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()

	addr := l.Addr().String()
	write := func(text string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_WRONLY, 0) // each time anew: Envoy may close and open it
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"address":"` + addr + `","message":"hello 200\n"}` + "\n")
	write("in no known form\n" + `{"address":"127.0.0.1:1","message":"nobody listens"}` + "\n")
	write(`{"address":"` + addr + `","message":{"code": 200}}` + "\n" + addr + ";legacy;line\n")

	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(conn)
	for _, want := range []string{"hello 200", "", `{"code":200}`, "legacy;line"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("got %q (%v), want %q", lines.Text(), lines.Err(), want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the pipe is left behind: %v", err)
	}
}

func TestPlantedFileIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name  string
		plant func(path string) error
	}{
		{"file", func(p string) error { return os.WriteFile(p, []byte("keep"), 0o600) }},
		{"symbolic link", func(p string) error { return os.Symlink("/etc/passwd", p) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pipe")
			if err := tc.plant(path); err != nil {
				t.Fatal(err)
			}
			if _, err := accesslog.New(accesslog.Config{Path: path}); err == nil {
				t.Error("accepted")
			}
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("what was there is gone: %v", err)
			}
		})
	}
}
