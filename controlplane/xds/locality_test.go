package xds

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/all"
)

// TestArrangedEndpointsStayArranged: endpoints that come later are put where a MeshLoadBalancingStrategy wants them, also
// when nothing but the endpoints is made again.
func TestArrangedEndpointsStayArranged(t *testing.T) {
	world := func(more string) *topology.World {
		s := &scene{zone: "zone-a"}
		for _, file := range []string{"worlds/mtls/world.yaml", "meshloadbalancingstrategy/60-cross-priorities/input.yaml"} {
			data, err := os.ReadFile("testdata/effects/" + file)
			if err != nil {
				t.Fatal(err)
			}
			s.add(t, data)
		}
		s.add(t, []byte(more))
		return s.world(t, func(i int, _ string) string { return fmt.Sprintf("241.0.%d.%d", i/250, i%250+1) }, nil)
	}
	const third = `
{type: Dataplane, mesh: m, name: orders-9, networking: {address: 10.0.0.99, inbound: [{port: 9000, tags: {app: orders, kuma.io/service: orders, kuma.io/protocol: http}}]}}`
	g := NewGenerator(all.Effects())
	before := generate(t, g, world(""), "m", "web-1", Meta{}, "zone-a")
	after := world(third)
	got, err := g.GenerateEndpoints(before, after.Meshes["m"])
	if err != nil {
		t.Fatal(err)
	}
	const name = "m_orders-all__zone-a_mzsvc_80"
	want := generate(t, NewGenerator(all.Effects()), after, "m", "web-1", Meta{}, "zone-a").Resources(TypeEndpoint)[name]
	have := got.Resources(TypeEndpoint)[name]
	if have.Version != want.Version {
		t.Errorf("endpoints alone: %v, all of it: %v", jsonOf(t, have), jsonOf(t, want))
	}
	text, err := json.Marshal(jsonOf(t, have))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{"10.0.0.99", `"priority":2`, `"overprovisioningFactor":200`} {
		if !strings.Contains(string(text), w) {
			t.Errorf("no %s in %s", w, text)
		}
	}
}

// TestEgressPolicies: what limits, checks and chooses among endpoints outside of the mesh is at the egress.
func TestEgressPolicies(t *testing.T) {
	const policies = `
{type: MeshLoadBalancingStrategy, mesh: default, name: lb, spec: {to: [{targetRef: {kind: Mesh}, default: {loadBalancer: {type: RingHash, ringHash: {hashPolicies: [{type: Header, header: {name: x-user}}]}}}}]}}
---
{type: MeshHealthCheck, mesh: default, name: hc, spec: {to: [{targetRef: {kind: Mesh}, default: {interval: 3s, http: {path: /live}}}]}}
---
{type: MeshCircuitBreaker, mesh: default, name: cb, spec: {to: [{targetRef: {kind: Mesh}, default: {connectionLimits: {maxConnections: 17}}}]}}`
	g := NewGenerator(all.Effects())
	for more, want := range map[string]bool{"": false, policies: true} {
		snap, err := g.GenerateEgress(zoneInput(zoneWorld(t, more), "192.168.240.31", 10002, false))
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(shapeOf(t, snap))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range []string{`"lbPolicy":"RING_HASH"`, `"hashPolicy":[{"header":{"headerName":"x-user"}}]`, `"path":"/live"`, `"maxConnections":17`} {
			if strings.Contains(string(text), w) != want {
				t.Errorf("%s is there: %t, want %t: %s", w, !want, want, text)
			}
		}
	}
}
