package xds

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// rig is a real store, topology, lifecycle and server with a gRPC connection to it.
type rig struct {
	t     testing.TB
	store store.Store
	reg   *resource.Registry
	srv   *Server
	life  *Lifecycle
	conn  *grpc.ClientConn
	log   *safeBuffer
	// stop ends everything in order; it may be called early and again.
	stop func()
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

const meshYAML = `
type: Mesh
name: default
meshServices: {mode: Exclusive}
mtls: {enabledBackend: ca-1, backends: [{name: ca-1, type: builtin}]}
`

const backendYAML = `
type: MeshService
mesh: default
name: backend
labels: {kuma.io/origin: zone, kuma.io/display-name: backend}
spec:
  selector: {dataplaneTags: {kuma.io/service: backend}}
  ports: [{name: web, port: 80, targetPort: 8080, appProtocol: http}]
  identities: [{type: ServiceTag, value: backend}]
status:
  vips: [{ip: 241.0.0.1}]
  tls: {status: Ready}
`

func newRig(t testing.TB, change ...func(*Config, *LifecycleConfig)) *rig {
	t.Helper()
	r := &rig{t: t, reg: resource.NewRegistry(all.Descriptors()...), log: &safeBuffer{}}
	r.store = memory.Open(r.reg)
	log := slog.New(slog.NewTextHandler(r.log, nil))
	tracker := topology.New(topology.Config{Store: r.store, Zone: "zone-1"})
	cfg := Config{
		Topology: tracker, Zone: "zone-1", Kinds: all.Kinds(), Effects: all.Effects(), Registry: r.reg, InstanceID: "cp-1", Log: log,
		TrustBundle: func(string) ([]byte, error) { return []byte("CA"), nil },
		Identity: func(context.Context, topology.ProxyID, *resource.Dataplane) ([]byte, []byte, time.Time, error) {
			return []byte("CERT"), []byte("KEY"), time.Now().Add(time.Hour), nil
		},
	}
	lc := LifecycleConfig{
		Store: r.store, Zone: resource.ZoneInfo{Zone: "zone-1"}, InstanceID: "cp-1", Version: "2.9.13", Flush: time.Millisecond, Log: log,
	}
	for _, c := range change {
		c(&cfg, &lc)
	}
	r.life = NewLifecycle(lc)
	cfg.Lifecycle = r.life
	r.srv = New(cfg)
	r.srv.firstRetry = time.Millisecond
	r.put(meshYAML, backendYAML)

	listener := bufconn.Listen(1 << 16)
	grpcServer := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(grpcServer, r.srv)
	var members []func()
	start := func(run func(context.Context) error) {
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := run(ctx); err != nil && !errors.Is(err, store.ErrClosed) {
				t.Errorf("run: %v", err)
			}
		})
		members = append(members, func() { cancel(); wg.Wait() })
	}
	start(tracker.Run)
	<-tracker.Ready()
	start(r.life.Run)
	start(r.srv.Run)
	var serving sync.WaitGroup
	serving.Go(func() { _ = grpcServer.Serve(listener) })
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	r.conn = conn
	r.stop = sync.OnceFunc(func() {
		for _, m := range slices.Backward(members) {
			m()
		}
		_ = conn.Close()
		grpcServer.Stop()
		serving.Wait()
	})
	t.Cleanup(func() { r.stop(); _ = r.store.Close() })
	return r
}

func (r *rig) put(documents ...string) {
	r.t.Helper()
	var ops []store.Op
	for _, d := range documents {
		res, err := r.reg.DecodeYAML([]byte(d))
		if err != nil {
			r.t.Fatal(err)
		}
		ops = append(ops, store.Op{Action: store.Upsert, Resource: res})
	}
	if _, err := r.store.Commit(context.Background(), ops...); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) delete(kind resource.Kind, name string) {
	r.t.Helper()
	key := resource.Key{Kind: kind, Mesh: "default", Name: name}
	_, err := r.store.Commit(context.Background(), store.Op{Action: store.Delete, Resource: &resource.Resource{Meta: resource.Meta{Key: key}}})
	if err != nil {
		r.t.Fatal(err)
	}
}

