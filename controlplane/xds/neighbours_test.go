package xds

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// inWorld makes the configuration of web-1 in a captured world with documents on top.
func inWorld(t *testing.T, g *Generator, world string, documents ...string) shape {
	t.Helper()
	s := &scene{zone: "zone-a"}
	base, err := os.ReadFile(filepath.Join("testdata/effects/worlds", world, "world.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, doc := range append([]string{string(base)}, documents...) {
		if skipped := s.add(t, []byte(doc)); skipped != nil {
			t.Fatal(skipped)
		}
	}
	vips := map[string]string{}
	s.addLegacyVIPs(t, vips)
	w := s.world(t, func(i int, name string) string {
		ip := fmt.Sprintf("241.9.%d.%d", 8+i/1000, i%1000+100)
		vips[ip] = "VIP(" + name + ")"
		return ip
	}, map[string]string{"orders": resource.TLSReady})
	return replaceVIPs(t, shapeOf(t, generate(t, g, w, "m", "web-1", Meta{}, "zone-a")), vips)
}

// dig walks into JSON values: members by name, elements by number.
func dig(v any, path string) any {
	for step := range strings.FieldsSeq(path) {
		switch in := v.(type) {
		case map[string]any:
			v = in[step]
		case shape:
			v = in[step]
		case []any:
			i := -1
			if _, err := fmt.Sscan(step, &i); err != nil || i < 0 || i >= len(in) {
				return nil
			}
			v = in[i]
		default:
			return nil
		}
	}
	return v
}

// TestNeighbours is about combinations next to the captured ones, for which the same sentences of the contract hold.
func TestNeighbours(t *testing.T) {
	const (
		nobodyByLabels = "{type: MeshTCPRoute, mesh: m, name: c, spec: {to: [{targetRef: {kind: MeshService, name: orders, sectionName: SECTION}, " +
			"rules: [{default: {backendRefs: [{kind: MeshService, labels: {no: body}, port: 90}]}}]}]}}"
		requests = "{type: MeshHTTPRoute, mesh: m, name: r, spec: {to: [{targetRef: {kind: MeshService, name: orders, sectionName: data}, " +
			"rules: [{matches: [{path: {type: Exact, value: /a}}], default: {backendRefs: [{kind: MeshService, name: depot, port: 90}]}}]}]}}"
		timeout = "{type: MeshTimeout, mesh: m, name: t, spec: {to: [{targetRef: {kind: Mesh}, default: {idleTimeout: 7s, http: {requestTimeout: 8s}}}]}}"
		near    = "{type: MeshLoadBalancingStrategy, mesh: m, name: b, spec: {to: [{targetRef: {kind: Mesh}, default: {localityAwareness: {localZone: {affinityTags: [{key: rack}]}}}}]}}"
		toBank  = "{type: MeshHTTPRoute, mesh: m, name: r, spec: {to: [{targetRef: {kind: MeshService, name: orders, sectionName: api}, " +
			"rules: [{matches: [{path: {type: Exact, value: /a}}], default: {backendRefs: [{kind: MeshExternalService, name: bank, port: 80}]}}]}]}}"
		toAllZones = "{type: MeshTCPRoute, mesh: m, name: c, spec: {to: [{targetRef: {kind: MeshMultiZoneService, name: orders-all}}]}}"
		retries    = "{type: MeshRetry, mesh: m, name: z, spec: {to: [{targetRef: {kind: Mesh}, default: {http: {retryOn: [Reset], retriableRequestHeaders: [{name: x}]}}}]}}"
		noRetryOn  = "{type: MeshRetry, mesh: m, name: a, spec: {to: [{targetRef: {kind: Mesh}, default: {http: {retryOn: [], retriableRequestHeaders: []}}}]}}"
	)
	section := func(doc, name string) string { return strings.Replace(doc, "SECTION", name, 1) }
	for _, tt := range []struct {
		name, world string
		documents   []string
		path, want  string
	}{
		{
			"connections to nobody leave the requests of the port", "exclusive",
			[]string{section(nobodyByLabels, "api")},
			"Listener outbound:VIP(orders):80 filterChains 0 filters 0 typedConfig routeConfig virtualHosts 0 routes 0 route",
			`{"cluster": "m_orders__zone-a_msvc_80", "timeout": "0s"}`,
		},
		{
			"and its cluster", "exclusive",
			[]string{section(nobodyByLabels, "api")},
			"Cluster m_orders__zone-a_msvc_80 name", `"m_orders__zone-a_msvc_80"`,
		},
		{
			"connections to nobody leave the requests of a port of connections", "exclusive",
			[]string{section(nobodyByLabels, "data"), requests},
			"Listener outbound:VIP(orders):81 filterChains 0 filters 0 typedConfig routeConfig virtualHosts 0 routes",
			`[{"name": "Vy9SVynsalZoWE/UGXt5zPMQpIaxCRMApWuXANLS0Yg=", "match": {"path": "/a"}, "route": {"cluster": "m_depot__zone-a_msvc_90", "timeout": "0s"}}]`,
		},
		{
			"which policies take for one of connections", "exclusive",
			[]string{section(nobodyByLabels, "data"), requests, timeout},
			"Listener outbound:VIP(orders):81 filterChains 0 filters 0 typedConfig routeConfig virtualHosts 0 routes 0 route",
			`{"cluster": "m_depot__zone-a_msvc_90", "timeout": "0s"}`,
		},
		{
			"what is outside is in the zone of the client", "legacy-mtls",
			[]string{near},
			"Cluster hooks-tcp loadAssignment",
			`{"clusterName": "hooks-tcp", "policy": {"overprovisioningFactor": 200}, "endpoints": [{"locality": {"zone": "zone-a"}, "loadBalancingWeight": 1, "lbEndpoints": [
				{"endpoint": {"address": {"socketAddress": {"address": "203.0.113.7", "portValue": 99}}}, "loadBalancingWeight": 1,
				"metadata": {"filterMetadata": {"envoy.lb": {"kuma.io/protocol": "tcp"}, "envoy.transport_socket_match": {"kuma.io/protocol": "tcp"}}}}]}]}`,
		},
		{
			"what is outside has one port, whatever a route says", "mtls",
			[]string{toBank},
			"Listener outbound:VIP(orders):80 filterChains 0 filters 0 typedConfig routeConfig virtualHosts 0 routes 0 route",
			`{"cluster": "m_bank__zone-a_extsvc_443", "timeout": "0s", "autoHostRewrite": true}`,
		},
		{
			"a service of several zones without a port", "mtls",
			[]string{toAllZones},
			"Cluster orders-all", `null`,
		},
		{
			"an empty list takes the place of another one", "exclusive",
			[]string{retries, noRetryOn},
			"Listener outbound:VIP(orders):80 filterChains 0 filters 0 typedConfig routeConfig virtualHosts 0 routes 0 route retryPolicy",
			`{"retryOn": "gateway-error,connect-failure,refused-stream"}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var want any
			if err := json.Unmarshal([]byte(tt.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(want, dig(inWorld(t, NewGenerator(all.Effects()), tt.world, tt.documents...), tt.path)); diff != "" {
				t.Errorf("%s differs (-want +got):\n%s", tt.path, diff)
			}
		})
	}
}

// TestBreakerOfAnotherInbound: rules of one inbound that shape the cluster of another one are part of what that is known
// by.
func TestBreakerOfAnotherInbound(t *testing.T) {
	const (
		twoInbounds = "{type: Dataplane, mesh: m, name: web-1, networking: {address: 10.0.0.1, inbound: [{port: 80, servicePort: 8080, tags: {kuma.io/service: web}}, " +
			"{port: 8080, servicePort: 9090, tags: {kuma.io/service: web, side: back}}]}}"
		breaker = "{type: MeshCircuitBreaker, mesh: m, name: b, spec: {targetRef: {kind: MeshSubset, tags: {side: back}}, " +
			"from: [{targetRef: {kind: Mesh}, default: {connectionLimits: {maxRequests: MAX}}}]}}"
	)
	g := NewGenerator(all.Effects())
	for _, most := range []string{"3", "4"} {
		s := inWorld(t, g, "exclusive", twoInbounds, strings.Replace(breaker, "MAX", most, 1))
		got := fmt.Sprint(dig(s, "Cluster localhost:8080 circuitBreakers thresholds 0 maxRequests"))
		if other := dig(s, "Cluster localhost:9090 circuitBreakers"); got != most || other != nil {
			t.Errorf("limit %s, want %s; the other cluster has %v", got, most, other)
		}
	}
}
