package topology

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/resource"
)

const multiZoneWorld = `
{type: Mesh, name: m, meshServices: {mode: Exclusive}}
---
{type: Dataplane, mesh: m, name: a1, networking: {address: 10.0.0.2, inbound: [{port: 9000, name: api, tags: {kuma.io/service: a, app: a}}, {port: 9001, tags: {kuma.io/service: a-admin, app: a}}], transparentProxying: {reachableBackends: {refs: []}}}}
---
{type: Dataplane, mesh: m, name: b1, networking: {address: 10.0.0.1, inbound: [{port: 9000, tags: {kuma.io/service: b, app: b}}], transparentProxying: {reachableBackends: {refs: []}}}}
---
{type: MeshService, mesh: m, name: a, labels: {tier: gold}, spec: {selector: {dataplaneTags: {app: a}}, identities: [{type: ServiceTag, value: a}, {type: ServiceTag, value: shared}],
 ports: [{name: main, port: 80, targetPort: 9000}, {port: 81, targetPort: 9001}]}}
---
{type: MeshService, mesh: m, name: b, labels: {tier: gold}, spec: {selector: {dataplaneTags: {app: b}}, identities: [{type: ServiceTag, value: shared}, {type: ServiceTag, value: b}],
 ports: [{name: other, port: 80, targetPort: 9000}]}}
---
{type: MeshService, mesh: m, name: again, labels: {tier: gold}, spec: {selector: {dataplaneTags: {kuma.io/service: a}}, ports: [{port: 80, targetPort: 9000}]}}
---
{type: MeshService, mesh: m, name: tin, labels: {tier: tin}, spec: {selector: {dataplaneTags: {app: b}}, ports: [{port: 80, targetPort: 9000}]}}
---
{type: MeshMultiZoneService, mesh: m, name: a, spec: {selector: {meshService: {matchLabels: {tier: gold}}}, ports: [{port: 80, appProtocol: http}, {name: admin, port: 81}, {port: 82}]},
 status: {vips: [{ip: 243.0.0.0}], addresses: [{hostname: a.mzsvc.mesh.local, origin: HostnameGenerator, hostnameGeneratorRef: {coreName: g}}]}}
---
{type: MeshExternalService, mesh: m, name: ext, spec: {match: {port: 443, protocol: tcp}, endpoints: [{address: 192.0.2.1, port: 443}]}, status: {vip: {ip: 242.0.0.0}}}
---`

// zoned reads a world in which every MeshService has an address.
func zoned(t *testing.T, more string) []*resource.Resource {
	t.Helper()
	all := yaml(t, multiZoneWorld+more)
	for i, r := range all {
		if r.Kind == resource.KindMeshService {
			r.Status = &resource.MeshServiceStatus{VIPs: []resource.VIP{{IP: fmt.Sprintf("241.0.0.%d", i)}}}
		}
	}
	return all
}