// backend registers a server of the service on an address.
func (r *rig) backend(name, address string) {
	r.t.Helper()
	r.put(`
type: Dataplane
mesh: default
name: ` + name + `
networking:
  address: ` + address + `
  inbound: [{port: 8080, tags: {kuma.io/service: backend, kuma.io/protocol: http}}]
`)
}

func timeout(name, connect string) string {
	return `
type: MeshTimeout
mesh: default
name: ` + name + `
spec: {to: [{targetRef: {kind: Mesh}, default: {connectionTimeout: ` + connect + `}}]}
`
}

// await waits for a state of the store.
func (r *rig) await(what string, ok func() bool) {
	r.t.Helper()
	_, w := r.store.Watch()
	defer w.Close()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	for !ok() {
		// What streams have acknowledged is no event of the store, and may be noted after the last one.
		next, look := context.WithTimeout(ctx, 20*time.Millisecond)
		_, err := w.Next(next)
		look()
		if err != nil && ctx.Err() != nil {
			r.t.Fatalf("waiting for %s: %v", what, err)
		}
	}
}

// awaitDataplane waits until the topology knows a Dataplane.
func (r *rig) awaitDataplane(name string) {
	r.t.Helper()
	changed := make(chan struct{}, 1)
	defer r.srv.cfg.Topology.Subscribe(func(topology.Change) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})()
	for {
		if m := r.srv.cfg.Topology.Current().Meshes["default"]; m != nil && m.Dataplane(name) != nil {
			return
		}
		select {
		case <-changed:
		case <-r.ctx().Done():
			r.t.Fatalf("the topology does not know %s", name)
		}
	}
}

func (r *rig) insight(name string) *resource.DataplaneInsight {
	res, err := r.store.Get(resource.Key{Kind: resource.KindDataplaneInsight, Mesh: "default", Name: name})
	if err != nil {
		return &resource.DataplaneInsight{}
	}
	return resource.SpecOf[*resource.DataplaneInsight](res)
}

const clientJSON = `{"type":"Dataplane","mesh":"default","name":"client-1",` +
	`"creationTime":"0001-01-01T00:00:00Z","modificationTime":"0001-01-01T00:00:00Z","networking":{"address":"10.0.0.9",` +
	`"inbound":[{"port":9080,"tags":{"kuma.io/service":"client","kuma.io/protocol":"http"}}],` +
	`"transparentProxying":{"redirectPortInbound":15006,"redirectPortOutbound":15001}}}`

// node is a proxy with a Dataplane that it brings along, and features.
func node(name string, features ...string) *corev3.Node {
	values := make([]any, len(features))
	for i, f := range features {
		values[i] = f
	}
	meta, err := structpb.NewStruct(map[string]any{
		"dataplane.resource": strings.ReplaceAll(clientJSON, "client-1", name), "features": values,
		"version": map[string]any{"kumaDp": map[string]any{"version": "2.9.1"}},
	})
	if err != nil {
		panic(err)
	}
	return &corev3.Node{Id: "default." + name, Metadata: meta}
}

// peer is a client of one stream in either protocol.
type peer interface {
	// subscribe asks for names; none means everything.
	subscribe(typeURL string, names ...string)
	// next returns the next response.
	next() answer
	ack(a answer)
	nack(a answer)
}

type answer struct {
	typ, version, nonce string
	resources           map[string]*Resource
	removed             []string
}

