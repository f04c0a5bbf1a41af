package agent_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/agent"
	"github.com/kuma-dp/kuma-dp/agent/admin"
	"github.com/kuma-dp/kuma-dp/agent/envoy"
	"github.com/kuma-dp/kuma-dp/internal/realenvoy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 15 * time.Second

// token makes an unsigned JWT with claims.
func token(claims string) string {
	enc := base64.RawURLEncoding
	return enc.EncodeToString([]byte(`{"alg":"RS256","kid":"1"}`)) + "." + enc.EncodeToString([]byte(claims)) + "." + enc.EncodeToString([]byte("sig"))
}

// logBook collects log lines.
type logBook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func port(t *testing.T, addr string) uint32 {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

func config(t *testing.T, c *controlPlane) (agent.Config, *logBook) {
	t.Helper()
	log := &logBook{}
	cfg := agent.DefaultConfig()
	cfg.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg.LogLevel = "warning"
	cfg.ControlPlane.URL = c.server.URL
	cfg.ControlPlane.CACert = c.pem()
	cfg.Dataplane.Mesh, cfg.Dataplane.Name = "default", "demo"
	cfg.Dataplane.ReadinessPort = port(t, freePort(t))
	cfg.DataplaneRuntime.BinaryPath = realenvoy.ForTest(t)
	cfg.DataplaneRuntime.Concurrency = 1
	cfg.DNS.Port = port(t, freePort(t))
	cfg.DataplaneRuntime.ConfigDir = filepath.Join(t.TempDir(), "work")
	cfg.DataplaneRuntime.SocketDir = cfg.DataplaneRuntime.ConfigDir
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(token(`{"Name":"demo","Mesh":"default"}`)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.DataplaneRuntime.TokenPath = path
	return cfg, log
}

// running is an agent in a goroutine.
type running struct {
	*agent.Agent
	stop  context.CancelFunc
	ended chan error
}

func start(t *testing.T, cfg agent.Config) *running {
	t.Helper()
	a, err := agent.New(cfg, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Agent: a, stop: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- a.Run(ctx) }()
	t.Cleanup(func() { cancel(); a.Hurry(); r.wait(t) })
	return r
}

// wait returns how Run ended.
func (r *running) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.ended:
		r.ended <- err
		return err
	case <-time.After(patience):
		t.Fatal("the agent does not end")
	}
	return nil
}

// get returns status and body of the readiness page.
func get(t *testing.T, cfg agent.Config) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	answer, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/ready", cfg.Dataplane.ReadinessPort))
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(body)
}

// awaitReady asks until the page says so.
func (r *running) awaitReady(t *testing.T, cfg agent.Config, log *logBook) {
	t.Helper()
	deadline := time.Now().Add(patience)
	body := ""
	for time.Now().Before(deadline) {
		var code int
		if code, body = get(t, cfg); code == http.StatusOK {
			return
		}
		select {
		case err := <-r.ended:
			r.ended <- err
			t.Fatalf("the agent ended: %v\n%s", err, log)
		case <-time.After(5 * time.Millisecond):
		}
	}
	t.Fatalf("never ready: %s\n%s", body, log)
}

