package relay_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const patience = 10 * time.Second

// peer is a control plane over a real connection. It speaks one of the protocols, records all it gets, and answers with
// what set gave it; a state-of-the-world one is silent about subscriptions that match nothing, as a real 2.9 one is.
type peer struct {
	t      *testing.T
	state  bool // state of the world only
	addr   string
	server *grpc.Server
	done   chan struct{}
	net    *droppable

	mu      sync.Mutex
	world   map[string]map[string]*anypb.Any
	version int
	streams map[*peerStream]struct{}
	opened  int
	tokens  []string
	got     []request
	change  chan struct{} // closed and renewed at every change
	deny    error
}

// request is what a peer was asked, in either protocol.
type request struct {
	node, typeURL, nonce, version, nack string
	names, unsubscribe                  []string
	initial                             map[string]string
}

type peerStream struct {
	send  func(typeURL, nonce string, resources map[string]*anypb.Any, removed []string) error
	names map[string][]string // by type; nil entry = all
	sent  map[string]map[string]*anypb.Any
	n     int
}

func newPeer(t *testing.T, state bool) *peer {
	t.Helper()
	p := &peer{t: t, state: state, world: map[string]map[string]*anypb.Any{}, change: make(chan struct{}), addr: "127.0.0.1:0"}
	p.start()
	t.Cleanup(p.stop)
	return p
}

func (p *peer) start() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.addr = l.Addr().String()
	p.mu.Lock()
	p.streams = map[*peerStream]struct{}{}
	p.mu.Unlock()
	p.server = grpc.NewServer()
	p.done = make(chan struct{})
	if p.state {
		discovery.RegisterAggregatedDiscoveryServiceServer(p.server, stateOnly{peer: p})
	} else {
		discovery.RegisterAggregatedDiscoveryServiceServer(p.server, deltaOnly{peer: p})
	}
	p.server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "envoy.service.health.v3.HealthDiscoveryService", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{{StreamName: "StreamHealthCheck", ServerStreams: true, ClientStreams: true, Handler: echoHealth}},
	}, p)
	p.net = &droppable{Listener: l, open: map[net.Conn]struct{}{}}
	server, done, n := p.server, p.done, p.net
	go func() { defer close(done); _ = server.Serve(n) }()
}

// echoHealth answers health checks with what it got.
func echoHealth(_ any, s grpc.ServerStream) error {
	for {
		var in wrapperspb.StringValue
		if err := s.RecvMsg(&in); err != nil {
			return err
		}
		if err := s.SendMsg(&in); err != nil {
			return err
		}
	}
}

// droppable is a listener whose connections can be cut.
type droppable struct {
	net.Listener
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

func (d *droppable) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err == nil {
		d.mu.Lock()
		d.open[c] = struct{}{}
		d.mu.Unlock()
	}
	return c, err
}

// drop cuts all connections.
func (d *droppable) drop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.open {
		_ = c.Close() // the server may have closed it already
		delete(d.open, c)
	}
}

func (p *peer) stop() {
	p.server.Stop()
	<-p.done
}

// set replaces a type's resources and tells all streams.
func (p *peer) set(typeURL string, resources map[string]*anypb.Any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.world[typeURL] = resources
	p.version++
	for s := range p.streams {
		if _, ok := s.names[typeURL]; ok {
			p.answer(s, typeURL)
		}
	}
}

func (p *peer) answer(s *peerStream, typeURL string) {
	wanted, _ := s.names[typeURL]
	match := map[string]*anypb.Any{}
	for name, r := range p.world[typeURL] {
		if wanted == nil || slices.Contains(wanted, name) {
			match[name] = r
		}
	}
	var removed []string
	before := s.sent[typeURL]
	if !p.state {
		for name := range before {
			if _, ok := match[name]; !ok {
				removed = append(removed, name)
			}
		}
	}
	if len(match) == 0 && len(removed) == 0 && len(before) == 0 {
		return // silent
	}
	s.n++
	s.sent[typeURL] = match
	_ = s.send(typeURL, fmt.Sprintf("%d", s.n), match, removed)
}

func (p *peer) open(ctx context.Context, send func(string, string, map[string]*anypb.Any, []string) error) (*peerStream, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	md, _ := metadata.FromIncomingContext(ctx)
	p.opened++
	p.tokens = append(p.tokens, fmt.Sprint(md.Get("authorization")))
	p.changed()
	if p.deny != nil {
		return nil, p.deny
	}
	s := &peerStream{send: send, names: map[string][]string{}, sent: map[string]map[string]*anypb.Any{}}
	p.streams[s] = struct{}{}
	return s, nil
}

