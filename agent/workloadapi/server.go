package workloadapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kuma-dp/kuma-dp/agent/socket"
)

// Bounds of what a peer may take. Requests are empty.
const (
	maxRequest = 4 << 10
	maxHeaders = 8 << 10
	maxStreams = 16          // of a connection
	patience   = time.Second // for the first bytes, which also bounds how long one that sends none holds up the end
	idle       = 10 * time.Minute
)

// Config says what a Server needs.
type Config struct {
	// Path of the unix socket.
	Path string
	// UIDs are the users that are served. With any but our own the socket can be connected to by all, and only they are answered.
	UIDs []uint32
	// Wanted is called when somebody asks and there is no identity yet; it must not block. May be nil.
	Wanted func()
	// Log is told who is refused; nil is silent.
	Log *slog.Logger
}

// Server serves X.509 identities to applications of this host. Its methods may be called concurrently.
type Server struct {
	cfg      Config
	log      *slog.Logger
	listener net.Listener
	peers    *peers

	mu     sync.Mutex
	answer *answer // nil before the first
	why    string  // there is none
	change chan struct{}
	told   map[uint32]struct{} // who was refused and logged
}

// answer is what is served at a time, as it crosses the wire.
type answer struct{ svids, bundles raw }

// raw is an encoded message.
type raw []byte

func (r raw) encode() []byte { return r }
func (r raw) decode([]byte) error {
	return errors.New("not a request")
}

// New binds the socket. It refuses what somebody else has put in its place.
func New(cfg Config) (*Server, error) {
	if cfg.Path == "" || len(cfg.UIDs) == 0 {
		return nil, errors.New("make workload API: a path and a user are needed")
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	listen := socket.Listen
	if slices.ContainsFunc(cfg.UIDs, func(uid uint32) bool { return int64(uid) != int64(os.Geteuid()) }) {
		listen = socket.ListenShared
	}
	l, err := listen(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("make workload API: %w", err)
	}
	return &Server{cfg: cfg, log: log, listener: l, peers: newPeers(cfg.UIDs), change: make(chan struct{}), told: map[uint32]struct{}{}}, nil
}

// Close gives up the socket of a Server that is not to run.
func (s *Server) Close() error { return s.listener.Close() }

// Set serves these identities from now on, also on streams that are open.
func (s *Server) Set(r *X509Response) {
	bundles := BundlesResponse{CRL: r.CRL, Bundles: map[string][]byte{}}
	for domain, b := range r.Federated {
		bundles.Bundles[domain] = b
	}
	for _, v := range r.SVIDs {
		bundles.Bundles[domainOf(v.ID)] = v.Bundle
	}
	next := &answer{r.encode(), bundles.encode()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answer != nil && slices.Equal(s.answer.svids, next.svids) && slices.Equal(s.answer.bundles, next.bundles) {
		return
	}
	s.answer = next
	s.changed()
}

// Withdraw serves no identity any more, or still none, and tells who asks why.
func (s *Server) Withdraw(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answer != nil || s.why != why {
		s.answer, s.why = nil, why
		s.changed()
	}
}

// changed wakes all streams. The caller holds the lock.
func (s *Server) changed() {
	close(s.change)
	s.change = make(chan struct{})
}

// domainOf is the trust domain's own ID.
func domainOf(id string) string {
	rest, _ := strings.CutPrefix(id, "spiffe://")
	domain, _, _ := strings.Cut(rest, "/")
	return "spiffe://" + domain
}

// Run serves until ctx ends; then it ends all streams and removes the socket.
func (s *Server) Run(ctx context.Context) error {
	server := grpc.NewServer(
		grpc.Creds(s.peers), grpc.ForceServerCodecV2(codec{}),
		grpc.MaxRecvMsgSize(maxRequest), grpc.MaxHeaderListSize(maxHeaders), grpc.MaxConcurrentStreams(maxStreams), grpc.ConnectionTimeout(patience),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idle}),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error { //nolint:contextcheck // a stream has its own
			if err := s.admit(stream.Context()); err != nil {
				return err
			}
			name, _ := grpc.MethodFromServerStream(stream)
			return status.Errorf(codes.Unimplemented, "%s is not served: kuma-dp has X.509 identities only (FetchX509SVID, FetchX509Bundles)", name)
		}))
	server.RegisterService(&grpc.ServiceDesc{ServiceName: service, HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
		{StreamName: "FetchX509SVID", ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error { //nolint:contextcheck // a stream has its own
			return s.follow(stream, func(a *answer) raw { return a.svids })
		}},
		{StreamName: "FetchX509Bundles", ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error { //nolint:contextcheck // a stream has its own
			return s.follow(stream, func(a *answer) raw { return a.bundles })
		}},
	}}, s)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { server.Stop(); close(stopped) })
	err := server.Serve(s.listener)
	if stop() { // Serve failed on its own
		server.Stop()
		return fmt.Errorf("serve workload API on %s: %w", s.cfg.Path, err)
	}
	<-stopped
	return nil
}

// follow sends the present answer and then each other one.
func (s *Server) follow(stream grpc.ServerStream, pick func(*answer) raw) error {
	ctx := stream.Context()
	if err := s.admit(ctx); err != nil {
		return err
	}
	if err := stream.RecvMsg(&empty{}); err != nil {
		return err
	}
	var sent raw
	for asked := false; ; {
		s.mu.Lock()
		answer, why, change := s.answer, s.why, s.change
		s.mu.Unlock()
		switch {
		case answer != nil:
			if next := pick(answer); sent == nil || !slices.Equal(sent, next) {
				if err := stream.SendMsg(next); err != nil {
					return err
				}
				sent = next
			}
		default:
			if !asked && s.cfg.Wanted != nil {
				s.cfg.Wanted()
			}
			asked = true
			if why != "" {
				return status.Error(codes.PermissionDenied, "no identity issued: "+why)
			}
		}
		select {
		case <-change:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// admit checks the header and who calls.
func (s *Server) admit(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if got := md.Get(header); len(got) != 1 || got[0] != headerValue {
		return status.Errorf(codes.InvalidArgument, "every call needs the header %s: %s once, got %d", header, headerValue, len(got))
	}
	who, ok := callerOf(ctx)
	if ok && slices.Contains(s.cfg.UIDs, who.uid) {
		return nil
	}
	s.refused(who)
	return status.Errorf(codes.PermissionDenied, "user %d gets no identities here: whoever runs kuma-dp can allow it with --workload-api-uids", who.uid)
}

// maxTold bounds who is remembered.
const maxTold = 100

// refused logs a user once.
func (s *Server) refused(who caller) {
	s.mu.Lock()
	_, known := s.told[who.uid]
	if !known && len(s.told) < maxTold {
		s.told[who.uid] = struct{}{}
	}
	s.mu.Unlock()
	if !known {
		s.log.Warn("refused to give an identity to a process of another user", "uid", who.uid, "pid", who.pid, "socket", s.cfg.Path)
	}
}
