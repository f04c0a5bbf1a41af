package alltest

import (
	"fmt"
	"strings"

	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Kinds are those of Policy: all with a target reference, and those from before.
func Kinds() []resource.Kind {
	var out []resource.Kind
	for _, k := range all.Kinds() {
		out = append(out, k.Descriptor.Kind)
	}
	older := resource.OlderPolicies()
	return append(out, older[:]...)
}

// Names are those that policies have.
func Names() []string { return []string{"a", "b", "z"} }

// Policy draws a valid policy of any kind, under one of a few names.
func Policy(t *rapid.T) *resource.Resource {
	return PolicyOf(t, rapid.SampledFrom(Kinds()).Draw(t, "kind"), pick(t, "name", Names()...))
}

// PolicyOf draws a valid policy of a kind and name.
func PolicyOf(t *rapid.T, kind resource.Kind, name string) *resource.Resource {
	if draw := olderConfs[kind]; draw != nil {
		return decode(t, olderDocument(t, kind, name, draw(t)))
	}
	// Some targets are not for some kinds: it tries until what it draws is valid.
	return rapid.Custom(func(t *rapid.T) *resource.Resource {
		p, faults, err := read(document(t, kind, name))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if len(faults) > 0 {
			return nil
		}
		return p
	}).Filter(func(p *resource.Resource) bool { return p != nil }).Draw(t, "policy")
}

func document(t *rapid.T, kind resource.Kind, name string) string {
	labels := pick(t, "labels", "", "", "", "labels: {k8s.kuma.io/namespace: ns, kuma.io/policy-role: producer}\n",
		"labels: {k8s.kuma.io/namespace: ns, kuma.io/policy-role: consumer}\n", "labels: {kuma.io/effect: shadow}\n", "labels: {kuma.io/origin: global}\n")
	top := pick(t, "top", "{kind: Mesh}", "{kind: Mesh}", "{kind: MeshSubset, tags: {team: a}}", "{kind: MeshSubset, tags: {kuma.io/service: web}}",
		"{kind: Mesh, proxyTypes: [Sidecar]}", "{kind: MeshService, name: store}", "{kind: MeshHTTPRoute, name: a}")
	var body string
	switch draw := confs[kind]; {
	case draw.to != nil && (draw.from == nil || rapid.Bool().Draw(t, "to")):
		body = "to: [" + list(t, "to", func() string { return "{targetRef: " + destination(t) + ", " + draw.to(t) + "}" }) + "]"
	case draw.from != nil:
		if kind == "MeshRateLimit" || kind == "MeshFaultInjection" { // which ask for it
			top = strings.TrimSuffix(top, "}") + ", proxyTypes: [Sidecar]}"
			top = strings.ReplaceAll(top, ", proxyTypes: [Sidecar], proxyTypes", ", proxyTypes")
		}
		body = "from: [" + list(t, "from", func() string { return "{targetRef: " + client(t, kind) + ", " + draw.from(t) + "}" }) + "]"
	default:
		body = draw.single(t)
	}
	return fmt.Sprintf("type: %s\nmesh: m\nname: %s\n%sspec: {targetRef: %s, %s}\n", kind, name, labels, top, body)
}

func list(t *rapid.T, label string, one func() string) string {
	var out []string
	for range rapid.IntRange(1, 2).Draw(t, label+" items") {
		out = append(out, one())
	}
	return strings.Join(out, ", ")
}

func destination(t *rapid.T) string {
	return pick(t, "destination", "{kind: Mesh}", "{kind: Mesh}", "{kind: MeshService, name: web}", "{kind: MeshService, name: web, namespace: ns}",
		"{kind: MeshService, name: store, namespace: ns, sectionName: main}", "{kind: MeshService, labels: {tier: gold}}", "{kind: MeshService, name: store}",
		"{kind: MeshMultiZoneService, name: both}", "{kind: MeshExternalService, name: outside}", "{kind: MeshExternalService, labels: {tier: gold}}")
}

func client(t *rapid.T, kind resource.Kind) string {
	if kind != "MeshTrafficPermission" && kind != "MeshFaultInjection" {
		return "{kind: Mesh}"
	}
	return pick(t, "client", "{kind: Mesh}", "{kind: MeshSubset, tags: {team: a}}", "{kind: MeshSubset, tags: {team: b}}", "{kind: MeshService, name: edge}")
}

func backend(t *rapid.T) string {
	return pick(t, "backend", "{kind: MeshService, name: store, namespace: ns, port: 80}", "{kind: MeshService, name: web, namespace: ns, port: 80, weight: 3}", "{kind: MeshService, labels: {tier: gold}, port: 81}",
		"{kind: MeshService, name: web}", "{kind: MeshServiceSubset, name: web, tags: {team: a}}", "{kind: MeshMultiZoneService, name: both, port: 80}", "{kind: MeshExternalService, name: outside, port: 80}", "{kind: MeshService, name: late, namespace: ns, port: 80}")
}
