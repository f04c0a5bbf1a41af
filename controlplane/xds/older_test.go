package xds

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/policy/older"
	"github.com/kuma-dp/kuma-dp/resource"
)

// olderScene has a proxy with an inbound of requests and one of connections, and an outbound by tags.
const olderScene = `{type: Mesh, name: m, mtls: {enabledBackend: ca, backends: [{name: ca, type: builtin}]}, logging: {defaultBackend: f, backends: [{name: f, type: file, conf: {path: /old}}]}, tracing: {defaultBackend: z, backends: [{name: z, type: zipkin, conf: {url: 'http://old:9411/'}}]}}
---
{type: Dataplane, mesh: m, name: d, networking: {address: 10.0.0.1, inbound: [{port: 80, tags: {kuma.io/service: a, kuma.io/protocol: http}}, {port: 81, tags: {kuma.io/service: b, kuma.io/protocol: tcp}}], transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001}}}
---
`

// olderShape is the configuration of the proxy of olderScene under policies, as texts of listeners and clusters by name.
func olderShape(t *testing.T, policies ...string) map[string]string {
	t.Helper()
	s := &scene{zone: "zone-a"}
	if skipped := s.add(t, []byte(olderScene+strings.Join(policies, "\n---\n"))); skipped != nil {
		t.Fatal(skipped)
	}
	s.addLegacyVIPs(t, map[string]string{})
	w := s.world(t, func(int, string) string { return "241.0.0.1" }, nil)
	out := map[string]string{}
	for kind, byName := range shapeOf(t, generate(t, NewGenerator(all.Effects()), w, "m", "d", Meta{}, "zone-a")) {
		for name, r := range byName {
			if kind == "Listener" || kind == "Cluster" {
				b, err := json.Marshal(r)
				if err != nil {
					t.Fatal(err)
				}
				out[name] += string(b) // of a listener and a cluster of one name
			}
		}
	}
	return out
}

// TestOlderAndNewer: where a kind and the one that took its place meet (contract effects-security.md §4, §5, §7 to §9).
func TestOlderAndNewer(t *testing.T) {
	const (
		requests, connections = "inbound:10.0.0.1:80", "inbound:10.0.0.1:81"
		outbound, past        = "outbound:240.9.8.100:80", "outbound:passthrough:ipv4"
		permission            = "{type: TrafficPermission, mesh: m, name: old-permission, sources: [{match: {kuma.io/service: '*'}}], destinations: [{match: {kuma.io/service: a}}]}"
		limit                 = "{type: RateLimit, mesh: m, name: l, sources: [{match: {kuma.io/service: '*'}}], destinations: [{match: {kuma.io/service: b}}], conf: {http: {requests: 1, interval: 1s}}}"
		fault                 = "{type: FaultInjection, mesh: m, name: f, sources: [{match: {kuma.io/service: '*'}}], destinations: [{match: {kuma.io/service: a}}], conf: {abort: {httpStatus: 503, percentage: 1}}}"
		logs                  = "{type: TrafficLog, mesh: m, name: l, sources: [{match: {kuma.io/service: '*'}}], destinations: [{match: {kuma.io/service: '*'}}]}"
		trace                 = "{type: TrafficTrace, mesh: m, name: t, selectors: [{match: {kuma.io/service: '*'}}]}"

		newPermission = "{type: MeshTrafficPermission, mesh: m, name: p, spec: {targetRef: {kind: MeshSubset, tags: {kuma.io/service: SERVICE}}, from: [{targetRef: {kind: Mesh}, default: {action: ACTION}}]}}"
		newLimit      = "{type: MeshRateLimit, mesh: m, name: l, spec: {targetRef: {kind: Mesh, proxyTypes: [Sidecar]}, from: [{targetRef: {kind: Mesh}, default: {local: {http: {requestRate: {num: 2, interval: 1s}}, tcp: {connectionRate: {num: 2, interval: 1s}}}}}]}}"
		newFault      = "{type: MeshFaultInjection, mesh: m, name: f, spec: {targetRef: {kind: Mesh, proxyTypes: [Sidecar]}, from: [{targetRef: {kind: Mesh}, default: {http: [{abort: {httpStatus: 500, percentage: 1}}]}}]}}"
		newLogs       = "{type: MeshAccessLog, mesh: m, name: l, spec: {to: [{targetRef: {kind: Mesh}, default: {backends: BACKENDS}}]}}"
		newTrace      = "{type: MeshTrace, mesh: m, name: t, spec: {default: {backends: [{type: Zipkin, zipkin: {url: 'http://new:9411/'}}]}}}"
	)
	permits := func(service, action string) string {
		return strings.NewReplacer("SERVICE", service, "ACTION", action).Replace(newPermission)
	}
	with := func(backends string) string { return strings.Replace(newLogs, "BACKENDS", backends, 1) }
	const closed = `filters.network.rbac.v3.RBAC","rules":{},"statPrefix"`
	for _, tt := range []struct {
		name     string
		policies []string
		// has and lacks are texts of a resource by its name.
		has, lacks map[string][]string
	}{
		{
			"the inbound that no permission is for is closed",
			[]string{permission},
			map[string][]string{requests: {"old-permission"}, connections: {closed}},
			map[string][]string{requests: {"http.rbac"}},
		},
		{
			"a denial takes the place of a permission",
			[]string{permission, permits("a", "Deny")},
			map[string][]string{requests: {`http.rbac.v3.RBAC","rules":{}}`}, connections: {closed}},
			map[string][]string{requests: {"old-permission", "network.rbac"}},
		},
		{
			"a newer permission opens what no older one is for",
			[]string{permission, permits("b", "Allow")},
			map[string][]string{requests: {"old-permission"}, connections: {`{"MeshTrafficPermission":{"permissions":[{"any":true}],"principals":[{"any":true}]`}},
			map[string][]string{connections: {closed}},
		},
		{
			"limits of requests hold off limits of connections",
			[]string{limit, newLimit},
			map[string][]string{requests: {`"maxTokens":2`, "network.local_ratelimit"}},
			map[string][]string{connections: {"local_ratelimit"}},
		},
		{"faults", []string{fault, newFault}, map[string][]string{requests: {`"httpStatus":503`}}, map[string][]string{requests: {`"httpStatus":500`}}},
		{"logs", []string{logs}, map[string][]string{outbound: {"/old", `\"a\" \"a\"`}, past: {"/old"}}, map[string][]string{requests: {"accessLog"}}},
		{"no logs", []string{logs, with("[]")}, map[string][]string{past: {"/old"}}, map[string][]string{outbound: {"accessLog"}}},
		{"newer logs", []string{logs, with("[{type: File, file: {path: /new}}]")}, map[string][]string{outbound: {"/new"}, past: {"/old", "/new"}}, map[string][]string{outbound: {"/old"}}},
		{"spans", []string{trace}, map[string][]string{requests: {"tracing:z"}, outbound: {"tracing:z"}, "tracing:z": {`"address":"old","portValue":9411`}}, nil},
		{
			"newer spans",
			[]string{trace, newTrace},
			map[string][]string{requests: {"meshtrace:zipkin"}, outbound: {"meshtrace:zipkin"}, "tracing:z": {""}},
			map[string][]string{requests: {"tracing:z"}, outbound: {"tracing:z"}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := olderShape(t, tt.policies...)
			for name, texts := range tt.has {
				for _, text := range texts {
					if got[name] == "" || !strings.Contains(got[name], text) {
						t.Errorf("%s has no %s: %s", name, text, got[name])
					}
				}
			}
			for name, texts := range tt.lacks {
				for _, text := range texts {
					if got[name] == "" || strings.Contains(got[name], text) {
						t.Errorf("%s has %s: %s", name, text, got[name])
					}
				}
			}
		})
	}
}

