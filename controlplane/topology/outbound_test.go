package topology

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/resource"
)

// merge replaces resources of base by those of the same key in more, and gives every service a VIP by its order.
func merge(base, more []*resource.Resource) []*resource.Resource {
	all := map[resource.Key]*resource.Resource{}
	for _, r := range slices.Concat(base, more) {
		all[r.Key] = r
	}
	var out []*resource.Resource
	for _, r := range all {
		if r.Kind == resource.KindMeshService {
			r.Status = &resource.MeshServiceStatus{VIPs: []resource.VIP{{IP: "VIP-" + r.Name}}}
			r.Status.(*resource.MeshServiceStatus).VIPs[0].IP = vips[r.Name]
		}
		out = append(out, r)
	}
	return out
}

var vips = map[string]string{
	"depot": "241.0.0.0", "orders": "241.0.0.1", "web": "241.0.0.2", "orders-data": "241.0.0.3", "high": "241.0.0.10",
}

// generated stands for what mode Everywhere makes of a Dataplane: no kuma.io/zone label (contract policies.md §1.6).
func generated(name string, port uint32) *resource.Resource {
	return &resource.Resource{
		Meta: resource.Meta{Key: key(resource.KindMeshService, name), Labels: map[string]string{
			resource.LabelDisplayName: name, resource.LabelOrigin: resource.OriginZone, resource.LabelEnv: "universal", resource.LabelMesh: "m",
		}},
		Spec: &resource.MeshService{Ports: []resource.ServicePort{{Port: port, TargetPort: resource.IntOrString{Int: port}}}},
	}
}

