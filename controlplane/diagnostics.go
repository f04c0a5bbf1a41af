package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// diagnostics serves /ready, /healthy and /metrics (contract controlplane.md §1.1).
type diagnostics struct {
	ready    atomic.Bool
	registry *prometheus.Registry
	server   *http.Server
	listener net.Listener
}

func newDiagnostics(cfg DiagnosticsConfig, log *slog.Logger) *diagnostics {
	d := &diagnostics{registry: prometheus.NewRegistry()}
	d.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthy", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK) })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if !d.ready.Load() {
			answer(w, http.StatusServiceUnavailable)
			return
		}
		answer(w, http.StatusOK)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	if cfg.DebugEndpoints {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	d.server = &http.Server{
		Handler: mux, MaxHeaderBytes: 8 << 10,
		// Profiles take as long as they are asked to; everything else is short.
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 2 * time.Minute, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return d
}

func answer(w http.ResponseWriter, status int) {
	w.WriteHeader(status)
	_, _ = io.WriteString(w, http.StatusText(status)+"\n") // a client that has gone needs no answer
}

func (d *diagnostics) listen(ctx context.Context, address string) (err error) {
	if d.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", address); err != nil {
		return fmt.Errorf("listen for diagnostics on %s: %w", address, err)
	}
	return nil
}

func (d *diagnostics) run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- d.server.Serve(d.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve diagnostics: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if d.server.Shutdown(stop) != nil {
		_ = d.server.Close() // a scrape is cut: there will be another
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve diagnostics: %w", err)
	}
	return nil
}
