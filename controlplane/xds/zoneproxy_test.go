package xds

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// zoneWorld reads the resources behind the captures in testdata/zones, with more that may replace them.
func zoneWorld(t *testing.T, more string) *topology.World {
	t.Helper()
	s := &scene{zone: "zone-1"}
	world, err := os.ReadFile("testdata/zones/world.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if skipped := append(s.add(t, world), s.add(t, []byte(more))...); skipped != nil {
		t.Fatal(skipped)
	}
	for _, r := range s.resources { // the control plane had made these two itself, or got them from elsewhere
		if r.Name == "client" || r.Name == "backend" && r.Kind == resource.KindMeshService {
			delete(r.Labels, resource.LabelZone)
		}
		if r.Labels[resource.LabelOrigin] == resource.OriginGlobal && r.Labels[resource.LabelZone] != "zone-2" {
			r.Labels = map[string]string{resource.LabelOrigin: resource.OriginGlobal, resource.LabelDisplayName: r.Labels[resource.LabelDisplayName]}
		}
	}
	s.resources = append(s.resources, all.DefaultPolicies("default", nil)...)
	return topology.Build(s.zone, s.resources...)
}

func zoneInput(w *topology.World, address string, port uint32, ipv6 bool) ZoneInput {
	rules := newRulebook(all.Kinds(), w.Zones.Local)
	return ZoneInput{
		World: w, Address: address, Port: port, Meta: Meta{IPv6: ipv6, SystemCAPath: "/ca.pem"},
		Rules: func(m *topology.Mesh) map[resource.Kind]*policy.Rules {
			out, _ := rules.rules(w, m, egressDataplane(w, m, "e"), false)
			return out
		},
		Permissions: func(m *topology.Mesh, in *resource.Inbound) map[resource.Kind]*policy.Rules {
			d := egressDataplane(w, m, in.Tags[resource.TagService])
			d.Spec.Networking.Inbound = []*resource.Inbound{in}
			out, _ := rules.rules(w, m, d, false)
			return out
		},
		Secrets: func(string) ([]byte, *KeyPair, error) {
			return []byte("CA"), &KeyPair{[]byte("CERT"), []byte("KEY")}, nil
		},
	}
}

// TestZoneProxies compares whole zone proxies with the reference (contract zones.md §7, controlplane.md §1.6).
func TestZoneProxies(t *testing.T) {
	const tcpExternal = `{type: MeshExternalService, mesh: default, name: ext-55d8dbxdzb446zcz, labels: {kuma.io/origin: global, kuma.io/display-name: other, kuma.io/zone: zone-2}, spec: {match: {port: 1, protocol: tcp}, endpoints: [{address: 192.0.2.1, port: 1}]}}
---
{type: MeshExternalService, mesh: default, name: ext, spec: {match: {port: 443, protocol: tcp}, endpoints: [{address: 127.0.0.1, port: 9443}]}}`
	g := NewGenerator(all.Effects())
	for _, tt := range []struct {
		name, more, address string
		port                uint32
		ipv6                bool
		generate            func(ZoneInput) (*Snapshot, error)
	}{
		{"ingress", "", "192.168.240.21", 10001, true, g.GenerateIngress},
		{"egress-http", "", "192.168.240.31", 10002, true, g.GenerateEgress},
		{"egress-tcp", tcpExternal, "10.77.0.1", 10002, false, g.GenerateEgress},
		{"egress-nomtls", "{type: Mesh, name: default, meshServices: {mode: Exclusive}}", "192.168.240.31", 10002, true, g.GenerateEgress},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := zoneWorld(t, tt.more)
			snap, err := tt.generate(zoneInput(w, tt.address, tt.port, tt.ipv6))
			if err != nil {
				t.Fatal(err)
			}
			want := shape{}
			var captured map[string]map[string]json.RawMessage
			readJSON(t, "testdata/zones/"+tt.name+".json", &captured)
			for kind, resources := range captured {
				for name, body := range resources {
					var m proto.Message = &clusterv3.Cluster{}
					if kind == "Listener" {
						m = &listenerv3.Listener{}
					}
					if err := (protojson.UnmarshalOptions{Resolver: effect.Types{}}).Unmarshal(body, m); err != nil {
						t.Fatal(err)
					}
					r, err := newResource(name, m)
					if err != nil {
						t.Fatal(err)
					}
					if want[kind] == nil {
						want[kind] = map[string]any{}
					}
					want[kind][name] = jsonOf(t, r)
				}
			}
			got := shapeOf(t, snap)
			secrets := got["Secret"]
			delete(got, "Secret")
			for name, cla := range got["ClusterLoadAssignment"] { // those of zone-2 would be a loop
				if body, _ := json.Marshal(cla); strings.Count(string(body), `"address":"192.168.240.4`) != 1 || strings.Contains(string(body), "zone-2") {
					t.Errorf("endpoints of %s: %s", name, body)
				}
			}
			delete(got, "ClusterLoadAssignment")
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("configuration differs (-captured +ours):\n%s", diff)
			}
			if terminates := strings.HasPrefix(tt.name, "egress") && len(got) > 0; (len(secrets) == 2) != terminates {
				t.Errorf("secrets %v", secrets)
			}
		})
	}
}
