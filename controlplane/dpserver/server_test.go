package dpserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	health "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	istio "istio.io/api/security/v1alpha1"

	"github.com/kuma-dp/kuma-dp/bootstrap"
	"github.com/kuma-dp/kuma-dp/bootstrap/generate"
	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/controlplane/identity"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ads answers every stream with a panic, to see that it ends only that stream.
type ads struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
}

func (ads) StreamAggregatedResources(discovery.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	panic("ouch")
}

type fixture struct {
	t      *testing.T
	store  store.Store
	issuer *token.Issuer
	addr   string
	ca     []byte
	roots  *x509.CertPool
}

func start(t *testing.T) *fixture {
	t.Helper()
	registry := resource.NewRegistry(resource.Core()...)
	f := &fixture{t: t, store: memory.Open(registry)}
	f.put(&resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMesh, Name: "default"}}, Spec: &resource.Mesh{}})
	if err := token.EnsureDataplaneKey(t.Context(), f.store, "default"); err != nil {
		t.Fatal(err)
	}
	if err := token.EnsureZoneKey(t.Context(), f.store); err != nil {
		t.Fatal(err)
	}
	tokens, err := token.NewValidator(f.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.issuer = token.NewIssuer(f.store, nil)
	certPEM, keyPEM, err := certs.ServerPair([]string{"127.0.0.1", "localhost"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	f.ca, f.roots = certPEM, x509.NewCertPool()
	f.roots.AppendCertsFromPEM(certPEM)
	ids := identity.New(identity.Config{Store: f.store})
	hds := NewHDS(HDSConfig{Store: f.store, Await: ids.AwaitDataplane, Tokens: tokens, AdminPort: 9901, Checks: CheckDefaults{
		Report: 5 * time.Second, Timeout: 2 * time.Second, Interval: time.Second, NoTrafficInterval: time.Second, HealthyThreshold: 1, UnhealthyThreshold: 1,
	}})
	s, err := New(Config{
		Address: "127.0.0.1:0", TLS: &tls.Config{Certificates: []tls.Certificate{pair}}, ADS: ads{}, HDS: hds, Certificates: identity.NewService(ids, tokens),
		Store: f.store, Registry: registry, Tokens: tokens, ZoneTokens: tokens, Zone: resource.ZoneInfo{Zone: "default"}, ReadHeaderTimeout: 200 * time.Millisecond,
		Bootstrap: generate.Config{XDSPort: 5678, ConnectTimeout: time.Second, AdminAddress: "127.0.0.1", AdminPort: 9901, HDS: true, ServerCert: certPEM},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.addr = s.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 3)
	for _, run := range []func(context.Context) error{s.Run, hds.Run, ids.Run} {
		go func() { done <- run(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if err := f.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) put(r *resource.Resource) {
	f.t.Helper()
	if _, err := f.store.Commit(f.t.Context(), store.Op{Action: store.Upsert, Resource: r}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) token(d token.Dataplane) string {
	f.t.Helper()
	d.Mesh = "default"
	raw, err := f.issuer.Dataplane(d, time.Hour)
	if err != nil {
		f.t.Fatal(err)
	}
	return raw
}

func webDataplane() *resource.Resource {
	return &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: resource.KindDataplane, Mesh: "default", Name: "web-1"}},
		Spec: &resource.Dataplane{Networking: &resource.Networking{
			Address: "10.0.0.1", Admin: &resource.Admin{Port: 9999},
			Inbound: []*resource.Inbound{{Port: 80, ServicePort: 8080, Tags: map[string]string{"kuma.io/service": "web"}, ServiceProbe: &resource.ServiceProbe{TCP: &struct{}{}}}},
		}},
	}
}

func (f *fixture) client() *http.Client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: f.roots}, ForceAttemptHTTP2: true}
	f.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func (f *fixture) dial() *grpc.ClientConn {
	f.t.Helper()
	c, err := grpc.NewClient(f.addr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: f.roots})))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close() })
	return c
}

const dataplaneYAML = `type: Dataplane
mesh: default
name: web-1
networking:
  address: 10.0.0.1
  inbound: [{port: 80, tags: {kuma.io/service: web}}]
`

