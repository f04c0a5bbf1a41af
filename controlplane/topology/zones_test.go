package topology

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/resource"
)

const zonesWorld = `
{type: Mesh, name: m, meshServices: {mode: Everywhere}, mtls: {enabledBackend: ca, backends: [{name: ca, type: builtin}]}}
---
{type: ZoneEgress, name: e1, networking: {address: 10.1.0.1, port: 10002}}
---
{type: ZoneEgress, name: e2, zone: far, networking: {address: 10.1.0.2, port: 10002}}
---
{type: ZoneIngress, name: i1, zone: far, networking: {address: 10.1.0.3, port: 10001, advertisedAddress: 192.0.2.3, advertisedPort: 20001}, availableServices: [{mesh: m, instances: 3, tags: {kuma.io/service: web, kuma.io/zone: far}}]}
---
{type: ZoneIngress, name: i2, zone: far, networking: {address: 10.1.0.4, port: 10001, advertisedAddress: 192.0.2.3, advertisedPort: 20001}}
---
{type: ZoneIngress, name: private, zone: far, networking: {address: 10.1.0.5, port: 10001}}
---
{type: ZoneIngress, name: own, networking: {address: 10.1.0.6, port: 10001, advertisedAddress: 192.0.2.6, advertisedPort: 20001}}
---
{type: Dataplane, mesh: m, name: web-1, networking: {address: 10.0.0.1, inbound: [{port: 80, tags: {kuma.io/service: web}}], transparentProxying: {}}}
---
{type: MeshService, mesh: m, name: web-far, labels: {kuma.io/origin: global, kuma.io/zone: far, kuma.io/display-name: web}, spec: {selector: {dataplaneTags: {kuma.io/service: web}}, ports: [{port: 80}, {port: 81}]}}
---
{type: MeshExternalService, mesh: m, name: ext, spec: {match: {port: 443, protocol: tcp}, endpoints: [{address: 192.0.2.1, port: 443}]}}
---
{type: ExternalService, mesh: m, name: hook, tags: {kuma.io/service: hook, kuma.io/protocol: http}, networking: {address: 'hook.example.com:443'}}
---`

// TestZones says where clients find what is in another zone, and outside (contract effects-routing.md §2.5).
func TestZones(t *testing.T) {
	for _, tt := range []struct{ name, more, remote, external, legacy, hook string }{
		{"as it is", "", "192.0.2.3:20001 far 1/0", "10.1.0.1:10002 zone-a 0/0", "10.0.0.1:80 zone-a 0/0, 192.0.2.3:20001 far 0/3", ""},
		{"without mTLS", "{type: Mesh, name: m, meshServices: {mode: Everywhere}}", "", "10.1.0.1:10002 zone-a 0/0", "10.0.0.1:80 zone-a 0/0", ""},
		{
			"a second load balancer", "{type: ZoneIngress, name: i2, zone: far, networking: {address: 10.1.0.4, port: 10001, advertisedAddress: 192.0.2.4, advertisedPort: 20001}, availableServices: [{mesh: m, instances: 1, tags: {kuma.io/service: x}}]}",
			"192.0.2.3:20001 far 1/0, 192.0.2.4:20001 far 1/0", "10.1.0.1:10002 zone-a 0/0", "10.0.0.1:80 zone-a 0/2, 192.0.2.3:20001 far 0/3", "",
		},
		{"the zone is disabled", "{type: Zone, name: far, enabled: false}", "", "10.1.0.1:10002 zone-a 0/0", "10.0.0.1:80 zone-a 0/0", ""},
		{
			"through the egress", "{type: Mesh, name: m, meshServices: {mode: Everywhere}, routing: {zoneEgress: true, localityAwareLoadBalancing: true}, mtls: {enabledBackend: ca, backends: [{name: ca, type: builtin}]}}",
			"192.0.2.3:20001 far 1/0", "10.1.0.1:10002 zone-a 0/0", "10.0.0.1:80 zone-a 0/0, 10.1.0.1:10002 far 1/0", "10.1.0.1:10002  0/0",
		},
		{
			"bound to another zone", "{type: MeshExternalService, mesh: m, name: ext, labels: {kuma.io/origin: global, kuma.io/zone: far}, spec: {match: {port: 443, protocol: tcp}}}",
			"192.0.2.3:20001 far 1/0", "10.1.0.1:10002 far 0/0", "10.0.0.1:80 zone-a 0/0, 192.0.2.3:20001 far 0/3", "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stored := yaml(t, zonesWorld)
			for _, r := range yaml(t, "\n"+tt.more) {
				stored = append(slices.DeleteFunc(stored, func(o *resource.Resource) bool { return o.Key == r.Key }), r)
			}
			m := Build("zone-a", stored...).Meshes["m"]
			text := func(list []Endpoint) (out string) {
				for i, e := range list {
					if i > 0 {
						out += ", "
					}
					out += fmt.Sprintf("%s:%d %s %d/%d", e.Address, e.Port, e.Zone, e.Priority, e.Weight)
				}
				return out
			}
			far := m.Service("web-far")
			if len(far.Dataplanes) != 0 || text(far.Endpoints[80]) != text(far.Endpoints[81]) {
				t.Errorf("remote service: %d proxies, %+v", len(far.Dataplanes), far.Endpoints)
			}
			got := []string{text(far.Endpoints[80]), text(m.ExternalService("ext").Endpoints[443]), text(m.LegacyService("web").Endpoints), text(m.LegacyService("hook").Endpoints)}
			if diff := cmp.Diff([]string{tt.remote, tt.external, tt.legacy, tt.hook}, got); diff != "" {
				t.Errorf("endpoints of the remote service, the external one, web and hook (-want +got):\n%s", diff)
			}
		})
	}
}

