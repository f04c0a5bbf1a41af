package controlplane

import (
	"encoding/json"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/controlplane/xds"
)

// TestDataplaneOfAnother: a token that is bound to tags and to no name opens no stream as a Dataplane with other tags, also
// when the proxy brings one along whose tags fit (demands.md, assertion 25).
func TestDataplaneOfAnother(t *testing.T) {
	r := start(t, testConfig(t.TempDir()))
	r.call("PUT", "/meshes/default/dataplanes/db-1", dataplaneJSON("db-1", "db", "127.0.0.1"))
	token := string(r.call("POST", "/tokens/dataplane", `{"mesh":"default","tags":{"kuma.io/service":["web"]},"validFor":"1h"}`))
	open := func(node *corev3.Node) error {
		t.Helper()
		stream, err := discovery.NewAggregatedDiscoveryServiceClient(r.dial()).StreamAggregatedResources(withToken(t.Context(), token))
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&discovery.DiscoveryRequest{TypeUrl: xds.TypeCluster, Node: node}); err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		return err
	}
	const want = `authentication failed: dataplane contains tag "kuma.io/service" with value "db" which is not allowed with this token`
	if err := open(r.agent("db-1", "web", "127.0.0.9", token)); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("another's Dataplane is taken over: %v", err)
	}
	var stored struct {
		Networking struct {
			Address string
			Inbound []struct{ Tags map[string]string }
		}
	}
	if err := json.Unmarshal(r.call("GET", "/meshes/default/dataplanes/db-1", ""), &stored); err != nil {
		t.Fatal(err)
	}
	if stored.Networking.Address != "127.0.0.1" || stored.Networking.Inbound[0].Tags["kuma.io/service"] != "db" {
		t.Errorf("it was replaced: %+v", stored)
	}
	// One of its own it may bring, and bring again.
	for range 2 {
		if err := open(r.agent("web-1", "web", "127.0.0.1", token)); err != nil {
			t.Errorf("its own Dataplane: %v", err)
		}
	}
}

// TestDataplaneBecomesAnothers: somebody with a token bound to tags, and to no name, registers first under a name that is
// another's. As soon as the owner has its Dataplane there, the squatter's streams end: the identity that comes with it is
// not for them (demands.md, assertions 25 and 29).
func TestDataplaneBecomesAnothers(t *testing.T) {
	r := start(t, testConfig(t.TempDir()))
	r.call("PUT", "/meshes/default", strictMesh)
	conn := r.dial()
	token := string(r.call("POST", "/tokens/dataplane", `{"mesh":"default","tags":{"kuma.io/service":["web"]},"validFor":"1h"}`))
	squatter := &visitor{tokens: []string{token}, mesh: "default", name: "db-1", resource: dataplaneJSON("db-1", "web", "127.0.0.9")}
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(squatter.context(bounded(t)))
	if err != nil {
		t.Fatal(err)
	}
	for i, req := range []*discovery.DeltaDiscoveryRequest{
		{TypeUrl: xds.TypeListener}, {TypeUrl: xds.TypeSecret, ResourceNamesSubscribe: []string{"identity_cert:secret:default"}},
	} {
		if i == 0 {
			req.Node = squatter.node()
		}
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
	}
	identities := 0
	receive := func() error {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, res := range resp.Resources {
			if res.Name != "identity_cert:secret:default" || res.Resource == nil {
				continue
			}
			secret := &tlsv3.Secret{}
			if err := unmarshal(res.Resource.Value, secret); err != nil {
				t.Fatal(err)
			}
			chain, err := certs.ParseCertificates(secret.GetTlsCertificate().GetCertificateChain().GetInlineBytes())
			if err != nil {
				t.Fatal(err)
			}
			identities++
			if got := chain[0].URIs[0].String(); got != "spiffe://default/web" {
				t.Errorf("the squatter is sent the identity %s", got)
			}
		}
		return nil
	}
	for identities == 0 {
		if err := receive(); err != nil {
			t.Fatal(err)
		}
	}
	checks := openHDS(t, conn, squatter)

	owner := &visitor{tokens: []string{r.dataplaneToken("db-1")}, mesh: "default", name: "db-1", resource: dataplaneJSON("db-1", "db", "127.0.0.1")}
	openADS(t, conn, owner)
	const want = `authentication failed: dataplane contains tag "kuma.io/service" with value "db" which is not allowed with this token`
	for err == nil {
		err = receive()
	}
	for name, err := range map[string]error{"ADS": err, "HDS": checks.end()} {
		if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