func (p *peer) close(s *peerStream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.streams, s)
}

func (p *peer) changed() {
	close(p.change)
	p.change = make(chan struct{})
}

// await waits until ok accepts what the peer has seen.
func (p *peer) await(what string, ok func(got []request, opened int) bool) {
	p.t.Helper()
	late := time.After(patience)
	for {
		p.mu.Lock()
		change, good, got := p.change, ok(p.got, p.opened), p.got
		p.mu.Unlock()
		if good {
			return
		}
		select {
		case <-change:
		case <-late:
			p.t.Fatalf("control plane never saw %s; it got %+v", what, got)
		}
	}
}

// awaitRequest waits for one request that ok accepts and returns it.
func (p *peer) awaitRequest(what string, ok func(q request) bool) (found request) {
	p.t.Helper()
	p.await(what, func(got []request, _ int) bool {
		i := slices.IndexFunc(got, ok)
		if i >= 0 {
			found = got[i]
		}
		return i >= 0
	})
	return found
}

func (p *peer) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got, p.tokens = nil, nil
}

type stateOnly struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	peer *peer
}

func (o stateOnly) StreamAggregatedResources(stream discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	p := o.peer
	s, err := p.open(stream.Context(), func(typeURL, nonce string, resources map[string]*anypb.Any, _ []string) error {
		a := &discovery.DiscoveryResponse{TypeUrl: typeURL, Nonce: nonce, VersionInfo: fmt.Sprintf("v%d", p.version)}
		for _, r := range resources {
			a.Resources = append(a.Resources, r)
		}
		return stream.Send(a)
	})
	if err != nil {
		return err
	}
	defer p.close(s)
	for {
		q, err := stream.Recv()
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.got = append(p.got, request{
			node: q.GetNode().GetId(), typeURL: q.GetTypeUrl(), nonce: q.GetResponseNonce(), version: q.GetVersionInfo(),
			nack: q.GetErrorDetail().GetMessage(), names: q.GetResourceNames(),
		})
		p.changed()
		before, known := s.names[q.GetTypeUrl()]
		s.names[q.GetTypeUrl()] = q.GetResourceNames()
		if !known || !slices.Equal(before, q.GetResourceNames()) {
			p.answer(s, q.GetTypeUrl())
		}
		p.mu.Unlock()
	}
}

type deltaOnly struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	peer *peer
}

func (o deltaOnly) DeltaAggregatedResources(stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	p := o.peer
	s, err := p.open(stream.Context(), func(typeURL, nonce string, resources map[string]*anypb.Any, removed []string) error {
		a := &discovery.DeltaDiscoveryResponse{TypeUrl: typeURL, Nonce: nonce, SystemVersionInfo: fmt.Sprintf("v%d", p.version), RemovedResources: removed}
		for name, r := range resources {
			a.Resources = append(a.Resources, &discovery.Resource{Name: name, Version: fmt.Sprintf("up-%x", r.GetValue()), Resource: r})
		}
		return stream.Send(a)
	})
	if err != nil {
		return err
	}
	defer p.close(s)
	for {
		q, err := stream.Recv()
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.got = append(p.got, request{
			node: q.GetNode().GetId(), typeURL: q.GetTypeUrl(), nonce: q.GetResponseNonce(), nack: q.GetErrorDetail().GetMessage(),
			names: q.GetResourceNamesSubscribe(), unsubscribe: q.GetResourceNamesUnsubscribe(), initial: q.GetInitialResourceVersions(),
		})
		p.changed()
		before, known := s.names[q.GetTypeUrl()]
		if !known && len(q.GetResourceNamesSubscribe()) == 0 {
			s.names[q.GetTypeUrl()] = nil
		} else if before != nil || !known {
			now := slices.Concat(before, q.GetResourceNamesSubscribe())
			s.names[q.GetTypeUrl()] = slices.DeleteFunc(now, func(n string) bool { return slices.Contains(q.GetResourceNamesUnsubscribe(), n) })
		}
		if !known || len(q.GetResourceNamesSubscribe()) > 0 {
			p.answer(s, q.GetTypeUrl())
		}
		p.mu.Unlock()
	}
}

var errDenied = status.Error(codes.Unknown, "authentication failed: token is expired")
