//go:build linux

package scene

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
)

// AppPort is where every workload's application listens.
const AppPort = 8080

// Workload is an application with its agent on a host of its own.
type Workload struct {
	Name, Service string
	Host          *netlab.Host
	Agent         *Process
	// App answers the workload's requests; nil for a pure client.
	App   *App
	scene *Scene
	// WorkDir is the agent's folder for sockets and configuration.
	WorkDir string
	token   string
	file    string
}

// WorkloadConfig describes a workload.
type WorkloadConfig struct {
	// Name is the Dataplane's and the host's, Service its kuma.io/service.
	Name, Service string
	// Dataplane is the file that kuma-dp gets, with its variables name, address and service; empty for that of a plain service.
	Dataplane string
	// Env are further variables of kuma-dp, NAME=value.
	Env []string
	// Args are further arguments of kuma-dp run.
	Args []string
	// Tracer is a command that runs kuma-dp as its child, root's, since nobody else may look into kuma-dp; empty for none.
	Tracer []string
	// NoRedirect leaves the host without redirection.
	NoRedirect bool
	// IPv6 gives the host an address of that family too.
	IPv6 bool
	// NoAgent prepares everything but does not start kuma-dp.
	NoAgent bool
}

const dataplane = `type: Dataplane
mesh: default
name: {{ name }}
networking:
  address: {{ address }}
  inbound:
  - port: ` + appPort + `
    tags:
      kuma.io/service: {{ service }}
      kuma.io/protocol: http
  transparentProxying:
    redirectPortInbound: 15006
    redirectPortOutbound: 15001
`

const appPort = "8080"

// AddWorkload makes a host, starts an application on it, redirects its traffic and starts its agent. It returns when the
// agent is ready.
func (s *Scene) AddWorkload(ctx context.Context, cfg WorkloadConfig) (*Workload, error) {
	var options []netlab.Option
	if cfg.IPv6 {
		options = append(options, netlab.IPv6())
	}
	host, err := s.lab.AddHost(cfg.Name, options...)
	if err != nil {
		return nil, err
	}
	w := &Workload{Name: cfg.Name, Service: cfg.Service, Host: host, scene: s, WorkDir: filepath.Join(s.dir, cfg.Name)}
	if err := w.prepare(ctx, cfg); err != nil {
		return nil, fmt.Errorf("prepare %s: %w", cfg.Name, err)
	}
	if cfg.NoAgent {
		return w, nil
	}
	if err := w.StartAgent(ctx, cfg); err != nil {
		return nil, err
	}
	return w, w.Ready(ctx)
}

func (w *Workload) prepare(ctx context.Context, cfg WorkloadConfig) error {
	// No resolver lives there: names of the mesh must resolve without one.
	if err := w.Host.SetResolvConf("nameserver 10.77.0.1\n"); err != nil {
		return err
	}
	if err := AddUser(w.Host); err != nil {
		return err
	}
	if err := os.Mkdir(w.WorkDir, 0o700); err != nil {
		return err
	}
	w.token, w.file = filepath.Join(w.WorkDir, "token"), filepath.Join(w.WorkDir, "dataplane.yaml")
	token, err := w.scene.Kumactl(ctx, nil, "generate", "dataplane-token", "--name", w.Name, "--mesh", "default", "--valid-for", "24h")
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(w.token, []byte(token), 0o600), os.WriteFile(w.file, []byte(cmp.Or(cfg.Dataplane, dataplane)), 0o600)); err != nil {
		return err
	}
	for _, path := range []string{w.WorkDir, w.token, w.file} {
		if err := os.Chown(path, ProxyUID, ProxyUID); err != nil {
			return err
		}
	}
	if err := w.StartApp(); err != nil {
		return err
	}
	if cfg.NoRedirect {
		return nil
	}
	return w.Redirect(ctx)
}

// Redirect redirects the host's traffic to its Envoy.
func (w *Workload) Redirect(ctx context.Context) error {
	_, err := output(w.Host.Command(ctx, 0, w.scene.Path("kumactl"),
		"install", "transparent-proxy", "--kuma-dp-user", "kuma-dp", "--redirect-dns"))
	w.scene.onClose(redirection{w})
	return err
}

// redirection is that of a workload. Its rules would go with the host, but not what is remembered of them in /run.
type redirection struct{ *Workload }

// uninstallLimit is far more than an uninstallation takes.
const uninstallLimit = 30 * time.Second

func (r redirection) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), uninstallLimit)
	defer cancel()
	if _, err := output(r.Host.Command(ctx, 0, r.scene.Path("kumactl"), "uninstall", "transparent-proxy")); err != nil {
		return fmt.Errorf("end the redirection of %s: %w", r.Name, err)
	}
	return nil
}

// StartApp starts the workload's application, again after App was closed.
func (w *Workload) StartApp() error {
	app, err := NewApp(w.Host, w.Name)
	if err != nil {
		return err
	}
	w.App = app
	w.scene.onClose(app)
	return nil
}

// AddUser gives the host a user kuma-dp, as `useradd` would, and leaves those of the machine as they are.
func AddUser(host *netlab.Host) error {
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return err
	}
	return host.SetEtc("passwd", fmt.Sprintf("%skuma-dp:x:%d:%d::/nonexistent:/usr/sbin/nologin\n", passwd, ProxyUID, ProxyUID))
}

