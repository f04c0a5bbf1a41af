package controlplane

import (
	"encoding/json"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

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
