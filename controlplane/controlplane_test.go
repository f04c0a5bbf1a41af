package controlplane

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	istio "istio.io/api/security/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/kuma-dp/kuma-dp/bootstrap"
	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/controlplane/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testConfig listens on free ports and keeps everything in dir.
func testConfig(dir string) Config {
	c := DefaultConfig()
	c.General.WorkDir = dir
	c.APIServer.HTTP.Interface, c.APIServer.HTTPS.Interface = "127.0.0.1", "127.0.0.1"
	c.APIServer.HTTP.Port, c.APIServer.HTTPS.Port, c.DPServer.Port, c.Diagnostics.ServerPort = 0, 0, 0, 0
	return c
}

// running is a control plane of a test.
type running struct {
	t    *testing.T
	dir  string
	cp   *ControlPlane
	stop func()
	http *http.Client
}

func start(t *testing.T, cfg Config) *running {
	t.Helper()
	cp, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- cp.Run(ctx) }()
	tr := &http.Transport{}
	r := &running{t: t, dir: cfg.General.WorkDir, cp: cp, http: &http.Client{Transport: tr}}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		tr.CloseIdleConnections()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(r.stop)
	select {
	case <-cp.Ready():
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	return r
}

// call sends a request to the API, which takes us for the administrator, and returns the body of an answer below 300.
func (r *running) call(method, path, body string) []byte {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, "http://"+r.cp.Addresses().HTTP.String()+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		r.t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, out, err)
	}
	return out
}

func (r *running) get(path string, into any) {
	r.t.Helper()
	if err := json.Unmarshal(r.call("GET", path, ""), into); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) ca() []byte {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, certFile))
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

func (r *running) dial() *grpc.ClientConn {
	r.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(r.ca())
	_, port, err := net.SplitHostPort(r.cp.Addresses().DPServer.String())
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots})))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (r *running) dataplaneToken(name string) string {
	r.t.Helper()
	return string(r.call("POST", "/tokens/dataplane", fmt.Sprintf(`{"mesh":"default","name":%q}`, name)))
}

const strictMesh = `{"type":"Mesh","name":"default","meshServices":{"mode":"Exclusive"},
 "mtls":{"enabledBackend":"ca-1","backends":[{"name":"ca-1","type":"builtin"}]}}`

func dataplaneJSON(name, service, address string) string {
	return fmt.Sprintf(`{"type":"Dataplane","mesh":"default","name":%q,"networking":{"address":%q,
 "inbound":[{"port":8080,"servicePort":8081,"tags":{"kuma.io/service":%q,"kuma.io/protocol":"http"}}],
 "transparentProxying":{"redirectPortInbound":15006,"redirectPortOutbound":15001}}}`, name, address, service)
}

