package xds

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// addLegacyVIPs gives every kuma.io/service of an inbound or ExternalService an address in mesh m, and notes its placeholder.
func (s *scene) addLegacyVIPs(t testing.TB, placeholders map[string]string) {
	t.Helper()
	vips := resource.ServiceVIPs{}
	for _, r := range s.resources {
		var names []string
		switch spec := r.Spec.(type) {
		case *resource.Dataplane:
			for _, in := range spec.Networking.Inbound {
				names = append(names, in.Tags[resource.TagService])
			}
		case *resource.ExternalService:
			names = append(names, spec.Tags[resource.TagService])
		}
		for _, name := range names {
			if key := resource.ServiceVIPKey(name); vips[key].Address == "" {
				ip := fmt.Sprintf("240.9.8.%d", len(vips)+100)
				vips[key] = resource.ServiceVIP{Address: ip, Outbounds: []resource.ServiceVIPPort{{Port: 80}}}
				placeholders[ip] = "VIP(legacy/" + name + ")"
			}
		}
	}
	c, err := vips.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s.resources = append(s.resources, &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: resource.KindConfig, Name: resource.ServiceVIPsName("m")}}, Spec: c,
	})
}

const legacyWorld = `
{type: Mesh, name: m, mtls: {enabledBackend: ca-1, backends: [{name: ca-1, type: builtin, mode: PERMISSIVE}]}}
---
{type: Dataplane, mesh: m, name: web-1, networking: {address: 10.0.0.1, inbound: [{port: 8080, tags: {kuma.io/service: web, kuma.io/protocol: http}}], transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}}}
---
{type: Dataplane, mesh: m, name: api-1, networking: {address: 10.0.0.2, inbound: [{port: 9000, tags: {kuma.io/service: api, kuma.io/protocol: http, version: v1}}]}}
---
{type: Dataplane, mesh: m, name: api-2, networking: {address: 10.0.0.3, inbound: [{port: 9000, tags: {kuma.io/service: api, kuma.io/protocol: http, version: v2}}]}}
`

func legacyShape(t *testing.T, g *Generator, proxy string, more ...string) shape {
	t.Helper()
	s := &scene{zone: "zone-a"}
	for _, text := range append([]string{legacyWorld}, more...) {
		if skipped := s.add(t, []byte(text)); skipped != nil {
			t.Fatal(skipped)
		}
	}
	vips := map[string]string{}
	s.addLegacyVIPs(t, vips)
	w := s.world(t, func(i int, _ string) string { return fmt.Sprint("241.0.0.", i) }, nil)
	return replaceVIPs(t, shapeOf(t, generate(t, g, w, "m", proxy, Meta{}, "zone-a")), vips)
}

// TestLegacyReadiness: in a permissive mesh clients encrypt as soon as all proxies of a service have a certificate of the
// authority in force.
func TestLegacyReadiness(t *testing.T) {
	g := NewGenerator(all.Effects())
	insight := func(dp, backend string) string {
		return fmt.Sprintf("{type: DataplaneInsight, mesh: m, name: %s, mTLS: {issuedBackend: %s}}", dp, backend)
	}
	for _, tt := range []struct {
		name string
		more []string
		want bool
	}{
		{"nobody was connected", nil, false},
		{"one of two", []string{insight("api-1", "ca-1")}, false},
		{"both", []string{insight("api-1", "ca-1"), insight("api-2", "ca-1")}, true},
		{"one still has the old authority", []string{insight("api-1", "ca-1"), insight("api-2", "ca-0")}, false},
		{"strict", []string{"{type: Mesh, name: m, mtls: {enabledBackend: ca-1, backends: [{name: ca-1, type: builtin}]}}"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := legacyShape(t, g, "web-1", tt.more...)["Cluster"]["api"].(map[string]any)
			if _, secured := c["transportSocket"]; secured != tt.want {
				t.Errorf("secured %v, want %v", secured, tt.want)
			}
		})
	}
}

// TestLegacySubset: an outbound written by hand leads to the endpoints that have all of its tags, also when only these
// change.
func TestLegacySubset(t *testing.T) {
	s := &scene{zone: "zone-a"}
	s.add(t, []byte(strings.Replace(legacyWorld, ", mode: PERMISSIVE", "", 1)))
	s.add(t, []byte("{type: Dataplane, mesh: m, name: hand, networking: {address: 10.0.0.9, inbound: [{port: 80, tags: {kuma.io/service: hand}}], outbound: ["+
		"{port: 1001, tags: {kuma.io/service: api, version: v2}}, {port: 1002, tags: {kuma.io/service: api, mesh: m}}, {port: 1003, tags: {kuma.io/service: api, mesh: other}}]}}"))
	w := s.world(t, nil, nil)
	g := NewGenerator(all.Effects())
	snap := generate(t, g, w, "m", "hand", Meta{}, "zone-a")
	got := shapeOf(t, snap)
	name := effect.LegacyCluster(map[string]string{resource.TagService: "api", "version": "v2"})
	if names := slices.Sorted(maps.Keys(got["Cluster"])); !slices.Equal(names, []string{"api", name, "localhost:80"}) {
		t.Fatalf("clusters %v", names)
	}
	tls := got["Cluster"][name].(map[string]any)["transportSocket"].(map[string]any)["typedConfig"].(map[string]any)
	if tls["sni"] != "api{mesh=m,version=v2}" {
		t.Errorf("sni %v", tls["sni"])
	}
	addresses := func(s *Snapshot) string { return fmt.Sprint(shapeOf(t, s)["ClusterLoadAssignment"][name]) }
	if text := addresses(snap); !strings.Contains(text, "10.0.0.3") || strings.Contains(text, "10.0.0.2") {
		t.Errorf("endpoints of version v2: %s", text)
	}
	s.add(t, []byte("{type: Dataplane, mesh: m, name: api-3, networking: {address: 10.0.0.4, inbound: [{port: 9000, tags: {kuma.io/service: api, kuma.io/protocol: http, version: v2}}]}}"))
	next, err := g.GenerateEndpoints(snap, s.world(t, nil, nil).Meshes["m"])
	if err != nil {
		t.Fatal(err)
	}
	if text := addresses(next); !strings.Contains(text, "10.0.0.3") || !strings.Contains(text, "10.0.0.4") || strings.Contains(text, "10.0.0.2") {
		t.Errorf("endpoints of version v2 after another came: %s", text)
	}
}