// TestZonesTouch: a zone proxy that comes or goes touches those who reach something through it, and nobody else.
func TestZonesTouch(t *testing.T) {
	s := memory.Open(registry())
	defer s.Close()
	for _, r := range yaml(t, zonesWorld+"\n{type: Dataplane, mesh: m, name: deaf, networking: {address: 10.0.0.2, inbound: [{port: 80, tags: {kuma.io/service: deaf}}], transparentProxying: {reachableBackends: {refs: []}, reachableServices: [none]}}}") {
		put1(t, s, r)
	}
	st := newState("zone-a")
	stored, w := s.Watch()
	defer w.Close()
	st.load(stored)
	for _, tt := range []struct {
		doc  string
		want []ProxyID
	}{
		{"{type: ZoneEgress, name: e3, networking: {address: 10.1.0.9, port: 10002}}", []ProxyID{{"", "e3"}, {"m", "web-1"}}},
		{"{type: ZoneIngress, name: i9, zone: far, networking: {address: 10.1.0.9, port: 10001, advertisedAddress: 192.0.2.9, advertisedPort: 10001}}", []ProxyID{{"", "e1"}, {"", "e2"}, {"", "e3"}, {"", "i1"}, {"", "i2"}, {"", "i9"}, {"", "own"}, {"", "private"}, {"m", "web-1"}}},
		{"{type: ZoneIngress, name: elsewhere, zone: other, networking: {address: 10.1.0.9, port: 10001, advertisedAddress: 192.0.2.9, advertisedPort: 10001}}", []ProxyID{{"", "e1"}, {"", "e2"}, {"", "e3"}, {"", "elsewhere"}}},
		{"{type: MeshExternalService, mesh: m, name: ext, spec: {match: {port: 443, protocol: tcp}, endpoints: [{address: 192.0.2.7, port: 443}]}}", []ProxyID{{"", "e1"}, {"", "e2"}, {"", "e3"}}},
	} {
		for _, r := range yaml(t, tt.doc) {
			put1(t, s, r)
		}
		c := st.apply(pending(t, s, w))
		var got []ProxyID
		for id, scope := range c.Proxies {
			if scope != 0 {
				got = append(got, id)
			}
		}
		slices.SortFunc(got, func(a, b ProxyID) int { return slices.Compare([]string{a.Mesh, a.Name}, []string{b.Mesh, b.Name}) })
		if diff := cmp.Diff(tt.want, got); diff != "" || len(c.All) > 0 {
			t.Errorf("%s: touched (-want +got):\n%s", tt.doc, diff)
		}
	}
}
