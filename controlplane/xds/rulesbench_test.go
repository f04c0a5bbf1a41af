package xds

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

const (
	benchServices = 500
	benchPolicies = 1000
)

// manyPolicies are 500 services and 1,000 policies that all apply to the proxy client: half of them timeouts, one for each
// service, the rest divided among retries, circuit breakers and permissions. Mode is that of the mesh.
func manyPolicies(b *testing.B, mode string) []*resource.Resource {
	b.Helper()
	var docs strings.Builder
	fmt.Fprintf(&docs, `
type: Mesh
name: default
meshServices: {mode: %s}
---
type: Dataplane
mesh: default
name: client
networking:
  address: 10.0.0.1
  inbound: [{port: 8080, tags: {kuma.io/service: client, kuma.io/protocol: http}}]
  transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}
`, mode)
	for i := range benchServices {
		fmt.Fprintf(&docs, `
---
type: MeshService
mesh: default
name: s-%d
labels: {team: t-%d}
spec: {selector: {dataplaneTags: {app: s-%d}}, ports: [{name: main, port: 80, targetPort: 8080, appProtocol: http}]}
`, i, i%20, i)
	}
	doc := func(kind string, n int, spec string) {
		fmt.Fprintf(&docs, "\n---\n{type: %s, mesh: default, name: p-%d, spec: %s}\n", kind, n, spec)
	}
	to := func(n int, conf string) string {
		return fmt.Sprintf("{to: [{targetRef: {kind: MeshService, name: s-%d}, default: %s}]}", n%benchServices, conf)
	}
	for n := range benchPolicies - 3 {
		switch {
		case n < benchServices:
			doc("MeshTimeout", n, to(n, fmt.Sprintf("{connectionTimeout: 2s, http: {requestTimeout: %ds}}", n%60+1)))
		case n%10 < 5:
			doc("MeshRetry", n, to(n, "{http: {numRetries: 3, backOff: {baseInterval: 1s}}}"))
		case n%10 < 8:
			doc("MeshCircuitBreaker", n, to(n, "{connectionLimits: {maxConnections: 10}}"))
		default:
			doc("MeshTrafficPermission", n, fmt.Sprintf("{from: [{targetRef: {kind: MeshService, name: s-%d}, default: {action: Allow}}]}", n%benchServices))
		}
	}
	s := &scene{zone: "zone-1"}
	if skipped := s.add(b, []byte(docs.String())); skipped != nil {
		b.Fatal(skipped)
	}
	out := slices.Concat(s.resources, all.DefaultPolicies("default", nil))
	for i, r := range out {
		r.Version = uint64(i + 1)
	}
	return out
}

func benchmarkRules(b *testing.B, mode string, prepare func(i int) (*rulebook, *topology.World)) {
	b.Helper()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		book, w := prepare(i)
		m := w.Meshes["default"]
		b.StartTimer()
		rules, err := book.rules(w, m, m.Dataplane("client"), false)
		if err != nil {
			b.Fatal(err)
		}
		if got := len(rules["MeshTimeout"].ToResources); got != benchServices+1 {
			b.Fatalf("%d rules for timeouts in mode %s", got, mode)
		}
	}
}

// BenchmarkRulesCold is the rules of one proxy with nothing remembered.
func BenchmarkRulesCold(b *testing.B) {
	for _, mode := range []string{"Exclusive", "Everywhere"} {
		b.Run(mode, func(b *testing.B) {
			w := topology.Build("zone-1", manyPolicies(b, mode)...)
			benchmarkRules(b, mode, func(int) (*rulebook, *topology.World) { return newRulebook(all.Kinds(), "zone-1"), w })
		})
	}
}

// BenchmarkRulesAfterChange is the rules of one proxy after a change of one policy: for a service, and for the mesh, which
// changes the rules of every service.
func BenchmarkRulesAfterChange(b *testing.B) {
	for _, tt := range []struct{ name, policy string }{{"service", "p-42"}, {"mesh", "mesh-timeout-all-default"}} {
		b.Run(tt.name, func(b *testing.B) {
			resources := manyPolicies(b, "Exclusive")
			at := slices.IndexFunc(resources, func(r *resource.Resource) bool { return r.Kind == "MeshTimeout" && r.Name == tt.policy })
			before := topology.Build("zone-1", resources...)
			book := newRulebook(all.Kinds(), "zone-1")
			// Two pictures that differ in one policy, as a tracker makes them: the rest is shared.
			after := *before
			mesh := *before.Meshes["default"]
			after.Meshes = map[string]*topology.Mesh{"default": &mesh}
			timeouts := before.Meshes["default"].Policies["MeshTimeout"]
			benchmarkRules(b, "Exclusive", func(int) (*rulebook, *topology.World) {
				changed := resources[at].Clone()
				changed.Version++
				list := slices.Clone(timeouts)
				list[slices.IndexFunc(list, func(r *resource.Resource) bool { return r.Name == tt.policy })] = changed
				mesh.Policies = map[resource.Kind][]*resource.Resource{}
				for k, v := range before.Meshes["default"].Policies {
					mesh.Policies[k] = v
				}
				mesh.Policies["MeshTimeout"] = list
				m := before.Meshes["default"]
				if _, err := book.rules(before, m, m.Dataplane("client"), false); err != nil {
					b.Fatal(err)
				}
				return book, &after
			})
		})
	}
}
