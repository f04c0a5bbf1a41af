package agent_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/bootstrap"
	"github.com/kuma-dp/kuma-dp/certs"
)

const (
	clusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	listenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
)

// controlPlane is a small control plane on one TLS port: bootstrap, delta ADS and certificates.
type controlPlane struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	t         *testing.T
	server    *httptest.Server
	ca        *certs.Authority
	admin     string
	world     map[string]map[string]*anypb.Any
	mtls      bool
	redirects bool // the Dataplane has a transparent proxy
	push      chan *discovery.DeltaDiscoveryResponse

	mu       sync.Mutex
	requests []bootstrap.Request
	tokens   []string
}

func newControlPlane(t *testing.T) *controlPlane {
	t.Helper()
	certPEM, keyPEM, err := certs.NewAuthority(certs.AuthorityConfig{Mesh: "default", Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	c := &controlPlane{t: t, admin: freePort(t), world: map[string]map[string]*anypb.Any{}, push: make(chan *discovery.DeltaDiscoveryResponse)}
	if c.ca, err = certs.LoadAuthority(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	rpc := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(rpc, c)
	rpc.RegisterService(&grpc.ServiceDesc{
		ServiceName: "istio.v1.auth.IstioCertificateService", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "CreateCertificate", Handler: c.certificate}},
	}, c)
	c.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.HasPrefix(q.Header.Get("content-type"), "application/grpc") {
			rpc.ServeHTTP(w, q)
			return
		}
		c.bootstrap(w, q)
	}))
	c.server.EnableHTTP2 = true
	c.server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	c.server.StartTLS()
	t.Cleanup(func() { rpc.Stop(); c.server.CloseClientConnections(); c.server.Close() })
	return c
}

// pem is the certificate by which the control plane is verified.
func (c *controlPlane) pem() string { return string(certs.EncodeCertificates(c.server.Certificate())) }

