// Package probe answers an orchestrator's health probes on behalf of the workload, whose own ports are behind mTLS: each
// probe is made again from inside, to the workload's address only (contract agent.md §4.8).
package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/kuma-dp/kuma-dp/internal/version"
)

// Headers by which the injector says how to probe; they do not reach the workload.
const (
	prefixHeader  = "X-Kuma-Probes-"
	timeoutHeader = "X-Kuma-Probes-Timeout"
	hostHeader    = "X-Kuma-Probes-Host"
	schemeHeader  = "X-Kuma-Probes-Scheme"
	serviceHeader = "X-Kuma-Probes-Grpc-Service"
)

const (
	defaultTimeout = time.Second
	longestTimeout = time.Minute
	maxBody        = 10 << 10
)

// Config says what a Proxy needs.
type Config struct {
	// Listener is bound by the caller, on all addresses; the Proxy closes it.
	Listener net.Listener
	// Address is the workload's.
	Address string
	// Source is the address from which the workload is probed, so that redirection lets it pass; nil for any.
	Source net.IP
	Log    *slog.Logger
}

// Proxy serves probes.
type Proxy struct {
	cfg    Config
	client *http.Client
}

// New makes a Proxy.
func New(cfg Config) *Proxy {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Proxy{cfg: cfg}
	p.client = &http.Client{
		// A redirect is an answer, and a healthy one; to follow it would lead elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true, DisableCompression: true,
			DialContext:     func(ctx context.Context, _, address string) (net.Conn, error) { return p.dial(ctx, address) },
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, //nolint:gosec // as the kubelet's own HTTPS probes
		},
	}
	return p
}

func (p *Proxy) dial(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{}
	if p.cfg.Source != nil {
		d.LocalAddr = &net.TCPAddr{IP: p.cfg.Source}
	}
	c, err := d.DialContext(ctx, "tcp", address)
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		err = tcp.SetLinger(1)
	}
	return c, err
}

// Run serves until ctx ends.
func (p *Proxy) Run(ctx context.Context) error {
	server := &http.Server{
		Handler: http.HandlerFunc(p.serve), ReadHeaderTimeout: 2 * time.Second, WriteTimeout: longestTimeout + time.Second,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(p.cfg.Log.Handler(), slog.LevelDebug),
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(closed); _ = server.Close() })
	err := server.Serve(p.cfg.Listener)
	if !stop() {
		<-closed
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (p *Proxy) serve(w http.ResponseWriter, q *http.Request) {
	if q.Method != http.MethodGet {
		answer(w, http.StatusMethodNotAllowed, "UNKNOWN")
		return
	}
	kind, address, path, err := p.target(q.URL.Path)
	if err != nil {
		answer(w, http.StatusServiceUnavailable, "UNKNOWN")
		return
	}
	ctx, cancel := context.WithTimeout(q.Context(), timeout(q.Header.Get(timeoutHeader)))
	defer cancel()
	code := http.StatusServiceUnavailable
	switch kind {
	case "tcp":
		err = p.tcp(ctx, address)
	case "grpc":
		err = p.grpc(ctx, address, q.Header.Get(serviceHeader))
	default:
		code, err = p.http(ctx, q, address, path)
	}
	if err != nil {
		p.cfg.Log.Debug("probe failed", "path", q.URL.Path, "reason", err.Error())
		answer(w, code, "UNHEALTHY")
		return
	}
	answer(w, http.StatusOK, "HEALTHY")
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("content-type", "text/plain; charset=utf-8")
	w.Header().Set("x-content-type-options", "nosniff")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n") // a probe that has gone needs no answer
}

// target reads /<port>/<path>, /tcp/<port> or /grpc/<port>. The host is always the workload's.
func (p *Proxy) target(path string) (kind, address, rest string, err error) {
	first, after, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	kind, port, rest := "http", first, after
	if first == "tcp" || first == "grpc" {
		kind, port, rest = first, after, ""
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", "", "", fmt.Errorf("%q is not a port", port)
	}
	return kind, net.JoinHostPort(p.cfg.Address, strconv.FormatUint(n, 10)), "/" + rest, nil
}

func timeout(seconds string) time.Duration {
	n, err := strconv.ParseUint(seconds, 10, 16)
	if err != nil || n == 0 {
		return defaultTimeout
	}
	return min(time.Duration(n)*time.Second, longestTimeout)
}

func (p *Proxy) tcp(ctx context.Context, address string) error {
	c, err := p.dial(ctx, address)
	if err != nil {
		return err
	}
	return c.Close()
}

func (p *Proxy) grpc(ctx context.Context, address, service string) error {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(p.dial), grpc.WithUserAgent("kube-probe/"+version.Version), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	answer, err := health.NewHealthClient(conn).Check(ctx, &health.HealthCheckRequest{Service: service})
	if err = errors.Join(err, conn.Close()); err != nil {
		return err
	}
	if answer.GetStatus() != health.HealthCheckResponse_SERVING {
		return fmt.Errorf("service says %s", answer.GetStatus())
	}
	return nil
}

func (p *Proxy) http(ctx context.Context, in *http.Request, address, path string) (int, error) {
	u := url.URL{Scheme: "http", Host: address, Path: path, RawQuery: in.URL.RawQuery}
	if strings.EqualFold(in.Header.Get(schemeHeader), "https") {
		u.Scheme = "https"
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return http.StatusServiceUnavailable, err
	}
	for name, values := range in.Header {
		if !strings.HasPrefix(name, prefixHeader) && name != "Connection" {
			q.Header[name] = values
		}
	}
	if q.Header.Get("user-agent") == "" {
		q.Header.Set("user-agent", "kuma-probe/"+version.Version)
	}
	q.Host = in.Header.Get(hostHeader) // "" is the address; 2.9 loses this header
	out, err := p.client.Do(q)
	if err != nil {
		return http.StatusServiceUnavailable, err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(out.Body, maxBody))
	if err = errors.Join(err, out.Body.Close()); err != nil {
		return http.StatusServiceUnavailable, err
	}
	if out.StatusCode >= http.StatusBadRequest {
		return out.StatusCode, fmt.Errorf("workload answered %s", out.Status)
	}
	return http.StatusOK, nil
}