func TestBootstrap(t *testing.T) {
	f := start(t)
	cfg := bootstrap.Config{URL: "https://" + f.addr, CACert: f.ca, Backoff: time.Millisecond, MaxDuration: 20 * time.Millisecond}
	req := bootstrap.Request{Mesh: "default", Name: "web-1", DataplaneToken: f.token(token.Dataplane{Name: "web-1"})}
	if _, err := bootstrap.Fetch(t.Context(), cfg, req); !errors.Is(err, bootstrap.ErrNotFound) {
		t.Fatalf("before it is registered: %v", err)
	}
	f.put(webDataplane())
	resp, err := bootstrap.Fetch(t.Context(), cfg, req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Sidecar.Networking.Address != "10.0.0.1" || resp.Sidecar.Networking.IsUsingTransparentProxy {
		t.Errorf("got %+v", resp.Sidecar)
	}
	for _, want := range []string{"id: default.web-1", "cluster: web", "portValue: 9999", "hdsConfig:"} {
		if !strings.Contains(string(resp.Bootstrap), want) {
			t.Errorf("no %q in\n%s", want, resp.Bootstrap)
		}
	}
	req.DataplaneResource = strings.Replace(dataplaneYAML, "  inbound", "  transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}\n  inbound", 1)
	resp, err = bootstrap.Fetch(t.Context(), cfg, req)
	if err != nil {
		t.Fatal(err)
	}
	if !resp.Sidecar.Networking.IsUsingTransparentProxy || !strings.Contains(string(resp.Bootstrap), `dataplane.resource: '{"mesh":"default"`) {
		t.Errorf("with a resource: %+v\n%s", resp.Sidecar, resp.Bootstrap)
	}
}

func TestBootstrapBodies(t *testing.T) {
	f := start(t)
	f.put(webDataplane())
	name := f.token(token.Dataplane{Name: "web-1"})
	any := f.token(token.Dataplane{})
	tagged := f.token(token.Dataplane{Tags: map[string][]string{"kuma.io/service": {"db"}}})
	request := func(change func(*bootstrap.Request)) string {
		r := bootstrap.Request{Mesh: "default", Name: "web-1", DataplaneToken: name}
		change(&r)
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	none := func(*bootstrap.Request) {}
	for _, tt := range []struct {
		name   string
		method string
		path   string
		body   string
		change func(*http.Request)
		status int
		want   string // the whole body, unless it ends with "…"
	}{
		{"get", "GET", "/bootstrap", "", nil, 400, ""},
		{"not json", "POST", "/bootstrap", "junk", nil, 400, ""},
		{"too long", "POST", "/bootstrap", `{"name":"` + strings.Repeat("x", maxBody) + `"}`, nil, 400, ""},
		{"any method will do", "PUT", "/bootstrap", request(none), nil, 200, "admin:…"},
		{"no token", "POST", "/bootstrap", request(func(r *bootstrap.Request) { r.DataplaneToken = "" }), nil, 422, generate.ErrTokenRequired.Body},
		{"a path proves nothing", "POST", "/bootstrap", request(func(r *bootstrap.Request) { r.DataplaneToken, r.DataplaneTokenPath = "", "/t" }), nil, 422, generate.ErrTokenRequired.Body},
		{"junk token", "POST", "/bootstrap", request(func(r *bootstrap.Request) { r.DataplaneToken = "junk" }), nil, 401, "authentication failed: …"},
		{
			"another's name", "POST", "/bootstrap", request(func(r *bootstrap.Request) { r.Name = "db-1" }), nil, 401,
			"authentication failed: proxy name from requestor: db-1 is different than in token: web-1",
		},
		{
			"another's tags", "POST", "/bootstrap", request(func(r *bootstrap.Request) { r.DataplaneToken = tagged }), nil, 401,
			`authentication failed: dataplane contains tag "kuma.io/service"…`,
		},
		{"not registered", "POST", "/bootstrap", request(func(r *bootstrap.Request) { r.DataplaneToken, r.Name = any, "db-1" }), nil, 404, ""},
		{"no such mesh", "POST", "/bootstrap", request(func(r *bootstrap.Request) { r.Mesh = "nope" }), nil, 422, `mesh: mesh "nope" does not exist`},
		{"invalid resource", "POST", "/bootstrap", request(func(r *bootstrap.Request) {
			r.DataplaneResource = `{"type":"Dataplane","mesh":"default","name":"web-1","networking":{"inbound":[{"port":80}]}}`
		}), nil, 422, `networking.address: address can't be empty; networking.inbound[0].tags["kuma.io/service"]: tag has to exist`},
		{"outbounds and redirection", "POST", "/bootstrap", request(func(r *bootstrap.Request) {
			r.DataplaneResource = dataplaneYAML + "  transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}\n  outbound: [{port: 1, tags: {kuma.io/service: x}}]\n"
		}), nil, 422, `outbound: should be empty since dataplane is in Transparent Proxying mode`},
		{"the resource of another", "POST", "/bootstrap", request(func(r *bootstrap.Request) {
			r.DataplaneResource = strings.Replace(dataplaneYAML, "web-1", "db-1", 1)
		}), nil, 422, "name: …"},
		{"another kind", "POST", "/bootstrap", request(func(r *bootstrap.Request) { r.DataplaneResource = `{"type":"Mesh","name":"default"}` }), nil, 500, ""},
		{"a key twice", "POST", "/bootstrap", request(func(r *bootstrap.Request) {
			r.DataplaneResource = strings.Replace(dataplaneYAML, "name:", "name: other\nname:", 1)
		}), nil, 422, `dataplane resource: line 4: key "name" is given twice`},
		{"a key twice in JSON", "POST", "/bootstrap", request(func(r *bootstrap.Request) {
			r.DataplaneResource = `{"type":"Dataplane","mesh":"default","name":"a","name":"web-1","networking":{}}`
		}), nil, 422, `dataplane resource: line 1: key "name" is given twice`},
		{"deep", "POST", "/bootstrap", request(func(r *bootstrap.Request) {
			r.DataplaneResource = `{"type":"Dataplane","mesh":"default","name":"web-1","x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`
		}), nil, 422, "dataplane resource: decode resource: it is nested deeper than 100 levels"},
		{"unknown kind", "POST", "/bootstrap", request(func(r *bootstrap.Request) { r.DataplaneResource = `{"type":"Nonsense","name":"x"}` }), nil, 500, ""},
		{"unknown proxy type", "POST", "/bootstrap", request(func(r *bootstrap.Request) { r.ProxyType = "gateway" }), nil, 500, ""},
		{"zone proxy", "POST", "/bootstrap", request(func(r *bootstrap.Request) { r.ProxyType, r.DataplaneToken = "ingress", "" }), nil, 422, errZoneTokenRequired.Body},
		{
			"host not in certificate", "POST", "/bootstrap", request(none), func(r *http.Request) { r.Host = "foo.example:5678" }, 400,
			`A data plane proxy is trying to connect to the control plane using "foo.example" address, but the certificate in the control plane has the following SANs ["127.0.0.1" "localhost"]. Either change …`,
		},
		{"garbage ca", "POST", "/bootstrap", request(func(r *bootstrap.Request) { r.CACert = "junk" }), nil, 500, ""},
		{"other path", "POST", "/other", "", nil, 404, "404 page not found\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, "https://"+f.addr+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if tt.change != nil {
				tt.change(req)
			}
			resp, err := f.client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			prefix, open := strings.CutSuffix(tt.want, "…")
			if resp.StatusCode != tt.status || !open && string(body) != tt.want || open && !strings.HasPrefix(string(body), prefix) {
				t.Fatalf("got %d %q, want %d %q", resp.StatusCode, body, tt.status, tt.want)
			}
		})
	}
}