// agent bootstraps a proxy and returns the node that its Envoy would introduce itself with.
func (r *running) agent(name, service, address, token string, features ...string) *corev3.Node {
	r.t.Helper()
	_, port, err := net.SplitHostPort(r.cp.Addresses().DPServer.String())
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := bootstrap.Fetch(r.t.Context(), bootstrap.Config{URL: "https://127.0.0.1:" + port, CACert: r.ca(), MaxDuration: time.Second}, bootstrap.Request{
		Mesh: "default", Name: name, DataplaneToken: token, DataplaneResource: dataplaneJSON(name, service, address),
		Features: append([]string{"feature-tcp-accesslog-via-named-pipe"}, features...), Workdir: "/tmp/w-" + name, ReadinessPort: 9902, IPv6Enabled: true,
		Version: bootstrap.Version{KumaDP: bootstrap.KumaDPVersion{Version: "2.9.13"}, Envoy: bootstrap.EnvoyVersion{Version: "1.34.13"}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	var doc struct {
		Node json.RawMessage `json:"node"`
	}
	if err := yaml.Unmarshal(resp.Bootstrap, &doc); err != nil {
		r.t.Fatal(err)
	}
	if !strings.Contains(string(resp.Bootstrap), "portValue: "+port) {
		r.t.Errorf("the bootstrap does not lead to port %s", port)
	}
	node := &corev3.Node{}
	if err := protojson.Unmarshal(doc.Node, node); err != nil {
		r.t.Fatal(err)
	}
	return node
}

func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", token)
}

// sotw is a 2.9 agent's Envoy: state of the world, one ordered stream.
type sotw struct {
	t      *testing.T
	stream discovery.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	node   *corev3.Node
}

// ask subscribes and returns the resources of the first answer of that type, by name, once ok accepts them.
func (s *sotw) ask(typeURL string, names []string, ok func(map[string][]byte) bool) map[string][]byte {
	s.t.Helper()
	req := &discovery.DiscoveryRequest{TypeUrl: typeURL, ResourceNames: names, Node: s.node}
	for {
		if err := s.stream.Send(req); err != nil {
			s.t.Fatal(err)
		}
		s.node = nil
		resp, err := s.stream.Recv()
		if err != nil {
			s.t.Fatal(err)
		}
		req = &discovery.DiscoveryRequest{TypeUrl: resp.TypeUrl, VersionInfo: resp.VersionInfo, ResponseNonce: resp.Nonce, ResourceNames: names}
		if resp.TypeUrl != typeURL {
			req.ResourceNames = nil
			continue
		}
		got := map[string][]byte{}
		for _, a := range resp.Resources {
			got[nameOf(s.t, a.Value)] = a.Value
		}
		if ok(got) {
			if err := s.stream.Send(req); err != nil {
				s.t.Fatal(err)
			}
			return got
		}
	}
}

// nameOf reads field 1, which is the name in every xDS message.
func nameOf(t *testing.T, b []byte) string {
	t.Helper()
	if len(b) < 2 || b[0] != 0x0a || int(b[1])+2 > len(b) || b[1] >= 0x80 {
		t.Fatalf("a resource without a name: %x", b[:min(len(b), 20)])
	}
	return string(b[2 : 2+b[1]])
}

func has(names ...string) func(map[string][]byte) bool {
	return func(got map[string][]byte) bool {
		for _, n := range names {
			if got[n] == nil {
				return false
			}
		}
		return true
	}
}

func TestAMeshFromNothing(t *testing.T) {
	r := start(t, testConfig(t.TempDir()))
	r.call("PUT", "/meshes/default", strictMesh)
	webToken, dbToken := r.dataplaneToken("web-1"), r.dataplaneToken("db-1")
	conn := r.dial()

	// An agent of ours: delta, with its own key.
	web := r.agent("web-1", "web", "127.0.0.1", webToken, xds.FeatureIdentityCSR)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	delta, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(withToken(ctx, webToken))
	if err != nil {
		t.Fatal(err)
	}
	for i, req := range []*discovery.DeltaDiscoveryRequest{
		{TypeUrl: xds.TypeCluster},
		{TypeUrl: xds.TypeListener},
		{TypeUrl: xds.TypeSecret, ResourceNamesSubscribe: []string{"mesh_ca:secret:default", "identity_cert:secret:default"}},
	} {
		if i == 0 {
			req.Node = web
		}
		if err := delta.Send(req); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string][]byte{}
	receive := func(enough func(map[string][]byte) bool) {
		t.Helper()
		for !enough(seen) {
			resp, err := delta.Recv()
			if err != nil {
				t.Fatal(err)
			}
			for _, res := range resp.Resources {
				if res.Resource != nil { // an empty one says that there is none
					seen[res.Name] = res.Resource.Value
				}
			}
			if err := delta.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: resp.TypeUrl, ResponseNonce: resp.Nonce}); err != nil {
				t.Fatal(err)
			}
		}
	}
	receive(has("localhost:8081", "inbound:127.0.0.1:8080", "mesh_ca:secret:default"))
	if seen["identity_cert:secret:default"] != nil {
		t.Error("an agent with its own key is sent one")
	}
	bundle := trusted(t, seen["mesh_ca:secret:default"])
	sign(t, conn, webToken, "default.web-1", bundle, "spiffe://default/web")

	// A kuma-dp of 2.9: state of the world, secrets over ADS.
	db := r.agent("db-1", "db", "127.0.0.2", dbToken)
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(withToken(ctx, dbToken))
	if err != nil {
		t.Fatal(err)
	}
	old := &sotw{t: t, stream: stream, node: db}
	old.ask(xds.TypeCluster, nil, has("localhost:8081"))
	secrets := old.ask(xds.TypeSecret, []string{"identity_cert:secret:default", "mesh_ca:secret:default"}, has("identity_cert:secret:default", "mesh_ca:secret:default"))
	old.ask(xds.TypeListener, nil, has("inbound:127.0.0.2:8080"))
	if !bytes.Equal(trusted(t, secrets["mesh_ca:secret:default"]), bundle) {
		t.Error("the two trust different authorities")
	}
	identity := &tlsv3.Secret{}
	if err := unmarshal(secrets["identity_cert:secret:default"], identity); err != nil {
		t.Fatal(err)
	}
	dbKey, err := certs.ParseKey(identity.GetTlsCertificate().GetPrivateKey().GetInlineBytes())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := certs.Verify(identity.GetTlsCertificate().GetCertificateChain().GetInlineBytes(), bundle, dbKey, time.Now())
	if err != nil || leaf.URIs[0].String() != "spiffe://default/db" {
		t.Errorf("identity of db: %v %v", leaf, err)
	}

	// The Dataplanes imply services, which get an address; the agent of ours hears of it without asking.
	receive(func(got map[string][]byte) bool {
		n := 0
		for name := range got {
			if strings.HasPrefix(name, "outbound:241.") {
				n++
			}
		}
		return n == 2
	})

	var insight struct {
		MTLS struct {
			IssuedBackend string `json:"issuedBackend"`
		} `json:"mTLS"`
		Subscriptions []any `json:"subscriptions"`
	}
	for _, name := range []string{"web-1", "db-1"} {
		r.get("/meshes/default/dataplane-insights/"+name, &insight)
		if insight.MTLS.IssuedBackend != "ca-1" || len(insight.Subscriptions) == 0 {
			t.Errorf("insight of %s: %+v", name, insight)
		}
	}
	if err := errors.Join(delta.CloseSend(), stream.CloseSend()); err != nil {
		t.Error(err)
	}

	// A restart keeps everything.
	var before, after struct {
		ClusterID string `json:"clusterId"`
	}
	r.get("/", &before)
	cert := r.ca()
	_ = conn.Close()
	r.stop()
	again := start(t, testConfig(r.dir))
	again.get("/", &after)
	if before.ClusterID == "" || before.ClusterID != after.ClusterID {
		t.Errorf("cluster id %q became %q", before.ClusterID, after.ClusterID)
	}
	if !bytes.Equal(cert, again.ca()) {
		t.Error("the server certificate changed")
	}
	conn = again.dial()
	web = again.agent("web-1", "web", "127.0.0.1", webToken, xds.FeatureIdentityCSR)
	stream, err = discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(withToken(ctx, webToken))
	if err != nil {
		t.Fatal(err)
	}
	back := &sotw{t: t, stream: stream, node: web}
	back.ask(xds.TypeCluster, nil, has("localhost:8081"))
	secrets = back.ask(xds.TypeSecret, []string{"mesh_ca:secret:default"}, has("mesh_ca:secret:default"))
	if !bytes.Equal(trusted(t, secrets["mesh_ca:secret:default"]), bundle) {
		t.Error("the mesh has another authority")
	}
	sign(t, conn, webToken, "default.web-1", bundle, "spiffe://default/web")
}

