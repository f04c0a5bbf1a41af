package controlplane

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	health "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kuma-dp/kuma-dp/controlplane/xds"
)

// served is a stream that has been given something. end waits until it ends.
type served struct{ end func() error }

// last receives until it fails.
func last[M any](recv func() (M, error)) error {
	for {
		if _, err := recv(); err != nil {
			return err
		}
	}
}

// bounded ends with the test, or long after what it waits for should have come.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// openADS opens a stream of configuration for a visitor and waits for the first answer.
func openADS(t *testing.T, conn *grpc.ClientConn, v *visitor) served {
	t.Helper()
	s, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(v.context(bounded(t)))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.TypeListener, Node: v.node()}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	return served{func() error { return last(s.Recv) }}
}

// openHDS is openADS for health checks.
func openHDS(t *testing.T, conn *grpc.ClientConn, v *visitor) served {
	t.Helper()
	s, err := health.NewHealthDiscoveryServiceClient(conn).StreamHealthCheck(v.context(bounded(t)))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&health.HealthCheckRequestOrEndpointHealthResponse{
		RequestType: &health.HealthCheckRequestOrEndpointHealthResponse_HealthCheckRequest{HealthCheckRequest: &health.HealthCheckRequest{Node: v.node()}},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	return served{func() error { return last(s.Recv) }}
}

func jti(t *testing.T, raw string) string {
	t.Helper()
	body, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var c struct{ JTI string }
	if err := json.Unmarshal(body, &c); err != nil || c.JTI == "" {
		t.Fatalf("claims %s, %v", body, err)
	}
	return c.JTI
}

// metric is one line of /metrics.
func (r *running) metric(name string) string {
	r.t.Helper()
	resp, err := r.http.Get("http://" + r.cp.Addresses().Diagnostics.String() + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// TestWithdrawnEverywhere revokes the token of a sidecar and then that of a zone proxy: their streams of either kind end, new
// ones are refused at every door, other proxies notice nothing, and the metric counts (demands.md, assertion 27).
func TestWithdrawnEverywhere(t *testing.T) {
	r := start(t, testConfig(t.TempDir()))
	r.call("PUT", "/meshes/default", strictMesh)
	conn := r.dial()
	issue := func(path, body string) string { return string(r.call("POST", path, body)) }
	sidecar := func(name, token string) *visitor {
		return &visitor{tokens: []string{token}, mesh: "default", name: name, resource: dataplaneJSON(name, "web", "127.0.0.1")}
	}
	bad := sidecar("web-1", r.dataplaneToken("web-1"))
	other := sidecar("web-2", r.dataplaneToken("web-2"))
	zone := &visitor{
		tokens: []string{issue("/tokens/zone", `{"scope":["ingress"],"validFor":"1h"}`)}, name: "z", proxyType: "ingress", resource: zoneProxyJSON("ingress"),
	}
	otherStream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(other.context(bounded(t)))
	if err != nil {
		t.Fatal(err)
	}
	if err := otherStream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.TypeListener, Node: other.node()}); err != nil {
		t.Fatal(err)
	}
	if _, err := otherStream.Recv(); err != nil {
		t.Fatal(err)
	}
	streams := map[string]served{"ADS": openADS(t, conn, bad), "HDS": openHDS(t, conn, bad)}
	zoneStream := openADS(t, conn, zone)
	if got := r.metric("kuma_cp_streams_withdrawn_total"); got != "0" {
		t.Errorf("the metric is %q before anything is withdrawn", got)
	}
	ended := func(what string, s served) {
		t.Helper()
		if err := s.end(); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "token is withdrawn") {
			t.Errorf("%s: got %v", what, err)
		}
	}
	revoke := func(path, kind, name, raw string) {
		data := base64.StdEncoding.EncodeToString([]byte(jti(t, raw)))
		r.call("PUT", path+name, fmt.Sprintf(`{"type":%q,"mesh":"default","name":%q,"data":%q}`, kind, name, data))
	}

	revoke("/meshes/default/secrets/", "Secret", "dataplane-token-revocations-default", bad.tokens[0])
	for name, s := range streams {
		ended(name, s)
	}
	if got := r.metric("kuma_cp_streams_withdrawn_total"); got != "2" {
		t.Errorf("the metric is %q, want 2", got)
	}
	revoke("/global-secrets/", "GlobalSecret", "zone-token-revocations", zone.tokens[0])
	ended("zone proxy", zoneStream)
	if got := r.metric("kuma_cp_streams_withdrawn_total"); got != "3" {
		t.Errorf("the metric is %q, want 3", got)
	}
	for _, d := range r.doors(conn) {
		refused(t, d, attempt{d.name + ": revoked", *bad, "it is revoked"})
		if d.zone {
			refused(t, d, attempt{d.name + ": revoked zone token", *zone, "it is revoked"})
		}
	}
	// The other one goes on: it hears of a change.
	if err := otherStream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: xds.TypeCluster}); err != nil {
		t.Fatal(err)
	}
	if _, err := otherStream.Recv(); err != nil {
		t.Errorf("a stream whose token is not revoked: %v", err)
	}
}
