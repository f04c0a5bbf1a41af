package topology

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

const legacyWorld = `
{type: Mesh, name: m, meshServices: {mode: Disabled}}
---
{type: Dataplane, mesh: m, name: open, networking: {address: 10.0.0.1, inbound: [{port: 80, tags: {kuma.io/service: a}}], transparentProxying: {}}}
---
{type: Dataplane, mesh: m, name: listed, networking: {address: 10.0.0.2, inbound: [{port: 81, tags: {kuma.io/service: b, kuma.io/protocol: http}}], transparentProxying: {reachableServices: [b, nobody]}}}
---
{type: Dataplane, mesh: m, name: hand, networking: {address: 10.0.0.3, inbound: [{port: 82, tags: {kuma.io/service: c}}, {port: 49151, tags: {kuma.io/service: c}}], outbound: [{port: 1000, tags: {kuma.io/service: a, version: v1}}, {address: 127.0.0.9, port: 1001, tags: {kuma.io/service: nobody}}]}}
---
{type: Dataplane, mesh: m, name: own, networking: {address: 240.0.0.2, inbound: [{port: 80, state: NotReady, tags: {kuma.io/service: c}}], transparentProxying: {}}}
---
{type: MeshService, mesh: m, name: real, spec: {selector: {dataplaneTags: {kuma.io/service: a}}, ports: [{port: 80}]}, status: {vips: [{ip: 241.0.0.1}]}}
`

// legacyVIPs is the record of the addresses of a, b and c, in another order.
func legacyVIPs(t testing.TB) *resource.Resource {
	t.Helper()
	v := resource.ServiceVIPs{}
	for i, name := range []string{"b", "a", "c"} {
		v[resource.ServiceVIPKey(name)] = resource.ServiceVIP{Address: fmt.Sprint("240.0.0.", i), Outbounds: []resource.ServiceVIPPort{{Port: 80}}}
	}
	c, err := v.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return &resource.Resource{Meta: resource.Meta{Key: key(resource.KindConfig, resource.ServiceVIPsName("m"))}, Spec: c}
}

func TestLegacyOutbounds(t *testing.T) {
	const all = "240.0.0.0:80 b, 240.0.0.1:80 a, 240.0.0.2:80 c"
	const byHand = "127.0.0.1:1000 a, 127.0.0.9:1001 nobody"
	for _, tt := range []struct {
		mode string
		// legacy outbounds and real ones of every proxy.
		open, listed, hand, own string
		real                    string
	}{
		{"Disabled", all, "240.0.0.0:80 b", byHand, "240.0.0.0:80 b, 240.0.0.1:80 a", "open own"},
		{"Everywhere", all, "240.0.0.0:80 b", byHand, "240.0.0.0:80 b, 240.0.0.1:80 a", "open own"},
		{"ReachableBackends", all, "240.0.0.0:80 b", byHand, "240.0.0.0:80 b, 240.0.0.1:80 a", ""},
		{"Exclusive", "", "", byHand, "", "open own"},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			stored := append(yaml(t, strings.Replace(legacyWorld, "Disabled", tt.mode, 1)), legacyVIPs(t))
			m := Build("zone-a", stored...).Meshes["m"]
			real := []string{}
			got := map[string]string{}
			for _, d := range m.Dataplanes {
				list := []string{}
				for _, o := range m.LegacyOutbounds(d) {
					if name := o.Tags[resource.TagService]; o.Service != m.LegacyService(name) {
						t.Errorf("%s: outbound to %s has service %v", d.Name, name, o.Service)
					}
					list = append(list, fmt.Sprintf("%s:%d %s", o.Address, o.Port, o.Tags[resource.TagService]))
				}
				got[d.Name] = strings.Join(list, ", ")
				if len(m.Outbounds(d)) > 0 {
					real = append(real, d.Name)
				}
			}
			want := map[string]string{"open": tt.open, "listed": tt.listed, "hand": tt.hand, "own": tt.own}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("outbounds by tags (-want +got):\n%s", diff)
			}
			if strings.Join(real, " ") != tt.real {
				t.Errorf("outbounds to services: %v, want %s", real, tt.real)
			}
			// Only one inbound of c takes traffic: one is not ready, one serves nothing.
			if list := m.LegacyService("c").Endpoints; len(list) != 1 || list[0].Port != 82 || list[0].Zone != "zone-a" {
				t.Errorf("endpoints of c: %v", list)
			}
			if m.LegacyService("nobody") != nil {
				t.Error("a service that nobody has is there")
			}
		})
	}
}

// TestLegacyTouched names, for one edit each, exactly who is touched.
func TestLegacyTouched(t *testing.T) {
	const b2 = "{type: Dataplane, mesh: m, name: b2, networking: {address: 10.0.0.9, inbound: [{port: 81, tags: {kuma.io/service: b, kuma.io/protocol: %s}}], transparentProxying: {reachableServices: [x]}}}"
	const a2 = "{type: Dataplane, mesh: m, name: a2, networking: {address: 10.0.0.9, inbound: [{port: 80, tags: {kuma.io/service: a}}], transparentProxying: {reachableServices: [x]}}}"
	for _, tt := range []struct{ name, mode, edit, want string }{
		{"an endpoint more", "Disabled", fmt.Sprintf(b2, "http"), "b2 full, listed endpoints, open endpoints, own endpoints"},
		{"another protocol", "Disabled", fmt.Sprintf(b2, "tcp"), "b2 full, listed full, open full, own full"},
		{"by hand", "Disabled", a2, "a2 full, hand endpoints, open endpoints, own endpoints"},
		{"nobody has outbounds to addresses", "Exclusive", fmt.Sprintf(b2, "http"), "b2 full"},
		{"but by hand", "Exclusive", a2, "a2 full, hand endpoints"},
		{"an identity means nothing without mTLS", "Disabled", "{type: DataplaneInsight, mesh: m, name: listed, mTLS: {issuedBackend: ca}}", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := newState("zone-a")
			// Without the service object, whose clients would be touched too.
			all := append(yaml(t, strings.Replace(legacyWorld, "Disabled", tt.mode, 1)), legacyVIPs(t))
			st.load(slices.DeleteFunc(all, func(r *resource.Resource) bool { return r.Kind == resource.KindMeshService }))
			c := st.apply([]store.Event{{Revision: 9, Action: store.Create, New: yaml(t, tt.edit)[0]}})
			if got := scopes(c); got != tt.want {
				t.Errorf("touched %s, want %s", got, tt.want)
			}
		})
	}
	t.Run("an address", func(t *testing.T) {
		st := newState("zone-a")
		st.load(yaml(t, legacyWorld))
		v := legacyVIPs(t)
		if got := scopes(st.apply([]store.Event{{Revision: 9, Action: store.Create, New: v}})); got != "hand full, listed full, open full, own full" {
			t.Errorf("touched %s", got)
		}
		if got := scopes(st.apply([]store.Event{{Revision: 10, Action: store.Update, Old: v, New: v}})); got != "" {
			t.Errorf("touched %s by a write that changes nothing", got)
		}
	})
}

func scopes(c Change) string {
	var out []string
	for _, id := range slices.SortedFunc(maps.Keys(c.Proxies), func(a, b ProxyID) int { return strings.Compare(a.Name, b.Name) }) {
		word := "endpoints"
		if c.Proxies[id]&ScopeFull != 0 {
			word = "full"
		}
		out = append(out, id.Name+" "+word)
	}
	for mesh := range c.All {
		out = append(out, "all of "+mesh)
	}
	return strings.Join(out, ", ")
}
