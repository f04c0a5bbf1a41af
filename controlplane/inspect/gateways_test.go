package inspect

import (
	"net/http"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

const gatewayInput = `
type: Mesh
name: m
meshServices: {mode: Everywhere}
---
type: Dataplane
mesh: m
name: edge-1
networking: {address: 10.0.0.1, gateway: {type: BUILTIN, tags: {kuma.io/service: edge}}}
---
type: Dataplane
mesh: m
name: web-1
networking: {address: 10.0.0.2, inbound: [{port: 8080, tags: {kuma.io/service: web, kuma.io/protocol: http}}]}
---
type: MeshGateway
mesh: m
name: edge
selectors: [{match: {kuma.io/service: edge}}]
conf: {listeners: [{port: 80, protocol: HTTP, hostname: a.example.com, tags: {port: http}}, {port: 80, protocol: HTTP, tags: {port: http}}]}
---
type: MeshGatewayRoute
mesh: m
name: fits
selectors: [{match: {kuma.io/service: edge, port: http}}]
conf: {http: {rules: [{matches: [{path: {match: PREFIX, value: /}}], backends: [{destination: {kuma.io/service: web}, weight: 1}]}]}}
---
type: MeshGatewayRoute
mesh: m
name: misses
selectors: [{match: {kuma.io/service: edge, port: https}}]
conf: {http: {rules: [{matches: [{path: {match: PREFIX, value: /}}], backends: [{destination: {kuma.io/service: web}, weight: 1}]}]}}
---
type: MeshTimeout
mesh: m
name: gateways
spec:
  targetRef: {kind: Mesh, proxyTypes: [Gateway]}
  to: [{targetRef: {kind: Mesh}, default: {idleTimeout: 1s}}]
  from: [{targetRef: {kind: Mesh}, default: {idleTimeout: 2s}}]
---
type: MeshTimeout
mesh: m
name: by-name
spec:
  targetRef: {kind: MeshGateway, name: edge, tags: {port: http}}
  to: [{targetRef: {kind: Mesh}, default: {idleTimeout: 3s}}]
---
type: MeshTimeout
mesh: m
name: lost
spec:
  targetRef: {kind: MeshHTTPRoute, name: nowhere}
  to: [{targetRef: {kind: Mesh}, default: {http: {requestTimeout: 3s}}}]
---
type: MeshTLS
mesh: m
name: shadow
labels: {kuma.io/effect: shadow}
spec: {from: [{targetRef: {kind: Mesh}, default: {mode: Permissive}}]}
---
type: MeshTrace
mesh: m
name: trace
spec: {default: {backends: [{type: Zipkin, zipkin: {url: "http://zipkin:9411/api/v2/spans"}}]}}
---
type: MeshTrafficPermission
mesh: m
name: permit
spec:
  from:
  - {targetRef: {kind: Mesh}, default: {action: Allow}}
  - {targetRef: {kind: MeshSubset, tags: {team: a}}, default: {action: Deny}}
`

// compact is JSON without the spaces between its parts, and without times.
func compact(t *testing.T, body string) string {
	t.Helper()
	var out []string
	for line := range strings.SplitSeq(body, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, `"creationTime"`) || strings.HasPrefix(line, `"modificationTime"`) {
			continue
		}
		out = append(out, strings.ReplaceAll(line, `": `, `":`))
	}
	return strings.ReplaceAll(strings.Join(out, ""), ",}", "}")
}