// StartAgent runs kuma-dp, again after it ended; it does not wait for readiness.
func (w *Workload) StartAgent(ctx context.Context, cfg WorkloadConfig) error {
	args := append([]string{
		"run", "--cp-address", w.scene.ControlPlane.URL(), "--dataplane-file", w.file, "--dataplane-token-file", w.token,
		"--dataplane-var", "name=" + w.Name, "--dataplane-var", "service=" + w.Service, "--dataplane-var", "address=" + w.Host.Addr.String(),
		"--binary-path", w.scene.Path("envoy"), "--config-dir", w.WorkDir, "--concurrency", "1",
	}, cfg.Args...)
	ca, err := os.ReadFile(w.scene.ControlPlane.CAFile())
	if err != nil {
		return fmt.Errorf("start agent of %s: %w", w.Name, err)
	}
	// The command outlives ctx, which bounds only the start; Close of the scene ends it.
	uid, argv := ProxyUID, append([]string{w.scene.Path("kuma-dp")}, args...)
	if len(cfg.Tracer) > 0 {
		id := strconv.Itoa(ProxyUID)
		uid, argv = 0, slices.Concat(cfg.Tracer, []string{"setpriv", "--reuid", id, "--regid", id, "--clear-groups", "--pdeathsig", "KILL", "--"}, argv)
	}
	cmd := w.Host.Command(context.WithoutCancel(ctx), uid, argv[0], argv[1:]...)
	cmd.Env = append(append(os.Environ(), "HOME="+w.WorkDir, "KUMA_CONTROL_PLANE_CA_CERT="+string(ca),
		"KUMA_DATAPLANE_RUNTIME_SOCKET_DIR="+w.WorkDir), cfg.Env...)
	w.Agent, err = w.scene.start(w.Name, cmd)
	return err
}

// Ready waits until the agent says that all is in place.
func (w *Workload) Ready(ctx context.Context) error { return ready(ctx, w.Host, w.Agent, 9902) }

func ready(ctx context.Context, host *netlab.Host, agent *Process, port int) error {
	client := HTTPClient(host)
	defer client.CloseIdleConnections()
	return await(ctx, agent, agent.Name+" to be ready", func(ctx context.Context) error {
		return expectOK(ctx, client, fmt.Sprintf("http://127.0.0.1:%d/ready", port))
	})
}

// Curl runs curl on the workload's host as the application would, and returns status and body.
func (w *Workload) Curl(ctx context.Context, url string, args ...string) (int, string, error) {
	args = append([]string{"--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}", url}, args...)
	out, err := output(w.Host.Command(ctx, 0, "curl", args...))
	if err != nil {
		return 0, "", err
	}
	i := strings.LastIndexByte(out, '\n')
	code, err := strconv.Atoi(strings.TrimSpace(out[i+1:]))
	return code, out[:max(i, 0)], err
}

// App is the HTTP application of a workload: it answers any request with what it saw.
type App struct {
	server   *http.Server
	done     chan error
	instance string
}

// Seen is the body of the application's answers.
type Seen struct {
	// Instance is the workload that answered.
	Instance string `json:"instance"`
	Path     string `json:"path"`
	// ClientCert is the header by which Envoy tells who the authenticated client and server are.
	ClientCert string `json:"clientCert"`
}

// NewApp starts the application on host; the caller must Close it.
func NewApp(host *netlab.Host, instance string) (*App, error) {
	l, err := host.Listen("tcp", net.JoinHostPort("0.0.0.0", appPort))
	if err != nil {
		return nil, fmt.Errorf("start application %s: %w", instance, err)
	}
	a := &App{instance: instance, done: make(chan error, 1)}
	a.server = &http.Server{Handler: a, ReadHeaderTimeout: 10 * time.Second}
	go func() { a.done <- a.server.Serve(l) }()
	return a, nil
}

// DelayHeader asks the application to wait before it answers, in milliseconds.
const DelayHeader = "x-set-response-delay-ms"

// ServeHTTP answers with what the application saw.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if delay := r.Header.Get(DelayHeader); delay != "" {
		ms, err := strconv.ParseUint(delay, 10, 16)
		if err != nil {
			http.Error(w, fmt.Sprintf("%s: %v", DelayHeader, err), http.StatusBadRequest)
			return
		}
		select {
		case <-time.After(time.Duration(ms) * time.Millisecond):
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	// An error here is the client's going away.
	_ = json.NewEncoder(w).Encode(Seen{Instance: a.instance, Path: r.URL.Path, ClientCert: r.Header.Get("X-Forwarded-Client-Cert")})
}

// Close stops the application at once, with its connections.
func (a *App) Close() error {
	if a.server == nil {
		return nil
	}
	err := a.server.Close()
	a.server = nil
	if serve := <-a.done; !errors.Is(serve, http.ErrServerClosed) {
		err = errors.Join(err, serve)
	}
	return err
}

// KillAgent ends the agent with SIGKILL, and Envoy with it, and waits for it.
func (w *Workload) KillAgent() { w.Agent.kill() }
