package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/portowner"
)

// envoyPatience bounds one question to Envoy's admin interface; probes give up after a second at the least.
const envoyPatience = 800 * time.Millisecond

// readiness answers GET /ready (contract agent.md §4.2). Unlike 2.9 it says READY only when the workload can be reached:
// the text of a 503 says what is missing.
type readiness struct {
	listener    net.Listener
	envoy       func(ctx context.Context) error
	missing     func() []string
	log         *slog.Logger
	terminating atomic.Bool
}

// listenReadiness binds the port, so that a port in use is told before Envoy starts.
func listenReadiness(host string, port uint32) (net.Listener, error) {
	return listenTCP("readiness", net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10)), "KUMA_READINESS_PORT")
}

func (r *readiness) run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", r.serve)
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 2 * time.Second, WriteTimeout: 5 * time.Second, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
	}
	return serveHTTP(ctx, server, r.listener)
}

// serveHTTP serves until ctx ends, then closes every connection.
func serveHTTP(ctx context.Context, server *http.Server, l net.Listener) error {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(closed); _ = server.Close() })
	err := server.Serve(l)
	if !stop() {
		<-closed
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (r *readiness) serve(w http.ResponseWriter, q *http.Request) {
	code, body := http.StatusOK, "READY"
	if r.terminating.Load() {
		code, body = http.StatusServiceUnavailable, "TERMINATING"
	} else if missing := r.check(q.Context()); len(missing) > 0 {
		code, body = http.StatusServiceUnavailable, "NOT_READY: "+strings.Join(missing, "; ")
	}
	h := w.Header()
	h.Set("content-type", "text/plain")
	h.Set("content-length", strconv.Itoa(len(body)))
	h.Set("cache-control", "no-cache, max-age=0")
	h.Set("x-powered-by", "kuma-dp")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(body)) // a probe that has gone needs no answer
}

// check lists what is missing for the workload to be reached.
func (r *readiness) check(ctx context.Context) []string {
	missing := r.missing()
	ctx, cancel := context.WithTimeout(ctx, envoyPatience)
	defer cancel()
	if err := r.envoy(ctx); err != nil {
		missing = append([]string{"envoy: " + err.Error()}, missing...)
	}
	return missing
}

// await waits until all is there for the first time. Envoy tells that it is live only to those who ask, hence the ticker.
func (r *readiness) await(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(r.check(ctx)) > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// listenTCP binds a port, and names who has it when it is taken (demands.md F23).
func listenTCP(what, address, option string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err == nil {
		return l, nil
	}
	_, text, _ := net.SplitHostPort(address)
	if port, parse := strconv.ParseUint(text, 10, 16); parse == nil && errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen for %s: %s: choose another port with %s", what, portowner.Explain("tcp", uint16(port)), option)
	}
	return nil, fmt.Errorf("listen for %s on %s: %w: choose another address with %s", what, address, err, option)
}