// TestOlderRulesStay: the rules of a proxy are made anew only when something changes that they come from, and a mesh without
// such policies has none.
func TestOlderRulesStay(t *testing.T) {
	s := &scene{zone: "zone-a"}
	s.add(t, []byte(olderScene))
	build := func() *topology.World { return topology.Build("zone-a", slices.Clone(s.resources)...) }
	book := newRulebook(all.Kinds(), "zone-a")
	rulesOf := func(w *topology.World) any {
		m := w.Meshes["m"]
		rules, err := book.rules(w, m, m.Dataplane("d"), false)
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := rules[older.Name]; ok {
			return r
		}
		return nil
	}
	w := build()
	if r := rulesOf(w); r != nil || book.book(w, w.Meshes["m"]).older != nil {
		t.Errorf("rules without policies: %v", r)
	}
	add := func(text string) {
		if skipped := s.add(t, []byte(text)); skipped != nil {
			t.Fatal(skipped)
		}
	}
	add("{type: TrafficTrace, mesh: m, name: t, selectors: [{match: {kuma.io/service: a}}]}")
	first := rulesOf(build())
	add("{type: MeshTimeout, mesh: m, name: t, spec: {to: [{targetRef: {kind: Mesh}, default: {connectionTimeout: 1s}}]}}")
	if again := rulesOf(build()); first == nil || again != first {
		t.Error("another policy made the rules anew")
	}
	add("{type: TrafficTrace, mesh: m, name: t, selectors: [{match: {kuma.io/service: b}}], conf: {backend: z}}")
	second := rulesOf(build())
	if second == first {
		t.Error("the policy has changed, but not the rules")
	}
	add("{type: Mesh, name: m, tracing: {backends: [{name: z, type: zipkin, conf: {url: 'http://elsewhere:9411/'}}]}}")
	if third := rulesOf(build()); third == second {
		t.Error("the backend has changed, but not the rules")
	}
}

// TestOlderPoliciesReachProxies: a connected proxy is told what a policy of its own changes, and nothing of others'.
func TestOlderPoliciesReachProxies(t *testing.T) {
	r := newRig(t)
	other := node("other-1")
	other.Metadata.Fields["dataplane.resource"] = structpb.NewStringValue(
		strings.NewReplacer("client-1", "other-1", `"client"`, `"other"`, "10.0.0.9", "10.0.0.8").Replace(clientJSON))
	client1, other1 := r.delta(r.ctx(), node("client-1"), nil), r.delta(r.ctx(), other, nil)
	for _, p := range []*deltaPeer{client1, other1} {
		p.subscribe(TypeListener)
		p.ack(p.next())
	}
	told := func(p *deltaPeer, listener, text string, want bool) {
		t.Helper()
		a := p.next()
		p.ack(a)
		if !slices.Equal(a.names(), []string{listener}) || bytes.Contains(a.resources[listener].Any.Value, []byte(text)) != want {
			t.Errorf("told %v, want %s with %q: %t", a.names(), listener, text, want)
		}
	}
	permission := func(name, destination string) {
		r.put("{type: TrafficPermission, mesh: default, name: " + name + ", sources: [{match: {kuma.io/service: web}}], destinations: [{match: {kuma.io/service: " + destination + "}}]}")
	}
	permission("to-client", "client")
	told(client1, "inbound:10.0.0.9:9080", "to-client", true)
	permission("to-other", "other")
	told(other1, "inbound:10.0.0.8:9080", "to-other", true)
	r.delete(resource.KindTrafficPermission, "to-client")
	told(client1, "inbound:10.0.0.9:9080", "to-client", false)
	permission("to-other", "nobody")
	told(other1, "inbound:10.0.0.8:9080", "to-other", false)
}