func (c *controlPlane) bootstrap(w http.ResponseWriter, q *http.Request) {
	var r bootstrap.Request
	if err := json.NewDecoder(q.Body).Decode(&r); err != nil {
		http.Error(w, "", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	c.requests = append(c.requests, r)
	c.mu.Unlock()
	adminHost, adminPort, _ := net.SplitHostPort(c.admin)
	host, port, _ := net.SplitHostPort(c.server.Listener.Addr().String())
	yaml := fmt.Sprintf(`
admin: {address: {socketAddress: {address: %s, portValue: %s}}}
node: {id: %s.%s, cluster: demo, metadata: {workdir: %s}}
dynamicResources:
  adsConfig:
    apiType: GRPC
    transportApiVersion: V3
    setNodeOnFirstMessageOnly: true
    grpcServices: [{envoyGrpc: {clusterName: ads_cluster}, initialMetadata: [{key: authorization, value: %q}]}]
  cdsConfig: {ads: {}, initialFetchTimeout: 0s, resourceApiVersion: V3}
  ldsConfig: {ads: {}, initialFetchTimeout: 0s, resourceApiVersion: V3}
staticResources:
  clusters:
  - name: ads_cluster
    type: STATIC
    loadAssignment: {clusterName: ads_cluster, endpoints: [{lbEndpoints: [{endpoint: {address: {socketAddress: {address: %s, portValue: %s}}}}]}]}
    transportSocket: {name: envoy.transport_sockets.tls, typedConfig: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, commonTlsContext: {}}}
`, adminHost, adminPort, r.Mesh, r.Name, r.Workdir, r.DataplaneToken, host, port)
	w.Header().Set("content-type", "application/json")
	fmt.Fprintf(w, `{"bootstrap":%q,"kumaSidecarConfiguration":{"networking":{"isUsingTransparentProxy":%v,"address":"127.0.0.1"},"metrics":{"aggregate":null}}}`,
		base64.StdEncoding.EncodeToString([]byte(yaml)), c.redirects)
}

// DeltaAggregatedResources answers the first request of each type with all there is of it, and sends what is pushed.
func (c *controlPlane) DeltaAggregatedResources(stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	c.mu.Lock()
	c.tokens = append(c.tokens, md.Get("authorization")...)
	c.mu.Unlock()
	var sending sync.Mutex
	send := func(a *discovery.DeltaDiscoveryResponse) error {
		sending.Lock()
		defer sending.Unlock()
		return stream.Send(a)
	}
	var pushing sync.WaitGroup
	defer pushing.Wait()
	pushing.Go(func() {
		for {
			select {
			case a := <-c.push:
				_ = send(a) // whoever waits for it sees that it did not come
			case <-stream.Context().Done():
				return
			}
		}
	})
	for {
		q, err := stream.Recv()
		if err != nil {
			return err
		}
		if q.GetResponseNonce() != "" {
			continue
		}
		a := &discovery.DeltaDiscoveryResponse{TypeUrl: q.GetTypeUrl(), Nonce: "n"}
		for name, r := range c.world[q.GetTypeUrl()] {
			a.Resources = append(a.Resources, &discovery.Resource{Name: name, Version: "1", Resource: r})
		}
		if err := send(a); err != nil {
			return err
		}
	}
}

func (c *controlPlane) certificate(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // grpc.MethodDesc wants this order
	var q wrapperspb.StringValue // of the same wire form
	if err := decode(&q); err != nil {
		return nil, err
	}
	if !c.mtls {
		return nil, status.Error(codes.FailedPrecondition, "mesh has no mTLS")
	}
	public, err := certs.ParseCSR([]byte(q.GetValue()))
	if err != nil {
		return nil, err
	}
	uris, err := certs.WorkloadURIs("default", map[string][]string{"kuma.io/service": {"demo"}})
	if err != nil {
		return nil, err
	}
	leaf, err := c.ca.Sign(certs.SignRequest{PublicKey: public, URIs: uris, Lifetime: time.Hour, Now: time.Now()})
	if err != nil {
		return nil, err
	}
	return wrapperspb.String(string(leaf.PEM) + string(c.ca.Bundle())), nil
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Hand-made Envoy resources: linking Envoy's types would make this test slow to build.

func field(n protowire.Number, parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), all)
}

func text(n protowire.Number, s string) []byte { return field(n, []byte(s)) }

func number(n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
}

func join(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func address(addr string) []byte {
	host, port, _ := net.SplitHostPort(addr)
	var p uint64
	_, _ = fmt.Sscan(port, &p)
	return field(1, text(2, host), number(3, p))
}

func staticCluster(name, addr string) *anypb.Any {
	load := join(text(1, name), field(2, field(2, field(1, field(1, address(addr))))))
	return &anypb.Any{TypeUrl: clusterType, Value: join(text(1, name), field(4, number(1, 1)), field(33, load))}
}

func tcpListener(name, addr, cluster string) *anypb.Any {
	proxy := join(text(1, "test"), text(2, cluster))
	typed := join(text(1, "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"), field(2, proxy))
	filter := join(text(1, "envoy.filters.network.tcp_proxy"), field(4, typed))
	return &anypb.Any{TypeUrl: listenerType, Value: join(text(1, name), field(2, address(addr)), field(3, field(3, filter)), number(16, 1))}
}

func dnsListener(name, addr string) *anypb.Any {
	domain := join(text(1, name), field(2, field(1, text(1, addr))), field(3, number(1, 30)))
	config := join(text(1, "kuma_dns"), field(2, field(1, field(2, domain))))
	typed := join(text(1, "type.googleapis.com/envoy.extensions.filters.udp.dns_filter.v3.DnsFilterConfig"), field(2, config))
	return &anypb.Any{TypeUrl: listenerType, Value: join(text(1, "kuma:dns"), field(9, text(1, "envoy.filters.udp.dns_filter"), field(3, typed)))}
}
