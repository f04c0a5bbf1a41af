package xds

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

const liveMesh = `
type: Mesh
name: m
skipCreatingInitialPolicies: ['*']
meshServices: {mode: Exclusive}
mtls: {enabledBackend: ca, backends: [{name: ca, type: builtin, mode: STRICT}]}
metrics: {enabledBackend: old, backends: [{name: old, type: prometheus}]}
---
type: MeshMetric
mesh: m
name: metrics
spec:
  default:
    backends:
    - {type: Prometheus, prometheus: {port: 5670, path: /metrics, tls: {mode: ProvidedTLS}}}
    - {type: OpenTelemetry, openTelemetry: {endpoint: 'otel.example.net:4317'}}
---
type: MeshAccessLog
mesh: m
name: log
spec: {from: [{targetRef: {kind: Mesh}, default: {backends: [{type: Tcp, tcp: {address: '127.0.0.1:9999'}}]}}]}
---
`

// TestLive compares a whole connected proxy with what the Envoy of one had: here the metadata of the node counts.
func TestLive(t *testing.T) {
	const dir = "testdata/effects/live/"
	dataplane, err := os.ReadFile(dir + "dataplane.yaml")
	if err != nil {
		t.Fatal(err)
	}
	meta := Meta{
		AdminAddress: "127.0.0.1", AdminPort: 9901, ReadinessPort: 9902, DNSPort: 15054, WorkDir: "WORKDIR", IPv6: true, AppProbeProxy: true,
	}
	withoutProxy := meta
	withoutProxy.AppProbeProxy, withoutProxy.MetricsCert, withoutProxy.MetricsKey = false, "CERTDIR/mc.pem", "[redacted]"
	for _, tt := range []struct {
		name string
		meta Meta
		ours bool
	}{{"defaults", meta, false}, {"virtual-probes-metrics", withoutProxy, false}, {"defaults", meta, true}, {"virtual-probes-metrics", withoutProxy, true}} {
		t.Run(fmt.Sprintf("%s/ours=%t", tt.name, tt.ours), func(t *testing.T) {
			if tt.ours {
				tt.meta.Features = []string{FeatureIdentityCSR}
			}
			s := &scene{zone: "zone-a"}
			if skipped := s.add(t, []byte(liveMesh+string(dataplane))); skipped != nil {
				t.Fatal(skipped)
			}
			s.generateServices()
			for _, r := range s.services() {
				r.Status = &resource.MeshServiceStatus{Addresses: []resource.ServiceAddress{{Hostname: r.Name + ".svc.mesh.local"}}}
			}
			vips := map[string]string{"241.9.8.1": "VIP(MeshService/live)", "::ffff:f109:801": "VIP6(MeshService/live)"}
			w := s.world(t, func(int, string) string { return "241.9.8.1" }, map[string]string{"live": resource.TLSReady})
			m := w.Meshes["m"]
			rules, err := newRulebook(all.Kinds(), "zone-a").rules(w, m, m.Dataplane("live-1"), false)
			if err != nil {
				t.Fatal(err)
			}
			pem := []byte("PEM") // as the capture has them all
			snap, err := NewGenerator(all.Effects()).Generate(Input{
				Mesh: m, Dataplane: m.Dataplane("live-1"), Zone: "zone-a", Meta: tt.meta, Rules: rules, TrustBundle: pem, Identity: &KeyPair{pem, pem},
				Admin: &AdminTLS{KeyPair: KeyPair{Cert: pem, Key: []byte("[redacted]")}, ClientCA: pem},
			})
			if err != nil {
				t.Fatal(err)
			}
			got := replaceVIPs(t, shapeOf(t, snap), vips)
			delete(got, "Secret")
			delete(got, "ClusterLoadAssignment") // not in a dump
			loopback := map[string]map[string]any{
				"ipv4": {"addressPrefix": "127.0.0.0", "prefixLen": 8.0}, "ipv6": {"addressPrefix": "::1", "prefixLen": 128.0},
			}
			for _, family := range []string{"ipv4", "ipv6"} {
				if !tt.ours {
					break
				}
				letThrough(t, got["Listener"]["inbound:passthrough:"+family], nil, 7002, 7102, 15001, 15006)
				letThrough(t, got["Listener"]["outbound:passthrough:"+family], loopback[family], 15001)
			}
			if tt.ours {
				oneChain(t, got["Listener"]["inbound:10.233.7.2:7002"])
			}
			for kind, resources := range captured(t, dir+tt.name+".json") {
				for name, want := range resources {
					if diff := gocmp.Diff(want, got[kind][name]); diff != "" {
						t.Errorf("%s %s differs (-captured +ours):\n%s", kind, name, diff)
					}
					delete(got[kind], name)
				}
			}
			for kind := range got {
				for name := range got[kind] {
					t.Errorf("%s %s is ours alone", kind, name)
				}
			}
		})
	}
}

