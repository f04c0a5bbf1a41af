package xds

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/policy/meshhttproute"
	"github.com/kuma-dp/kuma-dp/resource"
)

const routesYAML = `
type: Mesh
name: m
meshServices: {mode: MODE}
---
type: Dataplane
mesh: m
name: client
networking:
  address: 10.0.0.1
  inbound: [{port: 80, tags: {kuma.io/service: client, kuma.io/protocol: http}}]
  transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001, reachableBackends: {refs: [{kind: MeshService, name: a}]}, reachableServices: [a]}
---
{type: Dataplane, mesh: m, name: a-1, networking: {address: 10.0.0.2, inbound: [{port: 80, tags: {kuma.io/service: a, kuma.io/protocol: http}}]}}
---
{type: Dataplane, mesh: m, name: b-1, networking: {address: 10.0.0.3, inbound: [{port: 80, tags: {kuma.io/service: b, kuma.io/protocol: http, version: v1}}]}}
---
{type: MeshService, mesh: m, name: a, spec: {selector: {dataplaneTags: {kuma.io/service: a}}, ports: [{port: 80, targetPort: 80, appProtocol: http}]}}
---
{type: MeshService, mesh: m, name: b, labels: {tier: gold}, spec: {selector: {dataplaneTags: {kuma.io/service: b}}, ports: [{port: 80, targetPort: 80, appProtocol: http}]}}
---
type: MeshHTTPRoute
mesh: m
name: r
spec:
  to:
  - targetRef: {kind: MeshService, name: a}
    rules:
    - matches: [{path: {type: PathPrefix, value: /a}}]
      default: {backendRefs: [{kind: MeshService, labels: {tier: gold}, port: 80}, {kind: MeshServiceSubset, name: b, tags: {version: v1}, weight: 3}, {kind: MeshService, name: late, port: 80}]}
`

// What is remembered must not outlive what it was made from: after every change of what a route leads to, a generator that
// has seen all before makes what a new one makes.
func TestRoutesFollowTheMesh(t *testing.T) {
	changes := []struct {
		name, yaml string
		same       bool // changes nothing for the client
	}{
		{name: "a service that was not there", yaml: "{type: MeshService, mesh: m, name: late, spec: {ports: [{port: 80, appProtocol: http}]}}"},
		{name: "it speaks something else", yaml: "{type: MeshService, mesh: m, name: late, spec: {ports: [{port: 80, appProtocol: tcp}]}}"},
		{name: "and loses the port", yaml: "{type: MeshService, mesh: m, name: late, spec: {ports: [{port: 81, appProtocol: http}]}}", same: true},
		{name: "another service of the labels, which is younger", yaml: "{type: MeshService, mesh: m, name: gold, labels: {tier: gold}, spec: {ports: [{port: 80, appProtocol: http}]}}", same: true},
		{name: "the older one loses the labels", yaml: "{type: MeshService, mesh: m, name: b, labels: {tier: tin}, spec: {selector: {dataplaneTags: {kuma.io/service: b}}, ports: [{port: 80, targetPort: 80, appProtocol: http}]}}"},
		{name: "an endpoint by tags", yaml: "{type: Dataplane, mesh: m, name: b-2, networking: {address: 10.0.0.4, inbound: [{port: 80, tags: {kuma.io/service: b, kuma.io/protocol: http, version: v1}}]}}"},
		{name: "which speaks something else", yaml: "{type: Dataplane, mesh: m, name: b-2, networking: {address: 10.0.0.4, inbound: [{port: 80, tags: {kuma.io/service: b, kuma.io/protocol: tcp, version: v1}}]}}"},
		{name: "the service is outside", yaml: `{type: ExternalService, mesh: m, name: x, tags: {kuma.io/service: b, kuma.io/protocol: http, version: v1}, networking: {address: "192.0.2.1:80"}}`},
		{name: "timeouts of the outbound and of a backend", yaml: "{type: MeshTimeout, mesh: m, name: t, spec: {to: [{targetRef: {kind: MeshService, name: a}, default: {http: {requestTimeout: 7s}}}, {targetRef: {kind: MeshService, name: b}, default: {connectionTimeout: 3s}}]}}"},
		{name: "another timeout", yaml: "{type: MeshTimeout, mesh: m, name: t, spec: {to: [{targetRef: {kind: MeshService, name: a}, default: {http: {requestTimeout: 8s}}}, {targetRef: {kind: MeshService, name: b}, default: {connectionTimeout: 3s}}]}}"},
		{name: "another timeout of a backend", yaml: "{type: MeshTimeout, mesh: m, name: t, spec: {to: [{targetRef: {kind: MeshService, name: a}, default: {http: {requestTimeout: 8s}}}, {targetRef: {kind: MeshService, name: gold}, default: {connectionTimeout: 4s}}]}}"},
		{name: "another policy of lower precedence", yaml: "{type: MeshHTTPRoute, mesh: m, name: s, spec: {to: [{targetRef: {kind: MeshService, name: a}, rules: [{matches: [{method: GET}], default: {backendRefs: [{kind: MeshService, name: gold, port: 80}]}}]}]}}"},
		{name: "connections instead of requests do not count", yaml: "{type: MeshTCPRoute, mesh: m, name: c, spec: {to: [{targetRef: {kind: MeshService, name: a}, rules: [{default: {backendRefs: [{kind: MeshService, name: gold, port: 80}]}}]}]}}", same: true},
	}
	for _, mode := range []string{"Exclusive", "Everywhere"} {
		t.Run(mode, func(t *testing.T) {
			s := &scene{zone: "zone-a"}
			if skipped := s.add(t, []byte(strings.Replace(routesYAML, "MODE", mode, 1))); skipped != nil {
				t.Fatal(skipped)
			}
			if mode == "Everywhere" {
				s.addLegacyVIPs(t, map[string]string{})
			}
			vip := func(_ int, name string) string {
				return map[string]string{"a": "241.0.0.1", "b": "241.0.0.2", "late": "241.0.0.3", "gold": "241.0.0.4"}[name]
			}
			live := follow(t, "zone-a")
			old, book := NewGenerator(all.Effects()), newRulebook(all.Kinds(), "zone-a")
			s.world(t, vip, nil)
			w := live.take(s.resources)
			before := shapeOf(t, generateBy(t, old, book, w))
			for _, c := range changes {
				if skipped := s.add(t, []byte(c.yaml)); skipped != nil {
					t.Fatal(skipped)
				}
				s.world(t, vip, nil)
				w = live.take(s.resources)
				got := shapeOf(t, generateBy(t, old, book, w))
				want := shapeOf(t, generateBy(t, NewGenerator(all.Effects()), newRulebook(all.Kinds(), "zone-a"), w))
				if diff := gocmp.Diff(want, got); diff != "" {
					t.Errorf("%s: (-new generator +old one):\n%s", c.name, diff)
				}
				if same := gocmp.Equal(before, got); same != c.same && mode == "Exclusive" {
					t.Errorf("%s: configuration is the same: %v, want %v", c.name, same, c.same)
				}
				before = got
			}
			if len(old.routings.young) == 0 || len(old.listenersOf.young) == 0 || len(old.clustersOf.young) == 0 {
				t.Error("nothing was remembered")
			}
		})
	}
}

