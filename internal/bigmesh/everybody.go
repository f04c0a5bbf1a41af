package bigmesh

import (
	"fmt"
	"strings"
)

var roles = []string{"", "producer", "consumer"}

func replace(text string, pairs ...string) string { return strings.NewReplacer(pairs...).Replace(text) }

// everybody are the policies for all proxies of the mesh, of every kind but routes.
func everybody(zone string) []Policy {
	to := func(conf string) string { return "{to: [{targetRef: {kind: Mesh}, default: " + conf + "}]}" }
	from := func(client, conf string) string {
		return "{from: [{targetRef: " + client + ", default: " + conf + "}]}"
	}
	sidecars := func(spec string) string { return "{targetRef: {kind: Mesh, proxyTypes: [Sidecar]}, " + spec[1:] }
	const mesh = "{kind: Mesh}"
	team := func(n int) string { return fmt.Sprintf("{kind: MeshSubset, tags: {team: t-%d}}", n) }
	var out []Policy
	add := func(kind, spec string) {
		out = append(out, Policy{Kind: kind, Name: fmt.Sprintf("all-%d", len(out)), spec: spec})
	}
	add("MeshTimeout", to("{connectionTimeout: 5s, idleTimeout: 1h, http: {requestTimeout: %dms}}"))
	add("MeshRetry", to("{http: {numRetries: %d, perTryTimeout: 2s}, tcp: {maxConnectAttempt: 3}}"))
	add("MeshCircuitBreaker", to("{connectionLimits: {maxConnections: %d}, outlierDetection: {interval: 5s, detectors: {totalFailures: {consecutive: 5}}}}"))
	add("MeshHealthCheck", to("{interval: %dms, timeout: 2s, unhealthyThreshold: 3, healthyThreshold: 1, tcp: {}}"))
	add("MeshLoadBalancingStrategy", to("{localityAwareness: {disabled: false}, loadBalancer: {type: LeastRequest, leastRequest: {choiceCount: %d}}}"))
	add("MeshAccessLog", to("{backends: [{type: File, file: {path: /tmp/out-%d, format: {type: Plain, plain: '%%START_TIME%% %%KUMA_DESTINATION_SERVICE%%'}}}]}"))
	add("MeshAccessLog", from(mesh, "{backends: [{type: File, file: {path: /tmp/in-%d}}]}"))
	add("MeshTrafficPermission", "{from: [{targetRef: {kind: Mesh}, default: {action: Allow}}, {targetRef: {kind: MeshSubset, tags: {version: v%d}}, default: {action: Deny}}]}")
	for n := range 6 {
		add("MeshTrafficPermission", "{from: [{targetRef: "+team(n)+", default: {action: Deny}}, {targetRef: {kind: MeshService, name: c-%d}, default: {action: Allow}}]}")
	}
	limit := "{local: {http: {requestRate: {num: %d, interval: 1s}}, tcp: {connectionRate: {num: 1000, interval: 1s}}}}"
	add("MeshRateLimit", sidecars(from(mesh, limit)))
	add("MeshRateLimit", sidecars(from(mesh, limit)))
	add("MeshFaultInjection", sidecars(from(team(1), "{http: [{delay: {value: %dms, percentage: 1}}]}")))
	add("MeshFaultInjection", sidecars(from(team(2), "{http: [{abort: {httpStatus: 503, percentage: 1}, delay: {value: %dms, percentage: 2}}]}")))
	add("MeshTLS", "{from: [{targetRef: {kind: Mesh}, default: {mode: Strict, tlsVersion: {min: VERSION}}}]}")
	add("MeshTrace", "{default: {backends: [{type: Zipkin, zipkin: {url: 'http://zipkin.example:9411/api/v2/spans'}}], tags: [{name: version, literal: v%d}]}}")
	add("MeshMetric", "{default: {applications: [{name: app, port: %d, path: /metrics}], backends: [{type: Prometheus, prometheus: {port: 5670, path: /metrics}}]}}")
	add("MeshPassthrough", "{default: {passthroughMode: Matched, appendMatch: [{type: Domain, value: api.example, port: %d, protocol: tls}, {type: CIDR, value: 192.0.2.0/24, port: 443, protocol: tcp}]}}")
	add("MeshProxyPatch", "{default: {appendModifications: [{httpFilter: {operation: AddBefore, match: {origin: inbound, name: envoy.filters.http.router}, "+
		`value: "name: stamp\ntypedConfig: {'@type': type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer, maxRequestBytes: %d}"}}]}}`)
	add("MeshProxyPatch", "{default: {appendModifications: [{cluster: {operation: Patch, match: {name: default_s-1_shop_"+zone+"_msvc_80}, jsonPatches: [{op: add, path: /perConnectionBufferLimitBytes, value: %d}]}}, "+
		`{cluster: {operation: Add, value: "name: by-hand\ntype: STATIC\nconnectTimeout: 5s"}}]}}`)
	return out
}