func unmarshal(b []byte, into *tlsv3.Secret) error {
	return proto.Unmarshal(b, into)
}

// trusted returns the authorities of a validation context.
func trusted(t *testing.T, secret []byte) []byte {
	t.Helper()
	s := &tlsv3.Secret{}
	if err := unmarshal(secret, s); err != nil {
		t.Fatal(err)
	}
	out := s.GetValidationContext().GetTrustedCa().GetInlineBytes()
	if len(out) == 0 {
		t.Fatalf("no authority in %v", s)
	}
	return out
}

// sign has a new key certified and checks the chain.
func sign(t *testing.T, conn *grpc.ClientConn, token, node string, bundle []byte, want string) {
	t.Helper()
	key, err := certs.NewKey(certs.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := certs.NewCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(withToken(t.Context(), token), "kuma-node-id", node)
	resp, err := istio.NewIstioCertificateServiceClient(conn).CreateCertificate(ctx, &istio.IstioCertificateRequest{Csr: string(csr)})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := certs.Verify([]byte(strings.Join(resp.CertChain, "")), bundle, key, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if leaf.URIs[0].String() != want {
		t.Errorf("names %v, want %s first", leaf.URIs, want)
	}
}

func TestStrangersGetNothing(t *testing.T) {
	r := start(t, testConfig(t.TempDir()))
	r.call("PUT", "/meshes/default/dataplanes/web-1", dataplaneJSON("web-1", "web", "127.0.0.1"))
	conn := r.dial()
	web := r.dataplaneToken("web-1")
	for _, tt := range []struct {
		name, token, node, want string
	}{
		{"no token", "", "default.web-1", "authentication failed"},
		{"junk", "junk", "default.web-1", "authentication failed"},
		{"another's name", web, "default.db-1", "proxy name from requestor: db-1 is different than in token: web-1"},
		{"another mesh", web, "other.web-1", "proxy mesh from requestor: other is different than in token: default"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(withToken(t.Context(), tt.token))
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Send(&discovery.DiscoveryRequest{TypeUrl: xds.TypeCluster, Node: &corev3.Node{Id: tt.node}}); err != nil {
				t.Fatal(err)
			}
			if resp, err := stream.Recv(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v %v, want %q", resp, err, tt.want)
			}
		})
	}
}

func TestTheFirstStartMakesTheDefaults(t *testing.T) {
	r := start(t, testConfig(t.TempDir()))
	for _, path := range []string{
		"/meshes/default", "/zones/default", "/hostnamegenerators/local-universal-mesh-service", "/hostnamegenerators/local-mesh-external-service",
		"/meshes/default/meshtimeouts/mesh-timeout-all-default", "/meshes/default/meshtimeouts/mesh-gateways-timeout-all-default",
		"/meshes/default/meshretries/mesh-retry-all-default", "/meshes/default/meshcircuitbreakers/mesh-circuit-breaker-all-default",
		"/meshes/default/secrets/dataplane-token-signing-key-default-1", "/global-secrets/user-token-signing-key-1",
		"/global-secrets/zone-token-signing-key-1", "/global-secrets/admin-user-token",
	} {
		r.call("GET", path, "")
	}
	r.call("PUT", "/meshes/second", `{"type":"Mesh","name":"second","skipCreatingInitialPolicies":["*"],"mtls":{"enabledBackend":"ca-1","backends":[{"name":"ca-1","type":"builtin"}]}}`)
	for _, path := range []string{"/meshes/second/secrets/second.ca-builtin-cert-ca-1", "/meshes/second/secrets/second.ca-builtin-key-ca-1", "/meshes/second/secrets/dataplane-token-signing-key-second-1"} {
		r.call("GET", path, "")
	}
	// The administrator's token opens the API from anywhere.
	var secret struct{ Data []byte }
	r.get("/global-secrets/admin-user-token", &secret)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.cp.Addresses().HTTP.String()+"/who-am-i", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "cp.example" // not local
	req.Header.Set("Authorization", "Bearer "+string(secret.Data))
	resp, err := r.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), `"mesh-system:admin"`) {
		t.Errorf("got %s %v", body, err)
	}
	for path, mode := range map[string]os.FileMode{"": 0o700, certFile: 0o644, keyFile: 0o600, storeFile: 0o600} {
		info, err := os.Stat(filepath.Join(r.dir, path))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%q: %v %v, want %v", path, info.Mode(), err, mode)
		}
	}
}