// TestLegacyFollowsRules: what was made with other rules before must not be used again.
func TestLegacyFollowsRules(t *testing.T) {
	g := NewGenerator(all.Effects())
	for _, seconds := range []string{"3s", "4s", "3s"} {
		got := legacyShape(t, g, "web-1", "{type: MeshTimeout, mesh: m, name: t, spec: {to: [{targetRef: {kind: MeshService, name: api}, default: {connectionTimeout: "+
			seconds+", http: {requestTimeout: "+seconds+"}}}]}}")
		if c := got["Cluster"]["api"].(map[string]any); c["connectTimeout"] != seconds {
			t.Errorf("cluster has %v, want %s", c["connectTimeout"], seconds)
		}
		if c := got["Cluster"]["web"].(map[string]any); c["connectTimeout"] != nil {
			t.Errorf("another service has %v", c["connectTimeout"])
		}
		if l := fmt.Sprint(got["Listener"]["outbound:VIP(legacy/api):80"]); !strings.Contains(l, "timeout:"+seconds) {
			t.Errorf("listener has no timeout of %s: %s", seconds, l)
		}
	}
}

// TestLegacyNamesTakeNothing: whoever may name a service must not get at a cluster of the proxy itself.
func TestLegacyNamesTakeNothing(t *testing.T) {
	names := []string{"localhost:8080", "inbound:passthrough:ipv4", "outbound:passthrough:ipv4", "m_real__zone-a_msvc_80", "kuma:envoy:admin", "_kuma:metrics:hijacker", "ads_cluster", "access_log_sink", "direct_access"}
	more := []string{"{type: MeshService, mesh: m, name: real, spec: {selector: {dataplaneTags: {kuma.io/service: api}}, ports: [{port: 80, targetPort: 9000, appProtocol: http}]}}"}
	without := legacyShape(t, NewGenerator(all.Effects()), "web-1", more...)
	for i, n := range names {
		more = append(more, fmt.Sprintf("{type: Dataplane, mesh: m, name: evil-%d, networking: {address: 10.0.1.%d, inbound: [{port: 80, tags: {kuma.io/service: %q}}]}}", i, i+1, n))
	}
	with := legacyShape(t, NewGenerator(all.Effects()), "web-1", more...)
	if diff := cmp.Diff(without, with); diff != "" {
		t.Errorf("services of evil names changed the configuration (-before +after):\n%s", diff)
	}
}

func TestLegacyHostnames(t *testing.T) {
	outbounds := []topology.LegacyOutbound{}
	for i, name := range []string{"backend_ns_svc_80", "a_b", "a.b", "real", "Upper", "not a name", "10.0.0.1:80", "-x", strings.Repeat("l", 64)} {
		outbounds = append(outbounds, topology.LegacyOutbound{Address: fmt.Sprint("240.0.0.", i), Tags: map[string]string{resource.TagService: name}})
	}
	got := map[string][]string{"real.mesh": {"241.0.0.0"}}
	addLegacyNames(got, outbounds, "mesh")
	want := map[string][]string{
		"backend_ns_svc_80.mesh": {"240.0.0.0"}, "backend.ns.svc.80.mesh": {"240.0.0.0"},
		"a_b.mesh": {"240.0.0.1"}, "a.b.mesh": {"240.0.0.2"}, "real.mesh": {"241.0.0.0"}, "Upper.mesh": {"240.0.0.4"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	for name, want := range map[string]bool{"mesh": true, "a.b-c_d.x": true, "": false, "a..b": false, "a.": false, strings.Repeat("a.", 127): false, strings.Repeat("a.", 125) + "abc": true} {
		if IsDomain(name) != want {
			t.Errorf("IsDomain(%.20q) is not %v", name, want)
		}
	}
}

// TestLegacyTable is the DNS table of a proxy in a mesh without services.
func TestLegacyTable(t *testing.T) {
	s := &scene{zone: "zone-a"}
	s.add(t, []byte(legacyWorld))
	s.addLegacyVIPs(t, map[string]string{})
	snap := generate(t, NewGenerator(all.Effects()), s.world(t, nil, nil), "m", "web-1", Meta{DNSPort: 15054}, "zone-a")
	table := fmt.Sprint(shapeOf(t, snap)["Listener"]["kuma:dns"])
	for _, want := range []string{"name:api.mesh", "name:web.mesh", "[240.9.8.101 ::ffff:f009:865]"} {
		if !strings.Contains(table, want) {
			t.Errorf("%s is not in %s", want, table)
		}
	}
}
