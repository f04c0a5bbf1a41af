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
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

func appendixWorld(t *testing.T) *topology.World {
	t.Helper()
	s := &scene{zone: "zone-1"}
	world, err := os.ReadFile("testdata/appendix/world.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if skipped := s.add(t, world); skipped != nil {
		t.Fatal(skipped)
	}
	s.resources = append(s.resources, all.DefaultPolicies("default", nil)...)
	s.generateServices()
	for _, r := range s.resources {
		if r.Kind == resource.KindMeshMultiZoneService {
			r.Status = &resource.MeshMultiZoneServiceStatus{VIPs: []resource.VIP{{IP: "243.0.0.0"}}}
		}
		if r.Kind == resource.KindMeshExternalService {
			r.Status = &resource.MeshExternalServiceStatus{VIP: &resource.VIP{IP: "242.0.0.0"}}
		}
	}
	for _, r := range s.services() {
		r.Status = &resource.MeshServiceStatus{Addresses: []resource.ServiceAddress{{Hostname: r.Name + ".svc.mesh.local"}}}
	}
	vips := map[string]string{"frontend": "241.0.0.0", "backend": "241.0.0.1"}
	return s.world(t, func(_ int, name string) string { return vips[name] },
		map[string]string{"frontend": resource.TLSReady, "backend": resource.TLSReady})
}

// TestAppendix compares a whole proxy with the reference.
func TestAppendix(t *testing.T) {
	want := map[string]map[string]any{}
	readJSON(t, "testdata/appendix/frontend-1.config.json", &want)
	snap := generate(t, NewGenerator(all.Effects()), appendixWorld(t), "default", "frontend-1", Meta{}, "zone-1")
	got := map[string]map[string]any{}
	raw, err := New(Config{}).show(snap)
	if err != nil {
		t.Fatal(err)
	}
	for typeURL, resources := range raw {
		got[typeURL] = map[string]any{}
		for name, b := range resources {
			var v any
			if err := json.Unmarshal(b, &v); err != nil {
				t.Fatal(err)
			}
			got[typeURL][name] = v
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("configuration differs (-captured +ours):\n%s", diff)
	}
}

// TestConnectedProxy compares what a proxy's metadata adds.
func TestConnectedProxy(t *testing.T) {
	meta := Meta{AdminAddress: "127.0.0.1", AdminPort: 9922, DNSPort: 15054, ReadinessPort: 9912}
	snap := generate(t, NewGenerator(all.Effects()), appendixWorld(t), "default", "backend-1", meta, "zone-1")
	captured := map[string]map[string]any{}
	readJSON(t, "testdata/appendix/backend-1.live.json", &captured)
	for key, body := range captured {
		t.Run(key, func(t *testing.T) {
			kind, name, _ := strings.Cut(key, " ")
			typeURL, want := TypeCluster, proto.Message(&clusterv3.Cluster{})
			if kind == "listener" {
				typeURL, want = TypeListener, &listenerv3.Listener{}
			}
			delete(body, "@type")
			b, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			if err := (protojson.UnmarshalOptions{Resolver: effect.Types{}}).Unmarshal(b, want); err != nil {
				t.Fatal(err)
			}
			r := snap.Resources(typeURL)[name]
			if r == nil {
				t.Fatalf("there is no %s", key)
			}
			expected, err := newResource(name, want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(jsonOf(t, expected), jsonOf(t, r)); diff != "" {
				t.Errorf("resource differs (-captured +ours):\n%s", diff)
			}
		})
	}
	t.Run("without a certificate only /ready is reachable", func(t *testing.T) {
		w := appendixWorld(t)
		m := w.Meshes["default"]
		snap, err := NewGenerator(nil).Generate(Input{Mesh: m, Dataplane: m.Dataplane("backend-1"), Meta: meta})
		if err != nil {
			t.Fatal(err)
		}
		var l listenerv3.Listener
		if err := snap.Resources(TypeListener)[adminName].Any.UnmarshalTo(&l); err != nil {
			t.Fatal(err)
		}
		if len(l.FilterChains) != 1 {
			t.Errorf("admin listener has %d filter chains, want 1", len(l.FilterChains))
		}
	})
}