func (a answer) names() []string {
	var out []string
	for n := range a.resources {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func (r *rig) ctx(token ...string) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	r.t.Cleanup(cancel)
	var pairs []string
	for _, t := range token {
		pairs = append(pairs, "authorization", t)
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

type sotwPeer struct {
	t      testing.TB
	node   *corev3.Node
	stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	names  map[string][]string
	// versions and nonces are the last ones accepted and received.
	versions, nonces map[string]string
}

func (r *rig) sotw(ctx context.Context, n *corev3.Node, versions map[string]string) *sotwPeer {
	r.t.Helper()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(r.conn).StreamAggregatedResources(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	if versions == nil {
		versions = map[string]string{}
	}
	return &sotwPeer{t: r.t, node: n, stream: s, names: map[string][]string{}, versions: versions, nonces: map[string]string{}}
}

func (p *sotwPeer) send(typeURL string, detail *status.Status) {
	p.t.Helper()
	err := p.stream.Send(&discoveryv3.DiscoveryRequest{
		Node: p.node, TypeUrl: typeURL, ResourceNames: p.names[typeURL], VersionInfo: p.versions[typeURL],
		ResponseNonce: p.nonces[typeURL], ErrorDetail: detail,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.node = nil // only the first request carries it
}

func (p *sotwPeer) subscribe(typeURL string, names ...string) {
	p.t.Helper()
	p.names[typeURL] = names
	p.send(typeURL, nil)
}

func (p *sotwPeer) next() answer {
	p.t.Helper()
	r, err := p.stream.Recv()
	if err != nil {
		p.t.Fatal(err)
	}
	a := answer{typ: r.TypeUrl, version: r.VersionInfo, nonce: r.Nonce, resources: map[string]*Resource{}}
	for _, res := range r.Resources {
		name := nameOf(p.t, res.Value)
		a.resources[name] = &Resource{Name: name, Any: res}
	}
	return a
}

func (p *sotwPeer) ack(a answer) {
	p.versions[a.typ], p.nonces[a.typ] = a.version, a.nonce
	p.send(a.typ, nil)
}

func (p *sotwPeer) nack(a answer) {
	p.nonces[a.typ] = a.nonce
	p.send(a.typ, &status.Status{Code: 3, Message: "cannot use this"})
}

type deltaPeer struct {
	t      testing.TB
	node   *corev3.Node
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	// known is what the peer has, by type and name: the initial versions of its next stream.
	known map[string]map[string]string
}

func (r *rig) delta(ctx context.Context, n *corev3.Node, known map[string]map[string]string) *deltaPeer {
	r.t.Helper()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(r.conn).DeltaAggregatedResources(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	if known == nil {
		known = map[string]map[string]string{}
	}
	return &deltaPeer{t: r.t, node: n, stream: s, known: known}
}

func (p *deltaPeer) send(r *discoveryv3.DeltaDiscoveryRequest) {
	p.t.Helper()
	r.Node, p.node = p.node, nil
	if err := p.stream.Send(r); err != nil {
		p.t.Fatal(err)
	}
}

func (p *deltaPeer) subscribe(typeURL string, names ...string) {
	p.t.Helper()
	p.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: typeURL, ResourceNamesSubscribe: names, InitialResourceVersions: p.known[typeURL],
	})
}

func (p *deltaPeer) unsubscribe(typeURL string, names ...string) {
	p.t.Helper()
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesUnsubscribe: names})
}

func (p *deltaPeer) next() answer {
	p.t.Helper()
	r, err := p.stream.Recv()
	if err != nil {
		p.t.Fatal(err)
	}
	a := answer{typ: r.TypeUrl, version: r.SystemVersionInfo, nonce: r.Nonce, removed: r.RemovedResources, resources: map[string]*Resource{}}
	for _, res := range r.Resources {
		a.resources[res.Name] = &Resource{Name: res.Name, Version: res.Version, Any: res.Resource}
	}
	return a
}

func (p *deltaPeer) ack(a answer) {
	if p.known[a.typ] == nil {
		p.known[a.typ] = map[string]string{}
	}
	for n, r := range a.resources {
		p.known[a.typ][n] = r.Version
	}
	for _, n := range a.removed {
		delete(p.known[a.typ], n)
	}
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: a.typ, ResponseNonce: a.nonce})
}

func (p *deltaPeer) nack(a answer) {
	p.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: a.typ, ResponseNonce: a.nonce, ErrorDetail: &status.Status{Code: 3, Message: "cannot use this"},
	})
}

// nameOf reads field 1 of an xDS message.
func nameOf(t testing.TB, b []byte) string {
	t.Helper()
	if len(b) < 2 || b[0] != 0x0a {
		t.Fatalf("resource does not begin with its name: %x", b[:min(len(b), 8)])
	}
	return string(b[2 : 2+int(b[1])])
}