// TestOutbounds holds the outbounds to real services that a 2.9.13 control plane gave in the captured cases outbound/01
// to 32 (and some of our own).
func TestOutbounds(t *testing.T) {
	const web = `
type: Dataplane
mesh: m
name: web-1
networking:
  address: 10.0.0.1
  inbound:
  - {port: 8080, servicePort: 80, name: main, tags: {kuma.io/service: web, app: web}}
  - {port: 8081, name: side, tags: {kuma.io/service: web, app: web}}
  transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001`
	all := []string{
		"241.0.0.0:90 depot", "241.0.0.0:91 depot",
		"241.0.0.1:80 orders", "241.0.0.1:81 orders", "241.0.0.1:82 orders", "241.0.0.1:83 orders", "241.0.0.1:84 orders", "241.0.0.1:85 orders",
	}
	tests := []struct {
		name, world, input, proxy string
		services                  []*resource.Resource
		want                      []string
	}{
		{name: "01 no list", world: "exclusive", input: web + "}", want: all},
		{name: "02 empty list", world: "exclusive", input: web + ", reachableBackends: {refs: []}}"},
		{name: "03 unknown port", world: "exclusive", input: web + ", reachableBackends: {refs: [{kind: MeshService, name: orders, port: 8888}]}}"},
		{
			name: "04 labels and port", world: "exclusive", input: web + ", reachableBackends: {refs: [{kind: MeshService, labels: {tier: gold}, port: 80}]}}",
			want: []string{"241.0.0.1:80 orders"},
		},
		{
			name: "name reaches all ports", world: "exclusive", input: web + ", reachableBackends: {refs: [{kind: MeshService, name: depot}]}}",
			want: all[:2],
		},
		{name: "another namespace", world: "exclusive", input: web + ", reachableBackends: {refs: [{kind: MeshService, name: depot, namespace: x}]}}"},
		{name: "another kind", world: "exclusive", input: web + ", reachableBackends: {refs: [{kind: MeshExternalService, name: depot}]}}"},
		{
			name: "number of no port is a section name", world: "exclusive",
			input: web + `, reachableBackends: {refs: [{kind: MeshService, name: web, port: 7777}]}}
---
{type: MeshService, mesh: m, name: web, spec: {ports: [{name: "7777", port: 80}, {name: b, port: 81}]}}`,
			want: []string{"241.0.0.2:80 web"},
		},
		{name: "14 gateway", world: "exclusive", proxy: "edge-1", input: `
{type: Dataplane, mesh: m, name: edge-1, networking: {address: 10.0.0.3, gateway: {type: DELEGATED, tags: {kuma.io/service: edge}},
 transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}}}`, want: all},
		{name: "17 mode ReachableBackends, no list", world: "exclusive", input: "{type: Mesh, name: m, meshServices: {mode: ReachableBackends}}\n---" + web + "}"},
		{
			name: "ReachableBackends, list", world: "exclusive",
			input: "{type: Mesh, name: m, meshServices: {mode: ReachableBackends}}\n---" + web + ", reachableBackends: {refs: [{kind: MeshService, name: depot, port: 91}]}}",
			want:  []string{"241.0.0.0:91 depot"},
		},
		{name: "18 mode Disabled", world: "exclusive", input: "{type: Mesh, name: m}\n---" + web + "}", want: all},
		{
			name: "everywhere, labels", world: "everywhere", services: []*resource.Resource{generated("orders", 9000), generated("depot", 7000), generated("orders-data", 9001)},
			want: []string{"241.0.0.0:7000 depot", "241.0.0.1:9000 orders"},
		},
		{
			name: "30 by hand: labels resolve, the name of a generated service does not", world: "everywhere", input: `
type: Dataplane
mesh: m
name: web-1
networking:
  address: 10.0.0.1
  inbound:
  - {port: 8080, tags: {kuma.io/service: web}}
  outbound:
  - {port: 11001, tags: {kuma.io/service: orders}}
  - {port: 11002, backendRef: {kind: MeshService, labels: {kuma.io/display-name: depot}, port: 7000}}
  - {port: 11003, backendRef: {kind: MeshService, name: orders, port: 9000}}
  - {port: 11004, address: 127.0.0.9, backendRef: {kind: MeshService, labels: {kuma.io/display-name: depot}, port: 7001}}`,
			services: []*resource.Resource{generated("orders", 9000), generated("depot", 7000)},
			want:     []string{"127.0.0.1:11002 depot:7000"},
		},
		{
			name: "31 only reachableServices", world: "everywhere", services: []*resource.Resource{generated("orders", 9000), generated("depot", 7000)},
			input: web + ", reachableServices: [orders]}",
		},
		{
			name: "own inbound collides", world: "everywhere", services: []*resource.Resource{generated("orders", 9000), generated("depot", 7000)},
			input: `{type: Dataplane, mesh: m, name: web-1, networking: {address: 241.0.0.0, inbound: [{port: 7000, tags: {kuma.io/service: web}}], transparentProxying: {redirectPortInbound: 1, redirectPortOutbound: 2}}}`,
			want:  []string{"241.0.0.1:9000 orders"},
		},
		{
			name: "order of addresses is numeric", world: "everywhere", services: []*resource.Resource{generated("high", 1), generated("orders", 2), generated("orders-data", 3)},
			input: web + "}", want: []string{"241.0.0.1:2 orders", "241.0.0.3:3 orders-data", "241.0.0.10:1 high"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			more := tt.services
			if tt.input != "" {
				more = append(more, yaml(t, tt.input)...)
			}
			proxy := tt.proxy
			if proxy == "" {
				proxy = "web-1"
			}
			m := Build("zone-a", merge(testdata(t, tt.world+".yaml"), more)...).Meshes["m"]
			var got []string
			for _, o := range m.Outbounds(m.Dataplane(proxy)) {
				s := fmt.Sprintf("%s:%d %s", o.VIP, o.ListenPort, o.Service.Name)
				if o.ListenPort != o.Port.Port {
					s += fmt.Sprintf(":%d", o.Port.Port)
				}
				got = append(got, s)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("outbounds (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEndpoints(t *testing.T) {
	const dataplane = `
{type: Dataplane, mesh: m, name: a, networking: {address: 10.0.0.2, inbound: [
  {port: 9000, name: api, tags: {kuma.io/service: a, app: x}},
  {port: 9001, name: admin, tags: {kuma.io/service: b, app: x}, state: NotReady},
  {port: 9002, address: 10.0.0.9, name: other, tags: {kuma.io/service: c, kuma.io/zone: far}},
  {port: 9003, tags: {kuma.io/service: d, app: idle}, health: {ready: false}}]}}
---
{type: Dataplane, mesh: m, name: b, networking: {address: 10.0.0.1, advertisedAddress: 192.0.2.1, inbound: [{port: 9000, address: 10.0.0.7, name: api, tags: {kuma.io/service: a, app: x}}]}}
---
{type: Mesh, name: m}`
	tests := []struct {
		name, spec string
		want       map[uint32][]string
		members    int
	}{
		{"number", `selector: {dataplaneTags: {app: x}}, ports: [{port: 80, targetPort: 9000}]`, map[uint32][]string{80: {"10.0.0.2:9000 zone-a a", "192.0.2.1:9000 zone-a b"}}, 2},
		{"name", `selector: {dataplaneTags: {app: x}}, ports: [{port: 80, targetPort: api}, {port: 81, targetPort: admin}]`, map[uint32][]string{80: {"10.0.0.2:9000 zone-a a", "192.0.2.1:9000 zone-a b"}}, 2},
		{"no targetPort means the same number", `selector: {dataplaneTags: {app: x}}, ports: [{port: 9000}]`, map[uint32][]string{9000: {"10.0.0.2:9000 zone-a a", "192.0.2.1:9000 zone-a b"}}, 2},
		{"another inbound of a selected proxy; own address and zone", `selector: {dataplaneTags: {kuma.io/service: a, app: x}}, ports: [{port: 1, targetPort: other}]`, map[uint32][]string{1: {"10.0.0.9:9002 far a"}}, 2},
		{"the only inbound with the tags is not healthy", `selector: {dataplaneTags: {app: idle}}, ports: [{port: 1, targetPort: 9000}]`, map[uint32][]string{}, 1},
		{"two inbounds do not add up", `selector: {dataplaneTags: {app: x, kuma.io/service: c}}, ports: [{port: 1, targetPort: 9000}]`, map[uint32][]string{}, 0},
		{"ref wins over tags", `selector: {dataplaneRef: {name: b}, dataplaneTags: {app: idle}}, ports: [{port: 1, targetPort: 9000}]`, map[uint32][]string{1: {"192.0.2.1:9000 zone-a b"}}, 1},
		{"empty tags select nothing", `selector: {dataplaneTags: {}}, ports: [{port: 1, targetPort: 9000}]`, map[uint32][]string{}, 0},
		{"no selector selects nothing", `ports: [{port: 1, targetPort: 9000}]`, map[uint32][]string{}, 0},
		{"one port in two protocols is one list", `selector: {dataplaneRef: {name: b}}, ports: [{name: a, port: 1, targetPort: 9000, appProtocol: http}, {name: b, port: 1, targetPort: 9000, appProtocol: tcp}]`, map[uint32][]string{1: {"192.0.2.1:9000 zone-a b"}}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := Build("zone-a", yaml(t, dataplane+"\n---\n{type: MeshService, mesh: m, name: s, spec: {"+tt.spec+"}}")...).Meshes["m"].Service("s")
			got := map[uint32][]string{}
			for port, list := range s.Endpoints {
				for _, e := range list {
					got[port] = append(got[port], fmt.Sprintf("%s:%d %s %s", e.Address, e.Port, e.Zone, e.Dataplane))
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("endpoints (-want +got):\n%s", diff)
			}
			if len(s.Dataplanes) != tt.members {
				t.Errorf("got %d proxies, want %d", len(s.Dataplanes), tt.members)
			}
		})
	}
}

// TestHandmade: tests of other packages make a Mesh by hand, without the parts that only the tracker fills.
func TestHandmade(t *testing.T) {
	w := Build("z", merge(testdata(t, "exclusive.yaml"), nil)...)
	m := w.Meshes["m"]
	hand := &Mesh{Resource: m.Resource, Spec: m.Spec, Dataplanes: m.Dataplanes, Services: m.Services}
	dp := hand.Dataplane("web-1")
	if got, want := len(hand.Outbounds(dp)), len(m.Outbounds(dp)); got != want || got == 0 {
		t.Errorf("got %d outbounds, want %d", got, want)
	}
	if got := len((&World{Meshes: map[string]*Mesh{"m": hand}}).Services("m")); got != len(w.Services("m")) || got != 2 {
		t.Errorf("got %d services, want 2", got)
	}
	if w.Services("none") != nil || m.Service("none") != nil || m.Dataplane("none") != nil {
		t.Error("found what is not there")
	}
}