func generateBy(t *testing.T, g *Generator, book *rulebook, w *topology.World) *Snapshot {
	t.Helper()
	m := w.Meshes["m"]
	rules, err := book.rules(w, m, m.Dataplane("client"), false)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := g.Generate(Input{Mesh: m, Dataplane: m.Dataplane("client"), Zone: "zone-a", Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

// A name that belongs to the proxy, or to a service object, does not lead to a kuma.io/service of that name.
func TestForeignNames(t *testing.T) {
	for _, name := range []string{"ads_cluster", "localhost:80", "kuma:envoy:admin", "_kuma:x", "direct_access", "outbound:passthrough:ipv4", "inbound:passthrough:ipv6"} {
		s := &scene{zone: "zone-a"}
		yaml := strings.Replace(strings.Replace(routesYAML, "MODE", "Exclusive", 1), "{kind: MeshServiceSubset, name: b, tags: {version: v1}, weight: 3}", "{kind: MeshService, name: b-2}", 1)
		if skipped := s.add(t, []byte(yaml)); skipped != nil {
			t.Fatal(skipped)
		}
		for _, r := range s.resources { // the schema would not let the name pass; a resource of another origin may have it
			if r.Kind == "MeshHTTPRoute" {
				setBackendName(t, r, name)
			}
		}
		s.resources = append(s.resources, &resource.Resource{
			Meta: resource.Meta{Key: resource.Key{Kind: resource.KindDataplane, Mesh: "m", Name: "evil"}},
			Spec: &resource.Dataplane{Networking: &resource.Networking{Address: "10.6.6.6", Inbound: []*resource.Inbound{
				{Port: 80, Tags: map[string]string{resource.TagService: name, resource.TagProtocol: "http"}},
			}}},
		})
		w := s.world(t, func(_ int, service string) string { return map[string]string{"a": "241.0.0.1"}[service] }, nil)
		snap := generate(t, NewGenerator(all.Effects()), w, "m", "client", Meta{AdminPort: 9901}, "zone-a")
		if snap.Resources(TypeListener)["outbound:241.0.0.1:80"] == nil {
			t.Fatal("the route is not in force")
		}
		if r := snap.Resources(TypeEndpoint)[name]; r != nil {
			t.Errorf("a route leads to endpoints that call themselves %s", name)
		}
	}
}

func setBackendName(t *testing.T, r *resource.Resource, name string) {
	t.Helper()
	for _, rule := range r.Spec.(*meshhttproute.Spec).To[0].Rules {
		rule.Default.BackendRefs[1].Name = name
	}
}