func TestPlainHTTPIsToldSo(t *testing.T) {
	f := start(t)
	resp, err := http.Get("http://" + f.addr + "/bootstrap")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusBadRequest || string(body) != "Client sent an HTTP request to an HTTPS server.\n" {
		t.Fatalf("got %d %q %v", resp.StatusCode, body, err)
	}
}

func TestSilentConnectionsAreCut(t *testing.T) {
	f := start(t)
	for _, tt := range []struct {
		name string
		tls  *tls.Config
	}{{"before the handshake", nil}, {"after the handshake", &tls.Config{RootCAs: f.roots, ServerName: "localhost"}}} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := net.Dial("tcp", f.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if tt.tls != nil {
				c = tls.Client(c, tt.tls)
			}
			if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if tc, ok := c.(*tls.Conn); ok {
				if err := tc.Handshake(); err != nil {
					t.Fatal(err)
				}
			}
			_, err = c.Read(make([]byte, 1))
			if ne, ok := errors.AsType[net.Error](err); err == nil || ok && ne.Timeout() {
				t.Fatalf("still open: %v", err)
			}
		})
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	f := start(t)
	c, err := tls.Dial("tcp", f.addr, &tls.Config{RootCAs: f.roots, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err == nil {
		_ = c.Close()
		t.Fatal("TLS 1.1 is accepted")
	}
}

// Envoy's client may send no ALPN: the connection is then known by its first bytes.
func TestHTTPWithoutALPN(t *testing.T) {
	f := start(t)
	c, err := tls.Dial("tcp", f.addr, &tls.Config{RootCAs: f.roots})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, part := range []string{"P", "OST /other HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"} {
		if _, err := io.WriteString(c, part); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusNotFound {
		t.Fatalf("got %v %v", resp, err)
	}
	_ = resp.Body.Close()
	c2, err := tls.Dial("tcp", f.addr, &tls.Config{RootCAs: f.roots})
	if err != nil {
		t.Fatal(err)
	}
	defer c2.Close()
	// The preface, then an empty SETTINGS frame; gRPC answers with its own.
	if _, err := io.WriteString(c2, preface+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 9)
	if _, err := io.ReadFull(c2, head); err != nil || head[3] != 4 {
		t.Fatalf("got %v %v", head, err)
	}
}

func TestGRPC(t *testing.T) {
	f := start(t)
	conn := f.dial()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Internal || strings.Contains(err.Error(), "ouch") {
		t.Errorf("a panic: %v", err)
	}
	_, err = istio.NewIstioCertificateServiceClient(conn).CreateCertificate(t.Context(), &istio.IstioCertificateRequest{})
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("a certificate without a token: %v", err)
	}
	if err := conn.Invoke(t.Context(), "/no.such/Method", &istio.IstioCertificateRequest{}, &istio.IstioCertificateResponse{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("an unknown method: %v", err)
	}
}

func node(id string) *health.HealthCheckRequestOrEndpointHealthResponse {
	return &health.HealthCheckRequestOrEndpointHealthResponse{RequestType: &health.HealthCheckRequestOrEndpointHealthResponse_HealthCheckRequest{
		HealthCheckRequest: &health.HealthCheckRequest{Node: &core.Node{Id: id}},
	}}
}

func report(states map[string]core.HealthStatus) *health.HealthCheckRequestOrEndpointHealthResponse {
	r := &health.EndpointHealthResponse{}
	for name, s := range states {
		r.ClusterEndpointsHealth = append(r.ClusterEndpointsHealth, &health.ClusterEndpointsHealth{ClusterName: name, LocalityEndpointsHealth: []*health.LocalityEndpointsHealth{
			{EndpointsHealth: []*health.EndpointHealth{{HealthStatus: s}}},
		}})
	}
	return &health.HealthCheckRequestOrEndpointHealthResponse{RequestType: &health.HealthCheckRequestOrEndpointHealthResponse_EndpointHealthResponse{EndpointHealthResponse: r}}
}

func TestHDS(t *testing.T) {
	f := start(t)
	f.put(webDataplane())
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", f.token(token.Dataplane{Name: "web-1"}))
	stream, err := health.NewHealthDiscoveryServiceClient(f.dial()).StreamHealthCheck(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(node("default.web-1")); err != nil {
		t.Fatal(err)
	}
	spec, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.ValidateAll(); err != nil {
		t.Error(err)
	}
	if len(spec.ClusterHealthChecks) != 2 || spec.ClusterHealthChecks[0].ClusterName != "kuma:envoy:admin" || spec.ClusterHealthChecks[1].ClusterName != "localhost:8080" {
		t.Fatalf("got %v", spec)
	}
	if p := spec.ClusterHealthChecks[0].LocalityEndpoints[0].Endpoints[0].Address.GetSocketAddress().GetPortValue(); p != 9999 {
		t.Errorf("admin port %d", p)
	}
	_, w := f.store.Watch()
	defer w.Close()
	for _, tt := range []struct {
		name   string
		states map[string]core.HealthStatus
		want   string
	}{
		{"workload down", map[string]core.HealthStatus{"kuma:envoy:admin": core.HealthStatus_HEALTHY, "localhost:8080": core.HealthStatus_UNHEALTHY}, resource.InboundNotReady},
		{"both up", map[string]core.HealthStatus{"kuma:envoy:admin": core.HealthStatus_HEALTHY, "localhost:8080": core.HealthStatus_HEALTHY}, resource.InboundReady},
		{"envoy down", map[string]core.HealthStatus{"kuma:envoy:admin": core.HealthStatus_TIMEOUT, "localhost:8080": core.HealthStatus_HEALTHY}, resource.InboundNotReady},
	} {
		if err := stream.Send(report(tt.states)); err != nil {
			t.Fatal(err)
		}
		events, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := resource.SpecOf[*resource.Dataplane](events[0].New).Networking.Inbound[0]
		if got.State != tt.want || len(events) != 1 {
			t.Errorf("%s: state %q, want %q", tt.name, got.State, tt.want)
		}
	}
	more := webDataplane()
	resource.SpecOf[*resource.Dataplane](more).Networking.Inbound[0].ServicePort = 8081
	f.put(more)
	if spec, err = stream.Recv(); err != nil || spec.ClusterHealthChecks[1].ClusterName != "localhost:8081" {
		t.Fatalf("the Dataplane changed: %v %v", spec, err)
	}
}

func TestInboundWithoutProbeFollowsEnvoy(t *testing.T) {
	d := &resource.Dataplane{Networking: &resource.Networking{Address: "10.0.0.1", Inbound: []*resource.Inbound{
		{Port: 80, Tags: map[string]string{"kuma.io/service": "web"}},
		{Port: 81, Tags: map[string]string{"kuma.io/service": "off"}, State: resource.InboundIgnored},
	}}}
	for _, tt := range []struct {
		name    string
		healthy map[string]bool
		changed bool
		want    string
	}{
		{"nothing is known", map[string]bool{"localhost:80": false}, false, ""},
		{"envoy is up, as it was", map[string]bool{adminCluster: true}, false, ""},
		{"envoy drains", map[string]bool{adminCluster: false}, true, resource.InboundNotReady},
		{"envoy still drains", map[string]bool{adminCluster: false}, false, resource.InboundNotReady},
		{"envoy is back", map[string]bool{adminCluster: true}, true, resource.InboundReady},
	} {
		if changed := setStates(d, tt.healthy); changed != tt.changed {
			t.Errorf("%s: changed %v, want %v", tt.name, changed, tt.changed)
		}
		if got := d.Networking.Inbound; got[0].State != tt.want || got[1].State != resource.InboundIgnored {
			t.Errorf("%s: states %q and %q, want %q and what was ignored", tt.name, got[0].State, got[1].State, tt.want)
		}
	}
}

func TestHDSRefuses(t *testing.T) {
	f := start(t)
	f.put(webDataplane())
	web := f.token(token.Dataplane{Name: "web-1"})
	for _, tt := range []struct {
		name    string
		headers []string
		node    string
		code    codes.Code
	}{
		{"no token", nil, "default.web-1", codes.Unauthenticated},
		{"junk token", []string{"authorization", "junk"}, "default.web-1", codes.Unauthenticated},
		{"another's name", []string{"authorization", web}, "default.db-1", codes.Unauthenticated},
		{"no node", []string{"authorization", web}, "", codes.InvalidArgument},
	} {
		stream, err := health.NewHealthDiscoveryServiceClient(f.dial()).StreamHealthCheck(metadata.AppendToOutgoingContext(t.Context(), tt.headers...))
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(node(tt.node)); err != nil {
			t.Fatal(err)
		}
		if got, err := stream.Recv(); status.Code(err) != tt.code {
			t.Errorf("%s: got %v %v, want %v", tt.name, got, err, tt.code)
		}
	}
}

func FuzzBootstrapRequest(f *testing.F) {
	f.Add([]byte(`{"mesh":"default","name":"web-1","dataplaneResource":"{}"}`))
	f.Add([]byte(`{"mesh":"default","name":"web-1","dataplaneResource":"type: Dataplane\nnetworking: &a [*a]"}`))
	f.Add([]byte(`{"mesh":"default","name":"web-1","dataplaneResource":` + string(mustJSON(dataplaneYAML)) + `}`))
	registry := resource.NewRegistry(resource.Core()...)
	st := memory.Open(registry)
	f.Cleanup(func() { _ = st.Close() })
	if _, err := st.Commit(f.Context(), store.Op{Action: store.Create, Resource: &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMesh, Name: "default"}}, Spec: &resource.Mesh{},
	}}); err != nil {
		f.Fatal(err)
	}
	certPEM, _, err := certs.ServerPair([]string{"localhost"}, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	s, err := New(Config{
		TLS: &tls.Config{}, ADS: ads{}, Certificates: istio.UnimplementedIstioCertificateServiceServer{}, Store: st, Registry: registry,
		Bootstrap: generate.Config{ServerCert: certPEM},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.grpc.Stop)
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://localhost/bootstrap", strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		w := &recorder{header: http.Header{}}
		s.bootstrap(w, r)
	})
}

func mustJSON(v any) []byte {
	out, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return out
}

type recorder struct{ header http.Header }

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(b []byte) (int, error) { return len(b), nil }
func (r *recorder) WriteHeader(int)             {}
