// Package admin is the agent's local admin endpoint, on an owner-only unix socket, and the client behind kuma-dp debug.
// It only reads: nothing about a running proxy can be changed through it.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/agent/socket"
)

// SocketName is the socket's name in the work directory.
const SocketName = "kuma-admin.sock"

// Page makes a value that is shown as JSON. It is called concurrently and may not return a secret. An error is the fault of
// the query.
type Page func(ctx context.Context, query url.Values) (any, error)

// Config says what the endpoint shows.
type Config struct {
	Dir   string
	Pages map[string]Page // by path without the slash, such as "status"
	Log   *slog.Logger
}

// Server serves one work directory.
type Server struct {
	cfg      Config
	listener net.Listener
}

// New binds the socket.
func New(cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l, err := socket.Listen(filepath.Join(cfg.Dir, SocketName))
	if err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, listener: l}, nil
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	for name, page := range s.cfg.Pages {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, q *http.Request) {
			value, err := page(q.Context(), q.URL.Query())
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			body, err := json.MarshalIndent(value, "", "  ")
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("content-type", "application/json")
			_, _ = w.Write(append(body, '\n')) // a client that has gone needs no answer
		})
	}
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 2 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(closed); _ = server.Close() })
	err := server.Serve(s.listener)
	if !stop() {
		<-closed
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// maxPage bounds what the client reads, in bytes.
const maxPage = 64 << 20

// Get asks the agent of a work directory for a page and returns its JSON. With dir "" the only agent of this user that
// runs in the temporary directory is asked.
func Get(ctx context.Context, dir, page string) ([]byte, error) {
	path := filepath.Join(dir, SocketName)
	if dir == "" {
		var err error
		if path, err = find(ctx); err != nil {
			return nil, err
		}
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/"+page, nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(q)
	if err != nil {
		return nil, fmt.Errorf("ask agent on %s: %w: is kuma-dp running, as this user, with this work directory?", path, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxPage))
	if err != nil {
		return nil, fmt.Errorf("read answer of agent on %s: %w", path, err)
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("agent on %s answered %s: %s", path, answer.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}

func find(ctx context.Context) (string, error) {
	paths, err := filepath.Glob(filepath.Join(os.TempDir(), "kuma-dp-*", SocketName))
	if err != nil {
		return "", err
	}
	dialer := net.Dialer{Timeout: time.Second}
	var live []string
	for _, p := range paths {
		if c, err := dialer.DialContext(ctx, "unix", p); err == nil {
			_ = c.Close() // it was only a question
			live = append(live, p)
		}
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	switch len(live) {
	case 0:
		return "", fmt.Errorf("no running kuma-dp of this user found under %s: name its work directory with --work-dir", os.TempDir())
	case 1:
		return live[0], nil
	}
	for i, p := range live {
		live[i] = filepath.Dir(p)
	}
	return "", fmt.Errorf("several kuma-dp are running, choose one with --work-dir: %s", strings.Join(live, ", "))
}
