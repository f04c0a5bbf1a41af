package relay_test

import (
	"context"
	"slices"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/agent/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	clusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	endpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	listenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	secretType   = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
)

// resource makes an xDS message with a name and something to tell versions apart.
func resource(typeURL, name, content string) *anypb.Any {
	b := field(1, []byte(name))
	return &anypb.Any{TypeUrl: typeURL, Value: append(b, field(1000, []byte(content))...)}
}

func field(n protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), content)
}

func named(typeURL, content string, names ...string) map[string]*anypb.Any {
	m := map[string]*anypb.Any{}
	for _, n := range names {
		m[n] = resource(typeURL, n, content)
	}
	return m
}

// envoy is a delta client that behaves as Envoy does.
type envoy struct {
	t      *testing.T
	stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	got    chan *discovery.DeltaDiscoveryResponse
	hold   map[string]map[string]string // type → name → version
	begun  bool
	close  func()
}

func connectEnvoy(t *testing.T, path string) *envoy {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	e := &envoy{t: t, stream: stream, got: make(chan *discovery.DeltaDiscoveryResponse, 100), hold: map[string]map[string]string{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(e.got)
		for {
			a, err := stream.Recv()
			if err != nil {
				return
			}
			e.got <- a
		}
	}()
	e.close = func() { cancel(); <-done; _ = conn.Close() }
	t.Cleanup(e.close)
	return e
}

func (e *envoy) send(q *discovery.DeltaDiscoveryRequest) {
	e.t.Helper()
	if !e.begun {
		q.Node, e.begun = &core.Node{Id: "default.demo", Cluster: "demo"}, true
	}
	if err := e.stream.Send(q); err != nil {
		e.t.Fatalf("send to relay: %v", err)
	}
}

func (e *envoy) subscribe(typeURL string, names ...string) {
	e.t.Helper()
	e.send(&discovery.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: names})
}

// next returns the next answer, without acknowledging it.
func (e *envoy) next() *discovery.DeltaDiscoveryResponse {
	e.t.Helper()
	select {
	case a, ok := <-e.got:
		if !ok {
			e.t.Fatal("the relay ended the stream")
		}
		return a
	case <-time.After(patience):
		e.t.Fatal("no answer from the relay")
	}
	return nil
}

func (e *envoy) reply(a *discovery.DeltaDiscoveryResponse, nack string) {
	e.t.Helper()
	q := &discovery.DeltaDiscoveryRequest{TypeUrl: a.GetTypeUrl(), ResponseNonce: a.GetNonce()}
	if nack != "" {
		q.ErrorDetail = &rpc.Status{Code: 13, Message: nack}
	}
	e.send(q)
}

// accept takes the next answer, which must be of the type, and acknowledges it.
func (e *envoy) accept(typeURL string) *discovery.DeltaDiscoveryResponse {
	e.t.Helper()
	a := e.next()
	if a.GetTypeUrl() != typeURL {
		e.t.Fatalf("answer is of type %s, want %s", a.GetTypeUrl(), typeURL)
	}
	e.reply(a, "")
	return a
}

func namesOf(a *discovery.DeltaDiscoveryResponse) []string {
	var names []string
	for _, r := range a.GetResources() {
		names = append(names, r.GetName())
	}
	slices.Sort(names)
	return names
}

// run starts a relay before p and returns it with its socket.
func run(t *testing.T, p *peer, change func(*relay.Config)) (*relay.Relay, string) {
	t.Helper()
	conn, err := relay.Connect(p.addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := relay.Config{
		SocketPath: t.TempDir() + "/x.sock", Upstream: conn,
		MinBackoff: 5 * time.Millisecond, MaxBackoff: 20 * time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	r, err := relay.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("relay ended with %v", err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return r, cfg.SocketPath
}
