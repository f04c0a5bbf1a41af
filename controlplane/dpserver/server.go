// Package dpserver is the port that agents and Envoys call, by default 5678: TLS only, gRPC (ADS, HDS, certificates) and
// POST /bootstrap on one port (contract controlplane.md §1.1, agent.md §2 and §5). Who cannot prove who they are gets
// nothing but the reason.
package dpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	health "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	istio "istio.io/api/security/v1alpha1"

	"github.com/kuma-dp/kuma-dp/bootstrap/generate"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Limits of one connection.
const (
	// maxBody of a bootstrap request; a Dataplane has some KiB.
	maxBody = 1 << 20
	// maxHeader of a request; a token has less than 16 KiB.
	maxHeader = 64 << 10
	// maxStreams per HTTP/2 connection. A proxy needs three; load tests put many proxies on one connection.
	maxStreams = 4096
	// maxMessage is gRPC's own default: a Dataplane in node metadata is far smaller.
	maxMessage = 4 << 20
	// keepaliveTime finds dead peers (contract agent.md §5).
	keepaliveTime = 15 * time.Second
)

// Config is what New needs. All services are required.
type Config struct {
	// Address is where Run listens, "host:port".
	Address string
	// TLS holds the certificate; versions below 1.2 are never spoken.
	TLS *tls.Config
	// ADS serves Envoy's configuration; it authenticates its streams itself.
	ADS discovery.AggregatedDiscoveryServiceServer
	// HDS serves health checks, see NewHDS; nil serves none.
	HDS health.HealthDiscoveryServiceServer
	// Certificates signs certificate requests; it authenticates its calls itself.
	Certificates istio.IstioCertificateServiceServer
	// Reports takes what agents tell of connections without mTLS; it authenticates its calls itself. nil
	// takes none.
	Reports interface {
		Register(server grpc.ServiceRegistrar)
	}
	Store    store.Store
	Registry *resource.Registry
	// Tokens checks the tokens of bootstrap requests; nil asks for none (KUMA_DP_SERVER_AUTHN_DP_PROXY_TYPE=none).
	Tokens *token.Validator
	// ZoneTokens checks those of zone proxies; nil refuses all of them.
	ZoneTokens *token.Validator
	// Zone tells the labels of Dataplanes that agents bring along.
	Zone resource.ZoneInfo
	// Bootstrap.XDSPort is that of Address when 0.
	Bootstrap generate.Config
	// Corefile is the template that agents of 2.9 use for CoreDNS; nil leaves them theirs.
	Corefile []byte
	// ReadHeaderTimeout also bounds the TLS handshake; 5 s when 0.
	ReadHeaderTimeout time.Duration
	// Log is silent when nil.
	Log *slog.Logger
}

// Server is the data-plane server.
type Server struct {
	cfg  Config
	log  *slog.Logger
	http *http.Server
	grpc *grpc.Server

	withdrawals withdrawals

	mu       sync.Mutex
	listener net.Listener
}

// New makes a server that does not listen yet.
func New(cfg Config) (*Server, error) {
	if cfg.TLS == nil || cfg.ADS == nil || cfg.Certificates == nil || cfg.Store == nil || cfg.Registry == nil {
		return nil, errors.New("configure data-plane server: TLS, ADS, Certificates, Store and Registry are required")
	}
	if cfg.ReadHeaderTimeout == 0 {
		cfg.ReadHeaderTimeout = 5 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, log: cfg.Log.With("component", "dp-server")}
	mux := http.NewServeMux()
	mux.HandleFunc("/bootstrap", s.bootstrap)
	s.http = &http.Server{
		Handler: mux, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: cfg.ReadHeaderTimeout, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 30 * time.Second,
		// Connections that speak HTTP/2 never reach this server, see split.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
		ErrorLog:     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.grpc = grpc.NewServer(
		grpc.MaxConcurrentStreams(maxStreams), grpc.MaxRecvMsgSize(maxMessage), grpc.MaxHeaderListSize(maxHeader),
		grpc.ConnectionTimeout(cfg.ReadHeaderTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTime}),
		// Envoy's Google gRPC client pings every 10 s; ours must not be cut off for being eager either.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(s.recoverUnary), grpc.StreamInterceptor(s.recoverStream),
	)
	discovery.RegisterAggregatedDiscoveryServiceServer(s.grpc, cfg.ADS)
	istio.RegisterIstioCertificateServiceServer(s.grpc, cfg.Certificates)
	if cfg.Reports != nil {
		cfg.Reports.Register(s.grpc)
	}
	if cfg.HDS != nil {
		health.RegisterHealthDiscoveryServiceServer(s.grpc, cfg.HDS)
	}
	return s, nil
}

// Listen binds the port, so that a caller knows of a port in use before it says that it is ready. Run does it when it was
// not done.
func (s *Server) Listen(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Address)
	if err != nil {
		return fmt.Errorf("listen for data planes on %s: %w", s.cfg.Address, err)
	}
	s.listener = l
	if tcp, ok := l.Addr().(*net.TCPAddr); ok && s.cfg.Bootstrap.XDSPort == 0 {
		s.cfg.Bootstrap.XDSPort = uint32(tcp.Port) // a bound port fits
	}
	return nil
}

// Addr is where the server listens, nil before Listen.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Close gives up a port that was bound but is not served, as after a failed start.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Close()
}

// Run serves until ctx ends or the listener fails. Streams are then cut, for they have no end of their own: agents
// reconnect, to this control plane's next start or to another.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(ctx); err != nil {
		return err
	}
	conf := s.cfg.TLS.Clone()
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	sp := newSplit(s.listener, conf, s.cfg.ReadHeaderTimeout, s.log)
	failed := make(chan error, 4)
	var wg sync.WaitGroup
	_, secrets := s.cfg.Store.Watch()    // before there are streams: no change is missed
	wg.Go(func() { failed <- sp.run() }) //nolint:contextcheck // sp.close ends it, and a handshake has its own timeout
	wg.Go(func() { failed <- s.http.Serve(sp.plain) })
	wg.Go(func() { failed <- s.grpc.Serve(sp.grpc) })
	following, unfollow := context.WithCancel(ctx)
	wg.Go(func() {
		if err := s.followSecrets(following, secrets); err != nil {
			failed <- err
		}
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("serve data planes on %s: %w", s.listener.Addr(), err)
	}
	unfollow()
	sp.close()
	s.grpc.Stop()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if s.http.Shutdown(stop) != nil {
		_ = s.http.Close() // a bootstrap that takes longer is asked for again
	}
	wg.Wait()
	return err
}

// A panic in one stream must not end the control plane for all.

func (s *Server) recoverUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	defer s.recovered(info.FullMethod, &err)
	return next(ctx, req)
}

func (s *Server) recoverStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer s.recovered(info.FullMethod, &err)
	return s.guardStream(srv, stream, next)
}

func (s *Server) recovered(method string, err *error) {
	if p := recover(); p != nil {
		s.log.Error("a call panicked", "method", method, "panic", p, "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "the control plane failed, its log says why")
	}
}