func TestAgentServesAndDrains(t *testing.T) {
	c := newControlPlane(t)
	c.mtls, c.redirects = true, true
	app, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	inbound := freePort(t)
	c.world[clusterType] = map[string]*anypb.Any{"app": staticCluster("app", app.Addr().String())}
	c.world[listenerType] = map[string]*anypb.Any{"in": tcpListener("in", inbound, "app"), "kuma:dns": dnsListener("backend.svc.mesh.local", "241.0.0.1")}
	cfg, log := config(t, c)
	cfg.Dataplane.DrainTime = agent.Duration(time.Minute)
	began := time.Now()
	r := start(t, cfg)
	r.awaitReady(t, cfg, log)
	t.Logf("ready after %s", time.Since(began).Round(time.Millisecond))

	t.Run("a connection passes", func(t *testing.T) {
		out, err := net.Dial("tcp", inbound)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		in, err := app.Accept()
		if err != nil {
			t.Fatal(err)
		}
		in.Close()
	})
	t.Run("a name of the mesh resolves", func(t *testing.T) {
		resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", cfg.DNS.Port))
		}}
		got, err := resolver.LookupHost(t.Context(), "backend.svc.mesh.local")
		if err != nil || len(got) != 1 || got[0] != "241.0.0.1" {
			t.Errorf("got %v, %v; want 241.0.0.1", got, err)
		}
	})
	t.Run("what the control plane was told", func(t *testing.T) {
		c.mu.Lock()
		defer c.mu.Unlock()
		q := c.requests[0]
		if got, want := fmt.Sprint(q.Features), "[feature-tcp-accesslog-via-named-pipe feature-identity-csr]"; got != want {
			t.Errorf("features %s, want %s", got, want)
		}
		if q.AppProbeProxyEnabled || q.Name != "demo" || q.Workdir != cfg.DataplaneRuntime.SocketDir || q.DNSPort != 15054 {
			t.Errorf("request %+v", q)
		}
		if len(c.tokens) == 0 || !strings.HasPrefix(c.tokens[0], "eyJ") || strings.Contains(c.tokens[0], "\n") {
			t.Error("the stream has no trimmed token")
		}
	})
	t.Run("the admin endpoint", func(t *testing.T) {
		dir := cfg.DataplaneRuntime.SocketDir
		var status struct {
			Ready bool
			Relay struct{ Protocol string }
		}
		page(t, dir, "status", &status)
		if !status.Ready || status.Relay.Protocol != "delta" {
			t.Errorf("status %+v", status)
		}
		var identity struct {
			State, Source, KeyType string
			URIs                   []string
			Clock                  struct{ ClockSkew, MeasuredBy string }
		}
		page(t, dir, "identity", &identity)
		if identity.Source != "control-plane" || identity.KeyType != "ecdsa-p256" || identity.Clock.ClockSkew == "" || identity.Clock.MeasuredBy != "bootstrap" {
			t.Errorf("identity %+v", identity)
		}
		if identity.State != "issued" || len(identity.URIs) == 0 || identity.URIs[0] != "spiffe://default/demo" {
			t.Errorf("identity %+v", identity)
		}
		var names struct{ Records map[string][]string }
		page(t, dir, "dns", &names)
		if len(names.Records["backend.svc.mesh.local"]) != 1 {
			t.Errorf("names %v", names)
		}
		if _, err := admin.Get(t.Context(), dir, "nothing"); err == nil {
			t.Error("an unknown page is served")
		}
	})
	t.Run("metrics", func(t *testing.T) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(cfg.DataplaneRuntime.SocketDir, "kuma-mh-demo-default.sock"))
		}}}
		answer, err := client.Get("http://x/")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if !strings.Contains(string(body), "\nkuma_dp_clock_skew_seconds ") {
			t.Error("no skew of the clock")
		}
		_, rest, _ := strings.Cut(string(body), "\nkuma_dp_certificate_expiration_timestamp_seconds ")
		line, _, _ := strings.Cut(rest, "\n")
		if end, err := strconv.ParseFloat(line, 64); err != nil || time.Until(time.Unix(int64(end), 0)) <= 0 {
			t.Errorf("the certificate ends at %q, %v", line, err)
		}
		if err != nil || !strings.Contains(string(body), "envoy_server_live 1") {
			t.Errorf("page of %d bytes without envoy_server_live, %v", len(body), err)
		}
	})
	t.Run("only the owner can read what is on disk, and it holds no secret", func(t *testing.T) {
		checkFiles(t, cfg.DataplaneRuntime.ConfigDir)
		if strings.Contains(log.String(), "eyJ") {
			t.Error("a token is in the log")
		}
	})
	t.Run("drain", func(t *testing.T) {
		r.stop()
		deadline := time.Now().Add(patience)
		for code, body := get(t, cfg); code != http.StatusServiceUnavailable || body != "TERMINATING"; code, body = get(t, cfg) {
			if time.Now().After(deadline) {
				t.Fatalf("readiness is %d %s after the signal", code, body)
			}
		}
		out, err := net.Dial("tcp", inbound)
		if err != nil {
			t.Fatalf("draining proxy takes no connections: %v", err)
		}
		out.Close()
		r.Hurry()
		if err := r.wait(t); err != nil {
			t.Errorf("ended with %v, want nil", err)
		}
		left, err := os.ReadDir(cfg.DataplaneRuntime.SocketDir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range left {
			if f.Type()&(fs.ModeSocket|fs.ModeNamedPipe) != 0 {
				t.Errorf("%s is left behind", f.Name())
			}
		}
	})
}