// letThrough takes away what 2.9 lacks: a strict inbound is closed to those who come by another address, or straight to its
// workload, and nobody sends Envoy in circles.
func letThrough(t *testing.T, listener any, where map[string]any, ports ...float64) {
	t.Helper()
	l, _ := listener.(map[string]any)
	chains, _ := l["filterChains"].([]any)
	for _, port := range ports {
		match := map[string]any{"destinationPort": port}
		if where != nil {
			match["prefixRanges"] = []any{where}
		}
		want := map[string]any{
			"filterChainMatch": match,
			"filters": []any{map[string]any{"name": effect.FilterDirectResponse, "typedConfig": map[string]any{
				"@type": "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config", "response": map[string]any{"inlineString": ""},
			}}},
		}
		if len(chains) == 0 || gocmp.Diff(want, chains[0]) != "" {
			t.Errorf("port %v is not closed in %v", port, chains)
			return
		}
		chains = chains[1:]
	}
	l["filterChains"] = chains
}

// oneChain takes the chain away that a strict inbound has beside that of 2.9: the same for those who say that they are of the
// mesh.
func oneChain(t *testing.T, listener any) {
	t.Helper()
	l, _ := listener.(map[string]any)
	chains, _ := l["filterChains"].([]any)
	if len(chains) != 2 || l["listenerFilters"] == nil {
		t.Fatalf("got %v", listener)
	}
	member, _ := chains[0].(map[string]any)
	if diff := gocmp.Diff(map[string]any{"transportProtocol": "tls", "applicationProtocols": []any{"kuma"}}, member["filterChainMatch"]); diff != "" {
		t.Errorf("the match differs: %s", diff)
	}
	delete(member, "filterChainMatch")
	other, _ := chains[1].(map[string]any)
	if diff := gocmp.Diff(map[string]any{"transportProtocol": "tls"}, other["filterChainMatch"]); diff != "" {
		t.Errorf("the match of others differs: %s", diff)
	}
	delete(other, "filterChainMatch")
	if diff := gocmp.Diff(chains[1], chains[0]); diff != "" {
		t.Errorf("the two chains differ: %s", diff)
	}
	l["filterChains"] = chains[1:]
	delete(l, "listenerFilters")
}

// captured reads a dump, which has the names of the protocol buffers, as shapeOf renders it.
func captured(t *testing.T, file string) shape {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var dump map[string]map[string]map[string]any
	if err := json.Unmarshal(bytes.ReplaceAll(b, []byte(`"<pem>"`), []byte(`"UEVN"`)), &dump); err != nil {
		t.Fatal(err)
	}
	out := shape{}
	for kind, resources := range dump {
		out[kind] = map[string]any{}
		for name, body := range resources {
			m := proto.Message(&clusterv3.Cluster{})
			if kind == "Listener" {
				m = &listenerv3.Listener{}
			}
			delete(body, "@type")
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			if err := (protojson.UnmarshalOptions{Resolver: effect.Types{}}).Unmarshal(text, m); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			r, err := newResource(name, m)
			if err != nil {
				t.Fatal(err)
			}
			out[kind][name] = jsonOf(t, r)
		}
	}
	return out
}
