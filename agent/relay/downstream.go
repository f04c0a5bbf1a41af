package relay

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// envoyStream is Envoy's present ADS stream.
type envoyStream struct {
	out  *queue[*deltaResponse]
	over chan struct{} // closed when a newer stream has taken its place
	seen map[string]bool
}

// The aggregated discovery service, and its methods in the two protocols.
const (
	adsService  = "envoy.service.discovery.v3.AggregatedDiscoveryService"
	deltaMethod = "DeltaAggregatedResources"
	stateMethod = "StreamAggregatedResources"
)

func (r *Relay) serve(ctx context.Context, listener net.Listener) error {
	server := grpc.NewServer(
		grpc.ForceServerCodecV2(frameCodec{}),
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.UnknownServiceHandler(r.pass))
	server.RegisterService(&grpc.ServiceDesc{ServiceName: adsService, HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
		StreamName: deltaMethod, ServerStreams: true, ClientStreams: true,
		Handler: func(_ any, stream grpc.ServerStream) error { return r.ads(stream) },
	}}}, r)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { server.Stop(); close(stopped) })
	err := server.Serve(listener)
	if stop() { // Serve failed on its own
		server.Stop()
		return err
	}
	<-stopped
	return nil
}

// ads serves Envoy's delta stream. One stream is served at a time; a newer one ends the older.
func (r *Relay) ads(stream grpc.ServerStream) error {
	e := &envoyStream{out: newQueue[*deltaResponse](), over: make(chan struct{}), seen: map[string]bool{}}
	r.mu.Lock()
	if r.envoy != nil {
		close(r.envoy.over)
	}
	r.envoy = e
	for _, s := range r.subs {
		s.newStream()
	}
	r.warmed()
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		if r.envoy == e {
			r.envoy = nil
		}
		r.mu.Unlock()
	}()

	received := make(chan error, 1)
	stop := make(chan struct{})
	go func() { // ends with the stream's context, which ends when this handler returns
		for {
			request := &deltaRequest{}
			err := stream.RecvMsg(request)
			if err == nil {
				err = r.fromEnvoy(e, request)
			}
			if err != nil {
				received <- err
				return
			}
		}
	}()
	sent := make(chan error, 1)
	done := make(chan struct{})
	defer func() { close(stop); <-done }()
	go func() {
		defer close(done)
		sent <- e.out.drain(stop, func(a *deltaResponse) error { return stream.SendMsg(a) })
	}()
	select {
	case err := <-received:
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	case err := <-sent:
		return err
	case <-e.over:
		return status.Error(codes.Aborted, "a newer stream of this proxy is being served")
	}
}

// fromEnvoy takes one request of Envoy.
func (r *Relay) fromEnvoy(e *envoyStream, q *deltaRequest) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.envoy != e {
		return status.Error(codes.Aborted, "a newer stream of this proxy is being served")
	}
	if q.typeURL == "" {
		return status.Error(codes.InvalidArgument, "the request has no type_url")
	}
	if q.node != nil {
		id, err := resourceName(q.node) // field 1, as well
		if err != nil || r.node != nil && id != r.nodeID {
			return status.Errorf(codes.InvalidArgument, "this relay serves node %q, not %q", r.nodeID, id)
		}
		if r.node == nil && id != "" {
			r.node, r.nodeID = q.node, id
			close(r.nodeKnown)
		}
	}
	if r.node == nil {
		return status.Error(codes.InvalidArgument, "the first request has no node id")
	}
	s := r.sub(q.typeURL)
	first := !e.seen[s.typeURL]
	e.seen[s.typeURL] = true
	changed := s.request(q, first)
	var answered *delivery
	if s.inflight != nil && q.nonce == s.inflight.nonce {
		if detail := q.detail; detail != nil {
			r.log.Warn("envoy refused configuration", "type", s.typeURL, "reason", detail.GetMessage())
		}
		answered = s.inflight
		if owed := s.settle(q.detail); len(owed) > 0 {
			r.settleUpstream(s, owed)
		}
	}
	if slices.Contains(q.subscribe, r.cfg.IdentitySecret) && s.typeURL == secretType && r.cfg.IdentityWanted != nil {
		r.cfg.IdentityWanted()
	}
	if changed {
		r.ask(s)
	}
	r.flush(s)
	r.noteWarm(s, q, answered)
	return nil
}

// request takes the subscription of one request of Envoy and says whether it changed what Envoy wants.
func (s *subscription) request(q *deltaRequest, first bool) (changed bool) {
	if first {
		maps.Copy(s.given, q.initial)
		// Clusters and listeners without names are the older spelling of "*".
		s.wildcard = len(q.subscribe) == 0 && wholeState(s.typeURL)
		changed = true
	}
	for _, name := range q.subscribe {
		changed = true
		if name == "*" {
			s.wildcard = true
			continue
		}
		s.names[name] = struct{}{}
		if !first || s.given[name] == absent {
			delete(s.given, name) // who asks again by name must be answered
		}
	}
	for _, name := range q.unsubscribe {
		changed = true
		if name == "*" {
			s.wildcard = false
			continue
		}
		delete(s.names, name)
		delete(s.given, name)
		delete(s.missing, name)
		if !s.wildcard {
			delete(s.have, name)
		}
	}
	return changed
}