func TestGatewaysAndOlderForms(t *testing.T) {
	const own = `"labels":{"kuma.io/env":"universal","kuma.io/mesh":"m","kuma.io/origin":"zone","kuma.io/zone":"zone-a"}`
	policy := func(kind, name string) string {
		return `{"type":"` + kind + `","mesh":"m","name":"` + name + `",` + own + `}`
	}
	onGateways := `{"dataplane":{"mesh":"m","name":"edge-1"}}`
	g := start(t, []byte(gatewayInput))
	for _, tt := range []struct{ path, want string }{
		{"meshgateways/edge/dataplanes", `{"total":1,"items":[` + onGateways + `]}`},
		{"meshgatewayroutes/fits/dataplanes", `{"total":1,"items":[` + onGateways + `]}`},
		{"meshgatewayroutes/misses/dataplanes", `{"total":0,"items":[]}`},
		{
			"meshtimeouts/by-name/_resources/dataplanes",
			`{"items":[{` + own + `,"mesh":"m","name":"edge-1","type":"Dataplane"}],"total":1}`,
		},
		{"meshtimeouts/lost/_resources/dataplanes", `{"items":[],"total":0}`},
		{
			"meshtimeouts/by-name/dataplanes",
			`{"items":[{` + own + `,"mesh":"m","name":"edge-1","type":"Dataplane","kind":"MeshGatewayDataplane","dataplane":{"mesh":"m","name":"edge-1"},` +
				`"gateway":{"mesh":"m","name":"edge"},"listeners":[{"port":80,"protocol":"HTTP","hosts":[{"hostName":"a.example.com"},{"hostName":"*"}]}]}],"total":1}`,
		},
		{
			"meshtrafficpermissions/permit/dataplanes?name=web",
			`{"items":[{` + own + `,"mesh":"m","name":"web-1","type":"Dataplane","kind":"SidecarDataplane","dataplane":{"mesh":"m","name":"web-1"},` +
				`"attachments":[{"type":"dataplane"}]}],"total":1}`,
		},
		{
			"dataplanes/edge-1/policies",
			`{"kind":"MeshGatewayDataplane","gateway":{"mesh":"m","name":"edge"},` +
				`"listeners":[{"port":80,"protocol":"HTTP","hosts":[{"hostName":"a.example.com"},{"hostName":"*"}]}],` +
				`"policies":{"MeshTimeout":[` + policy("MeshTimeout", "gateways") + `,` + policy("MeshTimeout", "by-name") + `],` +
				`"MeshTrace":[` + policy("MeshTrace", "trace") + `],"MeshTrafficPermission":[` + policy("MeshTrafficPermission", "permit") + `]}}`,
		},
		{
			"dataplanes/web-1/rules",
			`{"total":3,"items":[` +
				`{"type":"SingleItem","name":"dataplane","service":"","policyType":"MeshTrace","subset":{},` +
				`"conf":{"backends":[{"type":"Zipkin","zipkin":{"url":"http://zipkin:9411/api/v2/spans"}}]},"origins":[{"mesh":"m","name":"trace"}]},` +
				`{"type":"ClientSubset","name":"10.0.0.2:8080","service":"web","tags":{"kuma.io/protocol":"http","kuma.io/service":"web","kuma.io/zone":"zone-a"},` +
				`"policyType":"MeshTrafficPermission","subset":{"team":"a"},"conf":{"action":"Deny"},"origins":[{"mesh":"m","name":"permit"}]},` +
				`{"type":"ClientSubset","name":"10.0.0.2:8080","service":"web","tags":{"kuma.io/protocol":"http","kuma.io/service":"web","kuma.io/zone":"zone-a"},` +
				`"policyType":"MeshTrafficPermission","subset":{"team":"!a"},"conf":{"action":"Allow"},"origins":[{"mesh":"m","name":"permit"}]}]}`,
		},
	} {
		status, _, body := g.get("/meshes/m/" + tt.path)
		if diff := gocmp.Diff(tt.want, compact(t, body)); status != http.StatusOK || diff != "" {
			t.Errorf("%s: %d (-want +got):\n%s", tt.path, status, diff)
		}
	}
	for _, path := range []string{"dataplanes/edge-1/_rules", "meshgateways/edge/_rules"} {
		_, _, body := g.get("/meshes/m/" + path)
		body = compact(t, body)
		for _, part := range []string{
			`"fromRules":[{"inbound":{"port":80,"tags":{"port":"http"}},"rules":[{"conf":{"idleTimeout":"2s"}`,
			`"toRules":[{"conf":{"idleTimeout":"3s"},"matchers":[]`, `"conf":[{"idleTimeout":"3s"}]`,
			`"warnings":["couldn't resolve MeshHTTPRoute targetRef with name 'nowhere'"]`,
		} {
			if !strings.Contains(body, part) {
				t.Errorf("%s: no %s in\n%s", path, part, body)
			}
		}
	}
	for _, path := range []string{
		"meshgateways/none/_rules", "meshgateways/none/dataplanes", "meshgatewayroutes/none/dataplanes", "dataplanes/none/policies", "dataplanes/none/rules",
	} {
		if status, _, body := g.get("/meshes/m/" + path); status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	// A shadow MeshTLS never shows in the configuration, but it is listed with those that it selects.
	if _, _, body := g.get("/meshes/m/dataplanes/web-1/_config?shadow=true&include=diff"); !strings.Contains(compact(t, body), `"diff":[]`) {
		t.Errorf("a shadow MeshTLS changes the configuration: %s", body)
	}
	if _, _, body := g.get("/meshes/m/meshtlses/shadow/_resources/dataplanes"); !strings.Contains(compact(t, body), `"total":2`) {
		t.Errorf("a shadow MeshTLS is listed with %s", body)
	}
}

// A MeshExternalService and a MeshMultiZoneService are destinations in every mode, by name and by labels. A kind whose
// items are only such is missing, as in 2.9, unless an inbound is selected.
func TestRulesForOtherDestinations(t *testing.T) {
	const input = `
type: Mesh
name: m
meshServices: {mode: MODE}
---
type: Dataplane
mesh: m
name: web-1
networking: {address: 10.0.0.2, inbound: [{port: 8080, tags: {kuma.io/service: web, kuma.io/protocol: http}}]}
---
type: MeshExternalService
mesh: m
name: outside
labels: {tier: gold}
spec: {match: {type: HostnameGenerator, port: 443, protocol: tcp}, endpoints: [{address: 192.0.2.1, port: 443}]}
---
type: MeshMultiZoneService
mesh: m
name: everywhere
labels: {tier: gold}
spec: {selector: {meshService: {matchLabels: {x: z}}}, ports: [{name: api, port: 80, appProtocol: http}]}
---
type: MeshTimeout
mesh: m
name: t
spec:
  to:
  - {targetRef: {kind: MeshExternalService, name: outside}, default: {connectionTimeout: 1s}}
  - {targetRef: {kind: MeshMultiZoneService, labels: {tier: gold}}, default: {connectionTimeout: 2s}}
---
type: MeshRetry
mesh: m
name: r
spec: {to: [{targetRef: {kind: MeshMultiZoneService, name: everywhere}, default: {tcp: {maxConnectAttempt: 2}}}]}
`
	for _, mode := range []string{"Disabled", "Everywhere", "ReachableBackends", "Exclusive"} {
		g := start(t, []byte(strings.Replace(input, "MODE", mode, 1)))
		_, _, body := g.get("/meshes/m/dataplanes/web-1/_rules")
		body = compact(t, body)
		for part, want := range map[string]bool{
			`"conf":[{"connectionTimeout":"1s"}]`: true, `"name":"outside","type":"MeshExternalService"`: true,
			`"conf":[{"connectionTimeout":"2s"}]`: true, `"name":"everywhere","type":"MeshMultiZoneService"`: true, `"type":"MeshRetry"`: false,
		} {
			if strings.Contains(body, part) != want {
				t.Errorf("mode %s: %s is there: %v\n%s", mode, part, !want, body)
			}
		}
	}
}
