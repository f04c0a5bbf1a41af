package dpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	health "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/controlplane/identity"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/resource"
)

// hdsRegistrationWait is how long a stream waits for its Dataplane (contract agent.md §4.9: 30 tries of a second).
const hdsRegistrationWait = 30 * time.Second

// HDSConfig is what NewHDS needs. The durations and counts are KUMA_DP_SERVER_HDS_*.
type HDSConfig struct {
	Store store.Store
	// Await waits for a Dataplane, as identity.Issuer does.
	Await func(ctx context.Context, mesh, name string) (*resource.Resource, error)
	// Tokens checks the token of a stream; nil asks for none.
	Tokens *token.Validator
	Checks CheckDefaults
	// AdminPort is the port of Envoy's admin interface where the Dataplane says none.
	AdminPort uint32
	// Log is silent when nil.
	Log *slog.Logger
}

// HDS asks Envoy to probe the workload beside it, and turns the answers into the state of the Dataplane's inbounds
// (contract agent.md §4.9).
type HDS struct {
	health.UnimplementedHealthDiscoveryServiceServer
	cfg HDSConfig
	log *slog.Logger

	mu      sync.Mutex
	streams map[resource.Key]map[chan struct{}]struct{}
}

// NewHDS makes the service. Run must be under way for streams to follow changes of their Dataplane.
func NewHDS(cfg HDSConfig) *HDS {
	h := &HDS{cfg: cfg, log: cfg.Log, streams: map[resource.Key]map[chan struct{}]struct{}{}}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	return h
}

// Run tells streams that their Dataplane changed, until ctx ends (nil) or the store is closed.
func (h *HDS) Run(ctx context.Context) error {
	_, w := h.cfg.Store.Watch()
	defer w.Close()
	for {
		events, err := w.Next(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("follow the store: %w", err)
		}
		h.mu.Lock()
		for _, ev := range events {
			if ev.New != nil && ev.New.Kind == resource.KindDataplane {
				for c := range h.streams[ev.New.Key] {
					select {
					case c <- struct{}{}:
					default: // it has yet to look at an earlier change, and will see this one too
					}
				}
			}
		}
		h.mu.Unlock()
	}
}

func (h *HDS) follow(key resource.Key) (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[key] == nil {
		h.streams[key] = map[chan struct{}]struct{}{}
	}
	h.streams[key][c] = struct{}{}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.streams[key], c)
		if len(h.streams[key]) == 0 {
			delete(h.streams, key)
		}
	}
}

// StreamHealthCheck serves one Envoy: the checks first and whenever they change, then what it reports.
func (h *HDS) StreamHealthCheck(stream health.HealthDiscoveryService_StreamHealthCheckServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	who, err := h.authenticate(stream.Context(), first.GetHealthCheckRequest().GetNode())
	if err != nil {
		return err
	}
	key := who.key
	changed, stop := h.follow(key)
	defer stop()
	var sent *health.HealthCheckSpecifier
	send := func() error {
		r, err := h.cfg.Store.Get(key)
		if err != nil {
			return status.Errorf(codes.NotFound, "%s is gone", key)
		}
		if err := who.permit(r); err != nil {
			return err
		}
		next := h.cfg.specifier(resource.SpecOf[*resource.Dataplane](r))
		if sent != nil && proto.Equal(sent, next) {
			return nil
		}
		sent = next
		return stream.Send(next)
	}
	if err := send(); err != nil {
		return err
	}
	reports, failed := h.receive(stream)
	for {
		select {
		case <-changed:
			if err := send(); err != nil {
				return err
			}
		case report := <-reports:
			err := h.apply(stream.Context(), who, report)
			if status.Code(err) == codes.Unauthenticated {
				return err
			}
			if err != nil {
				h.log.Warn("could not store the health of a workload", "mesh", key.Mesh, "proxy", key.Name, "error", err)
			}
		case err := <-failed:
			return err
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}

// receive reads the stream until it ends, which it does when the handler returns.
func (h *HDS) receive(stream health.HealthDiscoveryService_StreamHealthCheckServer) (<-chan *health.EndpointHealthResponse, <-chan error) {
	reports, failed := make(chan *health.EndpointHealthResponse), make(chan error, 1)
	go func() {
		for {
			msg, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			if report := msg.GetEndpointHealthResponse(); report != nil {
				select {
				case reports <- report:
				case <-stream.Context().Done():
				}
			}
		}
	}()
	return reports, failed
}

// caller is who opened a stream.
type caller struct {
	key resource.Key
	// claims are those of its token, nil when nobody is asked for one.
	claims *token.Claims
}

// permit refuses a Dataplane that the token is not for. It is asked each time that one is read: the Dataplane of a name may
// be replaced by somebody else's while a stream is open.
func (c *caller) permit(dp *resource.Resource) error {
	if c.claims == nil {
		return nil
	}
	tags := identity.Tags(resource.SpecOf[*resource.Dataplane](dp))
	if err := c.claims.Allow(token.Proxy{Name: c.key.Name, Mesh: c.key.Mesh, Tags: tags}); err != nil {
		return status.Errorf(codes.Unauthenticated, "authentication failed: %v", err)
	}
	return nil
}

// authenticate checks the token against the node's Dataplane.
func (h *HDS) authenticate(ctx context.Context, node *core.Node) (*caller, error) {
	mesh, name, ok := strings.Cut(node.GetId(), ".")
	if !ok || mesh == "" || name == "" {
		return nil, status.Errorf(codes.InvalidArgument, "node id %.100q is not <mesh>.<name>", node.GetId())
	}
	var claims *token.Claims
	if h.cfg.Tokens != nil {
		md, _ := metadata.FromIncomingContext(ctx)
		raw := md.Get("authorization")
		if len(raw) != 1 {
			return nil, status.Errorf(codes.Unauthenticated, `request must have exactly 1 "authorization" header, got %d`, len(raw))
		}
		var err error
		if claims, err = h.cfg.Tokens.Dataplane(raw[0]); err == nil {
			early := *claims
			early.Tags = nil
			err = early.Allow(token.Proxy{Name: name, Mesh: mesh})
		}
		if err != nil {
			return nil, status.Errorf(codes.Unauthenticated, "authentication failed: %v", err)
		}
	}
	wait, cancel := context.WithTimeout(ctx, hdsRegistrationWait)
	defer cancel()
	dp, err := h.cfg.Await(wait, mesh, name)
	if err != nil {
		if errors.Is(err, identity.ErrUnknownProxy) {
			return nil, status.Errorf(codes.NotFound, "%v", err)
		}
		return nil, status.Error(codes.Internal, "the control plane could not read the Dataplane")
	}
	who := &caller{key: dp.Key, claims: claims}
	return who, who.permit(dp)
}
