package accesslog_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/agent/accesslog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// streamer is one that runs.
type streamer struct {
	t    *testing.T
	path string
	stop func()
}

func start(t *testing.T) *streamer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kuma-al-demo-default.sock")
	s, err := accesslog.New(accesslog.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return &streamer{t, path, stop}
}

// write writes into the pipe, opened anew each time, as Envoy may do.
func (s *streamer) write(text string) {
	s.t.Helper()
	f, err := os.OpenFile(s.path, os.O_WRONLY, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		s.t.Fatal(err)
	}
}

func listen(t *testing.T, address string) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // most tests have closed it
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return l.(*net.TCPListener)
}

// accept takes the next connection and returns its lines.
func accept(t *testing.T, l net.Listener) (net.Conn, *bufio.Scanner) {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // most tests have closed it
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewScanner(conn)
}

func expect(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	if !lines.Scan() || lines.Text() != want {
		t.Fatalf("got %q (%v), want %q", lines.Text(), lines.Err(), want)
	}
}

func TestLinesReachTheirReceivers(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	s := start(t)
	info, err := os.Stat(s.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("pipe has mode %v, %v; want 0600", info.Mode(), err)
	}
	addr := l.Addr().String()
	s.write(`{"address":"` + addr + `","message":"hello 200\n"}` + "\n")
	s.write("in no known form\n" + `{"address":"127.0.0.1:1","message":"nobody listens"}` + "\n")
	s.write(`{"address":"` + addr + `","message":{"code": 200}}` + "\n" + addr + ";legacy;line\n")
	_, lines := accept(t, l)
	for _, want := range []string{"hello 200", "", `{"code":200}`, "legacy;line"} {
		expect(t, lines, want)
	}
	s.stop()
	if _, err := os.Lstat(s.path); !os.IsNotExist(err) {
		t.Errorf("the pipe is left behind: %v", err)
	}
}

func TestReceiverThatClosesGetsTheNextLineOnANewConnection(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	s := start(t)
	addr := l.Addr().String()
	for _, want := range []string{"one", "two", "three"} {
		s.write(addr + ";" + want + "\n")
		conn, lines := accept(t, l)
		expect(t, lines, want)
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReceiverThatComesBackIsFoundAgain(t *testing.T) {
	l, other := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	s := start(t)
	addr := l.Addr().String()
	s.write(addr + ";before\n")
	conn, lines := accept(t, l)
	expect(t, lines, "before")
	if err := errors.Join(l.Close(), conn.Close()); err != nil {
		t.Fatal(err)
	}
	// The line to another receiver shows that those to the dead one have been dealt with.
	s.write(addr + ";lost\n" + addr + ";lost\n" + other.Addr().String() + ";alive\n")
	_, alive := accept(t, other)
	expect(t, alive, "alive")

	back := listen(t, addr)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	accepted := make(chan struct{})
	var written sync.WaitGroup
	written.Go(func() {
		for {
			select {
			case <-tick.C:
				s.write(addr + ";after\n")
			case <-accepted:
				return
			}
		}
	})
	_, lines = accept(t, back)
	close(accepted)
	written.Wait()
	expect(t, lines, "after")
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