func TestMultiZone(t *testing.T) {
	m := Build("zone-a", zoned(t, "")...).Meshes["m"]
	s := m.MultiZoneService("a")
	if s == m.Service("a") || m.Destination(s.Key) != s || m.Destination(m.Service("a").Key) != m.Service("a") ||
		m.Destination(resource.Key{Kind: resource.KindMeshExternalService, Mesh: "m", Name: "ext"}) != m.ExternalService("ext") || m.MultiZoneService("none") != nil {
		t.Error("services of two kinds are mixed up")
	}
	var members, identities, got []string
	for _, member := range s.Members {
		members = append(members, member.Name)
	}
	for _, id := range s.Spec.Identities {
		identities = append(identities, id.Value)
	}
	for _, port := range []uint32{80, 81, 82} {
		for _, e := range s.Endpoints[port] {
			got = append(got, fmt.Sprintf("%d: %s:%d %s", port, e.Address, e.Port, e.Zone))
		}
	}
	// a and again share an endpoint; the name of a port means nothing.
	want := []string{"80: 10.0.0.1:9000 zone-a", "80: 10.0.0.2:9000 zone-a", "81: 10.0.0.2:9001 zone-a"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a", "again", "b"}, members); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	// Those that are stored, and those of the proxies: a-admin.
	if diff := cmp.Diff([]string{"a", "a-admin", "b", "shared"}, identities); diff != "" {
		t.Errorf("identities (-want +got):\n%s", diff)
	}
	if s.Status.TLS.Status != resource.TLSReady || s.Status.Addresses[0].Hostname != "a.mzsvc.mesh.local" {
		t.Errorf("status: %+v", s.Status)
	}
	if len(m.Service("a").Endpoints[80]) != 1 {
		t.Error("the endpoints of a member were changed")
	}
}

// TestMultiZoneOfOtherZones: a MeshService of another zone counts only while it is available there.
func TestMultiZoneOfOtherZones(t *testing.T) {
	for state, want := range map[string]int{"Available": 3, "Unavailable": 2} {
		// Its selector means proxies of its own zone, not c1.
		far := "\n{type: Dataplane, mesh: m, name: c1, networking: {address: 10.0.0.9, inbound: [{port: 9000, tags: {kuma.io/service: c}}]}}\n---\n" +
			"{type: Mesh, name: m, meshServices: {mode: Exclusive}, mtls: {enabledBackend: ca, backends: [{name: ca, type: builtin}]}}\n---\n" +
			"{type: ZoneIngress, name: i, zone: far, networking: {address: 10.1.0.1, port: 10001, advertisedAddress: 192.0.2.1, advertisedPort: 20001}}\n---\n" +
			"{type: MeshService, mesh: m, name: far, labels: {tier: gold, kuma.io/origin: global, kuma.io/zone: far}, spec: {state: " + state +
			", identities: [{type: ServiceTag, value: c}], selector: {dataplaneTags: {kuma.io/service: c}}, ports: [{port: 80, targetPort: 9000}]}}"
		s := Build("zone-a", zoned(t, far)...).Meshes["m"].MultiZoneService("a")
		if got := len(s.Endpoints[80]); got != want {
			t.Errorf("%s: got %d endpoints, want %d", state, got, want)
		}
		if len(s.Members) != 4 || len(s.Spec.Identities) != 5 {
			t.Errorf("%s: got %d members, identities %v", state, len(s.Members), s.Spec.Identities)
		}
	}
}

func TestMultiZoneOutbounds(t *testing.T) {
	const mz = "243.0.0.0:80 MeshMultiZoneService, 243.0.0.0:81 MeshMultiZoneService, 243.0.0.0:82 MeshMultiZoneService"
	client := func(networking string) string {
		return "\n{type: Dataplane, mesh: m, name: client, networking: {address: 10.0.0.7, inbound: [{port: 80, tags: {kuma.io/service: c}}], " + networking + "}}"
	}
	reach := func(refs string) string {
		return client("transparentProxying: {reachableBackends: {refs: [" + refs + "]}}")
	}
	for _, tt := range []struct{ name, input, want string }{
		{
			"everything", client("transparentProxying: {}"),
			"241.0.0.3:80 MeshService, 241.0.0.3:81 MeshService, 241.0.0.4:80 MeshService, 241.0.0.5:80 MeshService, 241.0.0.6:80 MeshService, 242.0.0.0:443 MeshExternalService, " + mz,
		},
		{"by name and kind", reach("{kind: MeshMultiZoneService, name: a}"), mz},
		{"one port", reach("{kind: MeshMultiZoneService, name: a, port: 81}"), "243.0.0.0:81 MeshMultiZoneService"},
		{"section", reach("{kind: MeshMultiZoneService, labels: {kuma.io/mesh: m}, port: 82}"), "243.0.0.0:82 MeshMultiZoneService"},
		{"another kind of the name", reach("{kind: MeshExternalService, name: a}, {kind: MeshService, name: a, port: 80}"), "241.0.0.3:80 MeshService"},
		{"external", reach("{kind: MeshExternalService, name: ext}"), "242.0.0.0:443 MeshExternalService"},
		{
			"without redirection", client("outbound: [{port: 1000, backendRef: {kind: MeshMultiZoneService, name: a, port: 81}}, {port: 1001, backendRef: {kind: MeshMultiZoneService, name: b, port: 80}}]"),
			"127.0.0.1:1000 MeshMultiZoneService",
		},
		{"mode ReachableBackends", client("transparentProxying: {}") + "\n---\n{type: Mesh, name: m, meshServices: {mode: ReachableBackends}}", ""},
		{
			"own inbound", "\n{type: Dataplane, mesh: m, name: client, networking: {address: 243.0.0.0, inbound: [{port: 81, tags: {kuma.io/service: c}}], transparentProxying: {reachableBackends: {refs: [{kind: MeshMultiZoneService, name: a}]}}}}",
			"243.0.0.0:80 MeshMultiZoneService, 243.0.0.0:82 MeshMultiZoneService",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := Build("zone-a", zoned(t, tt.input)...).Meshes["m"]
			got := ""
			for _, o := range m.Outbounds(m.Dataplane("client")) {
				if got != "" {
					got += ", "
				}
				got += fmt.Sprintf("%s:%d %s", o.VIP, o.ListenPort, o.Service.Kind)
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestMultiZoneTouched names, for one edit each, who is touched by way of a MeshMultiZoneService.
func TestMultiZoneTouched(t *testing.T) {
	const clients = `
{type: Dataplane, mesh: m, name: byname, networking: {address: 10.0.1.1, inbound: [{port: 80, tags: {kuma.io/service: c}}], transparentProxying: {reachableBackends: {refs: [{kind: MeshMultiZoneService, name: a}]}}}}
---
{type: Dataplane, mesh: m, name: plain, networking: {address: 10.0.1.2, inbound: [{port: 80, tags: {kuma.io/service: c}}], transparentProxying: {reachableBackends: {refs: [{kind: MeshService, name: a}, {kind: MeshExternalService, name: a}]}}}}
---
{type: Dataplane, mesh: m, name: nobody, networking: {address: 10.0.1.3, inbound: [{port: 80, tags: {kuma.io/service: c}}], transparentProxying: {reachableBackends: {refs: []}}}}`
	const b1 = "{type: Dataplane, mesh: m, name: b1, networking: {address: 10.0.0.1, transparentProxying: {reachableBackends: {refs: []}}, inbound: [{port: 9000, tags: {kuma.io/service: b, app: b"
	const mz = "{type: MeshMultiZoneService, mesh: m, name: a, spec: {selector: {meshService: {matchLabels: {tier: gold}}}, ports: [{port: 80, appProtocol: http}, {name: admin, port: 81}"
	for _, tt := range []struct {
		name, input string
		want        map[string]Scope
		// changed are names with a kind in front.
		changed []string
	}{
		{"an endpoint of a member goes", b1 + "}, state: NotReady}]}}", map[string]Scope{"b1": ScopeFull, "byname": ScopeEndpoints}, []string{"MeshService b", "MeshService tin"}},
		{"protocol of a member", b1 + ", kuma.io/protocol: http}}]}}", map[string]Scope{"b1": ScopeFull, "byname": ScopeFull}, []string{"MeshService b", "MeshService tin"}},
		{"a member goes", "delete MeshService b", map[string]Scope{"byname": ScopeFull}, []string{"MeshService b"}},
		{"no member", "delete MeshService tin", map[string]Scope{}, []string{"MeshService tin"}},
		{"a port goes", mz + "]}}", map[string]Scope{"byname": ScopeFull}, []string{"MeshMultiZoneService a"}},
		{"it goes", "delete MeshMultiZoneService a", map[string]Scope{"byname": ScopeFull}, []string{"MeshMultiZoneService a"}},
		{"only the list of its services", mz + ", {port: 82}]}, status: {vips: [{ip: 243.0.0.0}], addresses: [{hostname: a.mzsvc.mesh.local}], meshServices: [{name: x}]}}", map[string]Scope{}, []string{"MeshMultiZoneService a"}},
		{"external", "delete MeshExternalService ext", map[string]Scope{}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := memory.Open(registry())
			defer s.Close()
			for _, r := range zoned(t, clients) {
				put1(t, s, r)
			}
			op := store.Op{Action: store.Upsert}
			var kind resource.Kind
			var name string
			if _, err := fmt.Sscanf(tt.input, "delete %s %s", &kind, &name); err == nil {
				op = store.Op{Action: store.Delete, Resource: &resource.Resource{Meta: resource.Meta{Key: key(kind, name)}}}
			} else {
				op.Resource = yaml(t, tt.input)[0]
			}
			c := edited(t, s, op)
			want := map[ProxyID]Scope{}
			for name, scope := range tt.want {
				want[ProxyID{"m", name}] = scope
			}
			if diff := cmp.Diff(want, c.Proxies); diff != "" || len(c.All) > 0 {
				t.Errorf("all %v, proxies (-want +got):\n%s", c.All, diff)
			}
			var changed []string
			for k := range c.Services {
				changed = append(changed, string(k.Kind)+" "+k.Name)
			}
			slices.Sort(changed)
			if diff := cmp.Diff(tt.changed, changed); diff != "" {
				t.Errorf("services (-want +got):\n%s", diff)
			}
		})
	}
}

// TestMultiZoneResources: policies find a MeshMultiZoneService beside a MeshService of the same name.
func TestMultiZoneResources(t *testing.T) {
	w := Build("zone-a", zoned(t, "")...)
	var got []string
	for _, r := range w.Services("m") {
		got = append(got, r.Name+" "+string(r.Kind))
	}
	want := []string{"a MeshService", "a MeshMultiZoneService", "again MeshService", "b MeshService", "ext MeshExternalService", "tin MeshService"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
}
