package xds

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync/atomic"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/resource"
)

// stream is one ADS stream of either protocol. Everything but notify, refused and secured belongs to the goroutine of serve.
type stream struct {
	id      topology.ProxyID
	nodeID  string
	wake    chan struct{} // holds one token while a new snapshot waits
	control *corev3.ControlPlane
	log     *slog.Logger
	sub     Subscription
	nonce   uint64
	refused refusals
	// permit is Node.Permit, and permitted the Dataplane that it was asked about last.
	permit    func(*resource.Dataplane) error
	permitted *resource.Resource
	// secured are the newest secrets of which the peer has acknowledged all that it asked for.
	secured atomic.Pointer[set]
	// own notes that the proxy has an identity from elsewhere; nil for one of ours.
	own func()
}

func (st *stream) notify() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

func (st *stream) nextNonce() string {
	st.nonce++
	return strconv.FormatUint(st.nonce, 16)
}

// answered counts the answer to a response with the named resources, with whole all of the type. A refused version is not
// sent again: only new content is (contract agent.md §5 leaves it to us how to back off).
func (st *stream) answered(typeURL string, names []string, whole bool, detail *status.Status) {
	if detail == nil {
		st.refused.settle(typeURL, names, whole, "")
		st.sub.Acknowledged(typeURL)
		return
	}
	reason := fmt.Sprintf("%.2000s", cmp.Or(detail.GetMessage(), "no reason given"))
	st.refused.settle(typeURL, names, whole, reason)
	st.log.Warn("proxy refused its configuration", "mesh", st.id.Mesh, "proxy", st.id.Name, "type", typeURL, "detail", reason)
	st.sub.Rejected(typeURL)
}

// request is what the two protocols' requests have in common.
type request interface {
	GetNode() *corev3.Node
	GetTypeUrl() string
}

// protocol is what they differ in.
type protocol[R request] interface {
	// fresh tells whether the first request for a type says that the peer has nothing of it.
	fresh(r R) bool
	// request takes a request in.
	request(r R)
	// push sends what the peer does not have of snap yet.
	push(snap *Snapshot) error
}

// serve runs a stream until it ends, is refused, or the Server stops.
func serve[R request](ctx context.Context, s *Server, recv func() (R, error), open func(*stream) protocol[R]) error {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return grpcstatus.Error(codes.Unavailable, "control plane is stopping")
	}
	s.streams.Add(2)
	s.mu.Unlock()
	defer s.streams.Done()
	requests, failed, done := make(chan R), make(chan error, 1), make(chan struct{})
	defer close(done)
	// Recv returns when this function has, which is how this goroutine ends.
	go func() {
		defer s.streams.Done()
		for {
			r, err := recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case requests <- r:
			case <-done:
				return
			}
		}
	}()
	st := &stream{
		wake: make(chan struct{}, 1), control: &corev3.ControlPlane{Identifier: s.cfg.InstanceID}, log: s.log, sub: nobody{},
	}
	proto := open(st)
	var p *proxy
	defer func() {
		if p != nil {
			s.leave(st, p)
		}
		st.sub.End(s.stopping())
	}()
	for {
		select {
		case <-s.stop:
			return grpcstatus.Error(codes.Unavailable, "control plane is stopping")
		case <-ctx.Done():
			return grpcstatus.FromContextError(ctx.Err()).Err()
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case r := <-requests:
			if p == nil {
				var err error
				if p, err = s.open(ctx, st, r.GetNode(), proto.fresh(r)); err != nil {
					return err
				}
			} else if id := r.GetNode().GetId(); id != "" && id != st.nodeID {
				return grpcstatus.Errorf(codes.Unknown, "stream was authenticated for ID %s. Received request is for node with ID %s. "+
					"Node ID cannot be changed after stream is initialized", st.nodeID, id)
			}
			proto.request(r)
		case <-st.wake:
		}
		if snap := p.snap.Load(); snap != nil {
			if err := st.allowed(snap); err != nil {
				s.log.Warn("ended the stream of a proxy whose Dataplane has become another's", "mesh", st.id.Mesh, "proxy", st.id.Name, "error", err)
				return unauthenticated(err)
			}
			if err := proto.push(snap); err != nil {
				return err
			}
		}
	}
}

// open authenticates and registers the proxy of a stream's first request.
func (s *Server) open(ctx context.Context, st *stream, node *corev3.Node, fresh bool) (*proxy, error) {
	id, err := parseNodeID(node.GetId())
	if err != nil {
		return nil, grpcstatus.Error(codes.InvalidArgument, err.Error())
	}
	meta, err := ParseMeta(node)
	if err != nil {
		return nil, grpcstatus.Error(codes.InvalidArgument, err.Error())
	}
	n := s.newNode(id, meta)
	n.Fresh = fresh
	token, err := credential(ctx)
	if err == nil && s.cfg.Authenticate != nil {
		err = s.cfg.Authenticate(ctx, token, n)
	}
	if err != nil {
		s.log.Info("refused a proxy", "mesh", id.Mesh, "proxy", id.Name, "error", err)
		return nil, unauthenticated(err)
	}
	if err := s.otherType(id, meta.ProxyType); err != nil {
		return nil, grpcstatus.Error(codes.AlreadyExists, err.Error())
	}
	if s.cfg.Lifecycle != nil {
		sub, err := s.cfg.Lifecycle.Register(ctx, n)
		if err != nil {
			s.log.Info("could not register a proxy", "mesh", id.Mesh, "proxy", id.Name, "error", err)
			if errors.Is(err, ErrNotPermitted) {
				return nil, unauthenticated(err)
			}
			return nil, grpcstatus.Error(codes.Unknown, err.Error())
		}
		st.sub = sub
	}
	st.id, st.nodeID, st.permit = id, node.GetId(), n.Permit
	if s.cfg.OwnIdentity != nil && meta.Has(FeatureIdentityOwn) {
		st.own = func() { s.cfg.OwnIdentity(ctx, id) }
	}
	meta.Resource = "" // registered; not kept for every proxy
	return s.join(st, meta), nil
}

// unauthenticated is what a stranger hears. The text is that of 2.9, which says Unknown.
func unauthenticated(err error) error {
	return grpcstatus.Errorf(codes.Unauthenticated, "authentication failed: %v", err)
}

func (s *Server) stopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

// credential returns the token of a stream; none is an empty one.
func credential(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	switch values := md.Get("authorization"); len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	default:
		return "", fmt.Errorf(`request must have exactly 1 "authorization" header, got %d`, len(values))
	}
}

// nobody is the Subscription of a stream without a Registrar.
type nobody struct{}

func (nobody) Requested(string, bool) {}
func (nobody) Sent(string)            {}
func (nobody) Acknowledged(string)    {}
func (nobody) Rejected(string)        {}
func (nobody) End(bool)               {}