func TestAnAuthorityThatCannotSignIsRefused(t *testing.T) {
	r := start(t, testConfig(t.TempDir()))
	body := `{"type":"Mesh","name":"default","mtls":{"enabledBackend":"p","backends":[{"name":"p","type":"provided","conf":{"cert":{"secret":"none"},"key":{"secret":"none"}}}]}}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+r.cp.Addresses().HTTP.String()+"/meshes/default", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), "mtls.backends[0].conf") {
		t.Errorf("got %d %s %v", resp.StatusCode, text, err)
	}
}

func TestDiagnostics(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Store.Type = StoreMemory
	r := start(t, cfg)
	for path, want := range map[string]struct {
		status int
		part   string
	}{"/ready": {200, ""}, "/healthy": {200, ""}, "/metrics": {200, "kuma_cp_connected_proxies 0"}, "/debug/pprof/": {404, ""}} {
		resp, err := r.http.Get("http://" + r.cp.Addresses().Diagnostics.String() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != want.status || !strings.Contains(string(body), want.part) {
			t.Errorf("%s: %d %v", path, resp.StatusCode, err)
		}
	}
	if _, err := os.Stat(filepath.Join(r.dir, storeFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a store in memory leaves a file: %v", err)
	}
}

func TestStartFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	port := taken.Addr().(*net.TCPAddr).Port
	busy := start(t, testConfig(t.TempDir()))
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"port in use", func(c *Config) { c.APIServer.HTTP.Port = uint32(port) }, []string{fmt.Sprint(port), "in use"}},
		{"data-plane port in use", func(c *Config) { c.DPServer.Port = uint32(busy.cp.Addresses().DPServer.(*net.TCPAddr).Port) }, []string{"data planes", "in use"}},
		{"store in use", func(c *Config) { c.Store.Bolt.Path = filepath.Join(busy.dir, storeFile) }, []string{"open store"}},
		{"certificate without its key", func(c *Config) {
			if err := os.WriteFile(filepath.Join(c.General.WorkDir, certFile), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"has no key"}},
		{"no such certificate", func(c *Config) { c.DPServer.TLSCertFile, c.DPServer.TLSKeyFile = "/nonexistent/a", "/nonexistent/b" }, []string{"/nonexistent/a"}},
		{"host not in certificate", func(c *Config) { c.BootstrapServer.Params.XDSHost = "foo.example" }, []string{"foo.example"}},
		{"no such corefile", func(c *Config) { c.BootstrapServer.Params.CorefileTemplatePath = "/nonexistent/c" }, []string{"/nonexistent/c"}},
		{"work directory is a file", func(c *Config) { c.General.WorkDir = "/dev/null" }, []string{"work directory"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig(t.TempDir())
			tt.change(&cfg)
			cp, err := New(cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			err = cp.Run(t.Context())
			if !errors.Is(err, ErrStart) {
				t.Fatalf("got %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
		})
	}
}
