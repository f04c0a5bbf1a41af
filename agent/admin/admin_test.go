package admin_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/agent/admin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs an endpoint on dir until the test ends.
func serve(t *testing.T, dir string, pages map[string]admin.Page) {
	t.Helper()
	s, err := admin.New(admin.Config{Dir: dir, Pages: pages})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
		if _, err := os.Lstat(filepath.Join(dir, admin.SocketName)); !os.IsNotExist(err) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
}

func TestPages(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, map[string]admin.Page{
		"status": func(context.Context, url.Values) (any, error) { return map[string]int{"n": 1}, nil },
		"broken": func(context.Context, url.Values) (any, error) { return make(chan int), nil },
		"ask": func(_ context.Context, q url.Values) (any, error) {
			if q.Get("x") == "" {
				return nil, errors.New("x is missing")
			}
			return q.Get("x"), nil
		},
	})
	info, err := os.Lstat(filepath.Join(dir, admin.SocketName))
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v, %v; want a socket of its owner only", info.Mode(), err)
	}
	for _, tc := range []struct{ page, want, err string }{
		{"status", "{\n  \"n\": 1\n}\n", ""},
		{"nothing", "", "404"},
		{"ask?x=y", "\"y\"\n", ""},
		{"ask", "", "400 Bad Request: x is missing"},
		{"broken", "", "500"},
	} {
		t.Run(tc.page, func(t *testing.T) {
			got, err := admin.Get(t.Context(), dir, tc.page)
			if string(got) != tc.want || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %q, %v; want %q, %q", got, err, tc.want, tc.err)
			}
		})
	}
	t.Run("nothing can be changed", func(t *testing.T) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, admin.SocketName))
		}}}
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
			q, err := http.NewRequestWithContext(t.Context(), method, "http://localhost/status", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := client.Do(q)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("%s: %s, want 405", method, answer.Status)
			}
		}
	})
}

func TestGetFindsTheOnlyAgent(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	if _, err := admin.Get(t.Context(), "", "status"); err == nil || !strings.Contains(err.Error(), "--work-dir") {
		t.Errorf("without an agent: %v, want what to do", err)
	}
	dir := func(name string) string {
		path := filepath.Join(tmp, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// What a killed agent left does not count.
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir("kuma-dp-0"), admin.SocketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	page := map[string]admin.Page{"status": func(context.Context, url.Values) (any, error) { return 1, nil }}
	serve(t, dir("kuma-dp-1"), page)
	if got, err := admin.Get(t.Context(), "", "status"); err != nil || string(got) != "1\n" {
		t.Errorf("with one agent: %q, %v", got, err)
	}
	serve(t, dir("kuma-dp-2"), page)
	_, err = admin.Get(t.Context(), "", "status")
	if err == nil || !strings.Contains(err.Error(), "several") || !strings.Contains(err.Error(), "kuma-dp-1") || !strings.Contains(err.Error(), "kuma-dp-2") || strings.Contains(err.Error(), "kuma-dp-0") {
		t.Errorf("with two agents: %v, want both named and not the dead one", err)
	}
}

func TestPlantedSocketIsRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, admin.SocketName)
	if err := os.Symlink("/etc/passwd", path); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.New(admin.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("got %v, want the link refused", err)
	}
	if target, err := os.Readlink(path); err != nil || target != "/etc/passwd" {
		t.Errorf("the link became %q, %v", target, err)
	}
}
