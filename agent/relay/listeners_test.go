package relay_test

import (
	"bytes"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"testing"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	als "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/agent/relay"
)

// TestListenersAreRewritten: Envoy gets what Config.Listener returns, and who changes it is told what there is.
func TestListenersAreRewritten(t *testing.T) {
	both(t, func(t *testing.T, p *peer) {
		p.set(clusterType, named(clusterType, "1", "a"))
		p.set(listenerType, named(listenerType, "1", "in", "out"))
		var mu sync.Mutex
		there := map[string]bool{}
		connected := make(chan struct{}, 8)
		_, path := run(t, p, func(c *relay.Config) {
			c.Listener = func(name string, body []byte) []byte {
				if name == "in" {
					return append(slices.Clone(body), field(1001, []byte("added"))...)
				}
				return body
			}
			c.Listeners = func(is func(string) bool) {
				mu.Lock()
				defer mu.Unlock()
				there = map[string]bool{"in": is("in"), "out": is("out")}
			}
			c.Connected = func() { connected <- struct{}{} }
		})
		e := connectEnvoy(t, path)
		e.subscribe(clusterType)
		e.accept(clusterType)
		<-connected
		e.subscribe(listenerType)
		for _, l := range e.accept(listenerType).GetResources() {
			if got, want := bytes.Contains(l.GetResource().GetValue(), []byte("added")), l.GetName() == "in"; got != want {
				t.Errorf("listener %s is changed: %t", l.GetName(), got)
			}
		}
		p.set(listenerType, named(listenerType, "1", "out"))
		if a := e.accept(listenerType); !slices.Equal(a.GetRemovedResources(), []string{"in"}) || len(a.GetResources()) != 0 {
			t.Errorf("got %v, want only that one is gone", a)
		}
		mu.Lock()
		defer mu.Unlock()
		if !reflect.DeepEqual(there, map[string]bool{"in": false, "out": true}) {
			t.Errorf("told of %v", there)
		}
	})
}

func TestAccessLogsStayHere(t *testing.T) {
	for name, taken := range map[string]bool{"taken": true, "refused": false} {
		t.Run(name, func(t *testing.T) {
			got := make(chan []byte, 1)
			_, path := run(t, newPeer(t, false), func(c *relay.Config) {
				if taken {
					c.AccessLog = func() func([]byte) error { return func(m []byte) error { got <- m; return nil } }
				}
			})
			conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			stream, err := als.NewAccessLogServiceClient(conn).StreamAccessLogs(t.Context(), grpc.WaitForReady(true))
			if err != nil {
				t.Fatal(err)
			}
			want := &als.StreamAccessLogsMessage{Identifier: &als.StreamAccessLogsMessage_Identifier{LogName: "x", Node: &core.Node{Id: "n"}}}
			err = stream.Send(want)
			if !taken {
				if _, err := stream.CloseAndRecv(); status.Code(err) != codes.Unimplemented {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			m := &als.StreamAccessLogsMessage{}
			if err := proto.Unmarshal(<-got, m); err != nil || !proto.Equal(m, want) {
				t.Errorf("got %v, %v", m, err)
			}
			if err := stream.CloseSend(); err != nil {
				t.Error(err)
			}
		})
	}
}

func pack(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func loadAssignment(name string, addresses ...string) *endpoint.ClusterLoadAssignment {
	locality := &endpoint.LocalityLbEndpoints{}
	for _, a := range addresses {
		ap := netip.MustParseAddrPort(a)
		locality.LbEndpoints = append(locality.LbEndpoints, &endpoint.LbEndpoint{HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{
			Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
				Address: ap.Addr().String(), PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(ap.Port())},
			}}},
		}}})
	}
	return &endpoint.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpoint.LocalityLbEndpoints{locality}}
}

// TestServicesAndIdentity: what it takes to reach a service is read out of what Envoy was given.
func TestServicesAndIdentity(t *testing.T) {
	const identity, trust = "identity_cert:secret:default", "mesh_ca:secret:default"
	sans := []*tlsv3.SubjectAltNameMatcher{
		{SanType: tlsv3.SubjectAltNameMatcher_URI, Matcher: &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Exact{Exact: "spiffe://default/backend"}}},
		{SanType: tlsv3.SubjectAltNameMatcher_URI, Matcher: &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Prefix{Prefix: "spiffe://default/"}}},
	}
	upstream := &tlsv3.UpstreamTlsContext{Sni: "a.backend.8080.default.ms", CommonTlsContext: &tlsv3.CommonTlsContext{
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext: &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: sans},
		}},
	}}
	data := func(s string) *core.DataSource {
		return &core.DataSource{Specifier: &core.DataSource_InlineBytes{InlineBytes: []byte(s)}}
	}
	p := newPeer(t, false)
	p.set(clusterType, map[string]*anypb.Any{
		"default_backend___msvc_8080": pack(t, &cluster.Cluster{Name: "default_backend___msvc_8080", TransportSocket: &core.TransportSocket{
			Name: "envoy.transport_sockets.tls", ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: pack(t, upstream)},
		}}),
		"default_other___msvc_8080": pack(t, &cluster.Cluster{Name: "default_other___msvc_8080"}),
		"backend":                   pack(t, &cluster.Cluster{Name: "backend", LoadAssignment: loadAssignment("backend", "10.0.0.3:90")}),
	})
	p.set(endpointType, map[string]*anypb.Any{"default_backend___msvc_8080": pack(t, loadAssignment("default_backend___msvc_8080", "10.0.0.2:80", "[fd00::1]:80", "10.0.0.1:80"))})
	p.set(secretType, map[string]*anypb.Any{
		identity: pack(t, &tlsv3.Secret{Name: identity, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: data("chain"), PrivateKey: data("key")}}}),
		trust:    pack(t, &tlsv3.Secret{Name: trust, Type: &tlsv3.Secret_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: data("roots")}}}),
	})
	r, path := run(t, p, func(c *relay.Config) { c.IdentitySecret, c.TrustSecret = identity, trust })
	if got := r.Services("backend"); got != nil {
		t.Errorf("before there is anything: %+v", got)
	}
	if chain, key, roots := r.Identity(); chain != nil || key != nil || roots != nil {
		t.Errorf("before there is anything: %s %s %s", chain, key, roots)
	}
	r.IdentityFromControlPlane()
	e := connectEnvoy(t, path)
	e.subscribe(clusterType)
	e.accept(clusterType)
	e.subscribe(endpointType, "default_backend___msvc_8080")
	e.accept(endpointType)
	e.subscribe(secretType, identity, trust)
	e.accept(secretType)
	want := []relay.Service{
		{Cluster: "backend", Endpoints: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.3:90")}},
		{
			Cluster: "default_backend___msvc_8080", TLS: true, SNI: "a.backend.8080.default.ms", Identities: []string{"spiffe://default/backend", "spiffe://default/"},
			Endpoints: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:80"), netip.MustParseAddrPort("[fd00::1]:80")},
		},
	}
	if got := r.Services("backend"); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, name := range []string{"backend.svc.mesh.local", "default_backend___msvc_8080"} {
		if got := r.Services(name); !reflect.DeepEqual(got, want[1:]) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	if got := r.Services("nobody"); got != nil {
		t.Errorf("nobody: %+v", got)
	}
	if chain, key, roots := r.Identity(); string(chain) != "chain" || string(key) != "key" || string(roots) != "roots" {
		t.Errorf("identity %s %s %s", chain, key, roots)
	}
}
