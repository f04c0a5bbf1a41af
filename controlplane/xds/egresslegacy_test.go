package xds

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/all"
)

// TestEgressLegacy: with routing.zoneEgress an egress serves ExternalServices to whom a permission lets in, and hands
// services of other zones on without ending their TLS (contract controlplane.md §1.6, effects-security.md §4).
func TestEgressLegacy(t *testing.T) {
	const hooks = `
{type: ExternalService, mesh: default, name: hooks, tags: {kuma.io/service: hooks, kuma.io/protocol: http}, networking: {address: 'hooks.example.com:443', tls: {enabled: true, caCert: {inlineString: PEM}}}}
---
{type: ExternalService, mesh: default, name: raw, tags: {kuma.io/service: raw, kuma.io/protocol: tcp}, networking: {address: '192.0.2.1:99'}}
---
{type: ZoneIngress, name: zi2, zone: zone-2, networking: {address: 192.168.240.22, port: 10001, advertisedAddress: 192.0.2.22, advertisedPort: 20001}, availableServices: [{mesh: default, instances: 2, tags: {kuma.io/service: ledger, kuma.io/zone: zone-2}}]}
---
{type: MeshTrafficPermission, mesh: default, name: to-hooks, spec: {targetRef: {kind: MeshService, name: hooks}, from: [{targetRef: {kind: MeshService, name: web}, default: {action: Allow}}]}}
---
{type: TrafficPermission, mesh: default, name: cart-may, sources: [{match: {kuma.io/service: cart}}], destinations: [{match: {kuma.io/service: old}}, {match: {kuma.io/service: hooks}}]}
---
{type: TrafficTrace, mesh: default, name: all, selectors: [{match: {kuma.io/service: '*'}}]}
---
{type: ExternalService, mesh: default, name: old, tags: {kuma.io/service: old, kuma.io/protocol: http}, networking: {address: '192.0.2.2:99'}}
---
{type: Mesh, name: default, tracing: {defaultBackend: z, backends: [{name: z, type: zipkin, conf: {url: 'http://z:9411'}}]}, mtls: {enabledBackend: ca, backends: [{name: ca, type: builtin}]}, routing: {zoneEgress: %}}
`
	generate := func(zoneEgress string) shape {
		snap, err := NewGenerator(all.Effects()).GenerateEgress(zoneInput(zoneWorld(t, strings.Replace(hooks, "%", zoneEgress, 1)), "192.168.240.31", 10002, false))
		if err != nil {
			t.Fatal(err)
		}
		return shapeOf(t, snap)
	}
	text := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	if got := generate("false"); got["Cluster"]["default:hooks"] != nil || strings.Contains(text(got), "ledger") {
		t.Errorf("without zoneEgress: %s", text(got))
	}
	got := generate("true")
	chains := map[string]string{}
	listener := got["Listener"]["inbound:192.168.240.31:10002"].(map[string]any)
	for _, c := range listener["filterChains"].([]any) {
		match := c.(map[string]any)["filterChainMatch"].(map[string]any)
		chains[match["serverNames"].([]any)[0].(string)] = text(c)
	}
	for sni, want := range map[string][]string{
		"hooks{mesh=default}":  {`"exact":"spiffe://default/web"`, `"cluster":"default:hooks"`, "requireClientCertificate", `"autoHostRewrite":true`},
		"raw{mesh=default}":    {`"rules":{}`, `"cluster":"default:raw"`, "requireClientCertificate"},
		"old{mesh=default}":    {`"policies":{"cart-may":{"permissions":[{"any":true}],"principals":[{"authenticated":{"principalName":{"exact":"spiffe://default/cart"}}}]}}`, `"cluster":"default:old"`},
		"ledger{mesh=default}": {`"cluster":"default:ledger"`},
	} {
		for _, w := range want {
			if !strings.Contains(chains[sni], w) {
				t.Errorf("chain of %s has no %s: %s", sni, w, chains[sni])
			}
		}
	}
	if all := text(got); strings.Count(all, "cart-may") != 1 || strings.Count(all, "tracing:z") != 0 || strings.Contains(chains["old{mesh=default}"], "http.rbac") {
		t.Errorf("a newer permission has not taken the place of an older one, or the other way round: %s", all)
	}
	if strings.Count(chains["hooks{mesh=default}"], "extensions.filters.http.rbac") != 1 || strings.Contains(chains["ledger{mesh=default}"], "transportSocket") {
		t.Errorf("chains %v", chains)
	}
	if c := text(got["Cluster"]["default:hooks"]); !strings.Contains(c, `"sni":"hooks.example.com"`) || !strings.Contains(c, `"exact":"hooks.example.com"`) || !strings.Contains(c, `"type":"STRICT_DNS"`) {
		t.Errorf("cluster %s", c)
	}
	if e := text(got["ClusterLoadAssignment"]["default:ledger"]); !strings.Contains(e, "192.0.2.22") || !strings.Contains(e, `"loadBalancingWeight":2`) {
		t.Errorf("endpoints %s", e)
	}
}