func page(t *testing.T, dir, name string, into any) {
	t.Helper()
	body, err := admin.Get(t.Context(), dir, name)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(body), "PRIVATE KEY") || strings.Contains(string(body), "eyJ") {
		t.Errorf("page %s holds a secret", name)
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatal(err)
	}
}

func checkFiles(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if strings.Contains(string(b), "eyJ") || strings.Contains(string(b), "PRIVATE KEY") {
				t.Errorf("%s holds a secret", path)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAgentEndsWithEnvoy(t *testing.T) {
	c := newControlPlane(t)
	c.world[clusterType] = map[string]*anypb.Any{"app": staticCluster("app", "127.0.0.1:1")}
	c.world[listenerType] = map[string]*anypb.Any{"in": tcpListener("in", freePort(t), "app")}
	cfg, log := config(t, c)
	r := start(t, cfg)
	r.awaitReady(t, cfg, log)
	pid := child(t, "envoy")
	began := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err := r.wait(t)
	if exit, ok := errors.AsType[*envoy.ExitError](err); !errors.Is(err, agent.ErrEnvoy) || !ok || exit.Signal != syscall.SIGKILL {
		t.Errorf("ended with %v, want ErrEnvoy by SIGKILL", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("noticed after %s", took)
	}
}

// child finds a child of this process by its name.
func child(t *testing.T, name string) int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var pid, parent int
		var state string
		before, after, ok := strings.Cut(string(b), ") ")
		if _, err := fmt.Sscan(after, &state, &parent); !ok || err != nil || parent != os.Getpid() || !strings.HasSuffix(before, "("+name) {
			continue
		}
		if _, err := fmt.Sscan(before, &pid); err == nil {
			return pid
		}
	}
	t.Fatalf("no child %s", name)
	return 0
}

func TestAgentSaysWhatIsWrong(t *testing.T) {
	c := newControlPlane(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tc := range []struct {
		name   string
		change func(*agent.Config)
		is     error
		want   string
	}{
		{"readiness port in use", func(c *agent.Config) { c.Dataplane.ReadinessPort = port(t, taken.Addr().String()) }, nil, "pid " + strconv.Itoa(os.Getpid())},
		{"no envoy", func(c *agent.Config) { c.DataplaneRuntime.BinaryPath = "/nowhere/envoy" }, nil, ""},
		{"no control plane", func(c *agent.Config) {
			c.ControlPlane.URL = "https://127.0.0.1:1"
			c.ControlPlane.Retry = agent.Retry{Backoff: agent.Duration(time.Millisecond), MaxDuration: agent.Duration(5 * time.Millisecond)}
		}, agent.ErrControlPlane, "127.0.0.1:1"},
		{"untrusted control plane", func(c *agent.Config) {
			c.ControlPlane.CACert = ""
			c.ControlPlane.Retry = agent.Retry{Backoff: agent.Duration(time.Millisecond), MaxDuration: agent.Duration(5 * time.Millisecond)}
		}, agent.ErrControlPlane, "--ca-cert-file"},
		{"work directory of others", func(c *agent.Config) {
			if err := os.MkdirAll(c.DataplaneRuntime.ConfigDir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(c.DataplaneRuntime.ConfigDir, 0o777); err != nil {
				t.Fatal(err)
			}
		}, nil, "chmod 700"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg, _ := config(t, c)
			tc.change(&cfg)
			if tc.name == "no envoy" {
				t.Chdir(t.TempDir())
				tc.is, tc.want = agent.ErrEnvoy, "--binary-path"
			}
			err := start(t, cfg).wait(t)
			if err == nil || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("ended with %v, want %v with %q", err, tc.is, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("%q is more than one line", err)
			}
		})
	}
}
