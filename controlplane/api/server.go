package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// maxHeader bounds a request's header before authentication; tokens are below 16 KiB.
const maxHeader = 32 << 10

// Server answers the REST interface. Its handler is safe for concurrent use.
type Server struct {
	cfg Config
	mux *http.ServeMux
	// endpoints are described in the OpenAPI document; complete after New.
	endpoints []endpoint
	origins   []*regexp.Regexp

	mu        sync.Mutex
	listeners []net.Listener
}

// New returns a server that does not listen yet.
func New(cfg Config) (*Server, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	origins, err := compileOrigins(cfg.CORSAllowedDomains)
	if err != nil {
		return nil, err
	}
	cfg.Log = cfg.Log.With("component", "api")
	s := &Server{cfg: cfg, mux: http.NewServeMux(), origins: origins}
	s.routes()
	if cfg.Extra != nil {
		cfg.Extra(Router{Access: *cfg.Access, server: s})
	}
	s.adminFallbacks()
	return s, nil
}

// Handler returns the whole interface, for tests and for embedding.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// handle adds an endpoint. Patterns are the programmer's: a wrong one panics in New.
func (s *Server) handle(pattern string, h Handler, doc Doc) {
	s.describe(pattern, doc)
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.writeError(w, r, err)
		}
	})
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			s.writeError(w, r, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if s.cors(w, r) {
		return
	}
	if err := checkTarget(r); err != nil {
		s.writeError(w, r, err)
		return
	}
	user, err := s.authenticate(r)
	if err == nil {
		err = s.mayChange(r, user)
	}
	if err != nil {
		s.writeError(w, r, err)
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), userKey{}, user))
	r.Body = http.MaxBytesReader(w, r.Body, s.cfg.MaxBody)
	if _, pattern := s.mux.Handler(r); pattern == "" {
		s.noSuchPath(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// checkTarget refuses paths and queries that a router or a proxy might read in two ways, or that cost more to read than any
// that is meant well.
func checkTarget(r *http.Request) error {
	bad := func(status int, detail string) error {
		return &Error{Status: status, Title: badRequest, Detail: detail}
	}
	if len(r.URL.RawQuery) > maxQuery {
		return bad(http.StatusRequestURITooLong, fmt.Sprintf("query is longer than %d bytes", maxQuery))
	}
	if _, err := url.ParseQuery(r.URL.RawQuery); err != nil {
		return bad(http.StatusBadRequest, "query is malformed")
	}
	if !plainPath(r.URL.EscapedPath()) || strings.ContainsFunc(r.URL.Path, unprintable) {
		return bad(http.StatusBadRequest, "path must not have empty or dot segments, slashes or control characters within a name")
	}
	return nil
}

// unprintable also finds bytes that are no UTF-8.
func unprintable(c rune) bool { return c < ' ' || c == 0x7f || c == utf8.RuneError }

// plainPath refuses what hides the structure of a path: dot and empty segments, encoded slashes, NUL.
func plainPath(escaped string) bool {
	if !strings.HasPrefix(escaped, "/") {
		return false
	}
	lower := strings.ToLower(escaped)
	for _, hidden := range []string{"//", "%2f", "%5c", "%00", "\\"} {
		if strings.Contains(lower, hidden) {
			return false
		}
	}
	for segment := range strings.SplitSeq(strings.ReplaceAll(lower, "%2e", "."), "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// serves tells whether there is a route.
func (s *Server) serves(method, path string) bool {
	_, pattern := s.mux.Handler(&http.Request{Method: method, URL: &url.URL{Path: path}})
	return pattern != ""
}

// noSuchPath answers 405 when the path exists with another method, else 404, in the text that clients of 2.9 know.
func (s *Server) noSuchPath(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete} {
		if s.serves(m, r.URL.Path) {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) == 0 || slices.Contains(allowed, r.Method) {
		plainText(w, http.StatusNotFound)
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	plainText(w, http.StatusMethodNotAllowed)
}

func plainText(w http.ResponseWriter, status int) {
	text := "404: Page Not Found"
	if status == http.StatusMethodNotAllowed {
		text = "405: Method Not Allowed"
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // a client that has gone needs no answer
}

// Listen binds the configured addresses, so that a caller knows of a port in use before it says that it is ready. Run
// does it when it was not done.
func (s *Server) Listen(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listeners != nil {
		return nil
	}
	var bound []net.Listener
	for _, a := range []struct {
		address string
		secure  bool
	}{{s.cfg.HTTPAddress, false}, {s.cfg.HTTPSAddress, true}} {
		if a.address == "" {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.address)
		if err != nil {
			for _, b := range bound {
				_ = b.Close() // nothing was accepted on it
			}
			return fmt.Errorf("listen for the api on %s: %w", a.address, err)
		}
		if a.secure {
			c := s.cfg.TLS.Clone()
			c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
			c.NextProtos = []string{"h2", "http/1.1"}
			l = tls.NewListener(l, c)
		}
		bound = append(bound, l)
	}
	s.listeners = bound
	return nil
}

// Addresses returns where the server listens, HTTP before HTTPS; empty before Listen.
func (s *Server) Addresses() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]net.Addr, len(s.listeners))
	for i, l := range s.listeners {
		out[i] = l.Addr()
	}
	return out
}

// Run serves until ctx ends, then lets running requests finish for ShutdownTimeout. It returns an error when it cannot
// listen, or when a listener fails, or when requests had to be cut off.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(ctx); err != nil {
		return err
	}
	srv := &http.Server{
		Handler: s.Handler(), MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: s.cfg.ReadHeaderTimeout, ReadTimeout: s.cfg.ReadTimeout,
		WriteTimeout: s.cfg.WriteTimeout, IdleTimeout: s.cfg.IdleTimeout,
		// What strangers send that is no HTTP is not worth more than a debug line.
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	s.mu.Lock()
	listeners := s.listeners
	s.mu.Unlock()
	failed := make(chan error, len(listeners))
	var wg sync.WaitGroup
	for _, l := range listeners {
		wg.Go(func() {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve the api on %s: %w", l.Addr(), err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.ShutdownTimeout)
	defer cancel()
	if serr := srv.Shutdown(stop); serr != nil {
		err = errors.Join(err, fmt.Errorf("stop the api: %w", serr), srv.Close())
	}
	wg.Wait()
	return err
}
