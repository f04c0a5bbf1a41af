package alltest

import (
	"strconv"
	"strings"

	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/resource"
)

// conf draws what a kind says: of an item of `to` or `from`, or of the whole.
type conf struct{ to, from, single func(*rapid.T) string }

// one draws one of several texts, each with at most one place for a number.
func one(of ...string) func(*rapid.T) string {
	return func(t *rapid.T) string {
		return strings.ReplaceAll(pick(t, "conf", of...), "%d", strconv.Itoa(rapid.IntRange(2, 4).Draw(t, "number")))
	}
}

func route(t *rapid.T) string {
	match := pick(t, "match", "{path: {type: PathPrefix, value: /a}}", "{method: GET}", "{headers: [{name: v, value: '2'}]}")
	filters := pick(t, "filters", "", "", "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /b}}}], ",
		"filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-a, value: b}]}}], ",
		"filters: [{type: RequestMirror, requestMirror: {backendRef: "+backend(t)+"}}], ")
	return "rules: [{matches: [" + match + "], default: {" + filters + "backendRefs: [" + list(t, "backends", func() string { return backend(t) }) + "]}}]"
}

var confs = map[resource.Kind]conf{
	"MeshHTTPRoute": {to: route},
	"MeshTCPRoute": {to: func(t *rapid.T) string {
		return "rules: [{default: {backendRefs: [" + list(t, "backends", func() string { return backend(t) }) + "]}}]"
	}},
	"MeshTLS": {from: one("default: {mode: Strict}", "default: {mode: Permissive}", "default: {mode: Strict, tlsVersion: {min: TLS12}}")},
	"MeshLoadBalancingStrategy": {to: one("default: {loadBalancer: {type: RingHash, ringHash: {minRingSize: %d, hashPolicies: [{type: Header, header: {name: x-a}}]}}}",
		"default: {localityAwareness: {disabled: true}}", "default: {loadBalancer: {type: LeastRequest, leastRequest: {choiceCount: %d}}}",
		"default: {localityAwareness: {localZone: {affinityTags: [{key: team, weight: %d}]}}}")},
	"MeshPassthrough": {single: one("default: {passthroughMode: All}", "default: {passthroughMode: None}",
		"default: {passthroughMode: Matched, appendMatch: [{type: Domain, value: a.example, port: 8%d, protocol: tls}]}",
		"default: {passthroughMode: Matched, appendMatch: [{type: CIDR, value: 192.0.2.0/24, port: 8%d, protocol: http}]}")},
	"MeshAccessLog": {
		to: one("default: {backends: [{type: File, file: {path: /tmp/%d}}]}", "default: {backends: [{type: Tcp, tcp: {address: 'logs.example:%d'}}]}",
			"default: {backends: [{type: OpenTelemetry, openTelemetry: {endpoint: 'otel-%d.example:4317'}}]}"),
		from: one("default: {backends: [{type: File, file: {path: /tmp/%d}}]}", "default: {backends: [{type: OpenTelemetry, openTelemetry: {endpoint: 'otel-%d.example:4317'}}]}"),
	},
	"MeshTrace": {single: one("default: {backends: [{type: Zipkin, zipkin: {url: 'http://zipkin.example:941%d/spans'}}]}",
		"default: {backends: [{type: Datadog, datadog: {url: 'http://datadog.example:812%d', splitService: true}}]}")},
	"MeshFaultInjection": {from: one("default: {http: [{abort: {httpStatus: 503, percentage: %d}}]}", "default: {http: [{delay: {value: %dms, percentage: 50}}]}")},
	"MeshRateLimit":      {from: one("default: {local: {http: {requestRate: {num: %d, interval: 1s}}}}", "default: {local: {tcp: {connectionRate: {num: %d, interval: 1s}}}}")},
	"MeshTimeout": {
		to:   one("default: {connectionTimeout: %ds}", "default: {http: {requestTimeout: %ds}}", "default: {idleTimeout: %ds}"),
		from: one("default: {idleTimeout: %ds}", "default: {http: {requestTimeout: %ds}}"),
	},
	"MeshTrafficPermission": {from: one("default: {action: Allow}", "default: {action: Deny}", "default: {action: AllowWithShadowDeny}")},
	"MeshCircuitBreaker": {
		to:   one("default: {connectionLimits: {maxConnections: %d}}", "default: {outlierDetection: {detectors: {totalFailures: {consecutive: %d}}}}"),
		from: one("default: {connectionLimits: {maxConnections: %d}}"),
	},
	"MeshHealthCheck": {to: one("default: {interval: %ds, timeout: 1s, unhealthyThreshold: 2, healthyThreshold: 1, http: {path: /live}}", "default: {interval: %ds, timeout: 1s, unhealthyThreshold: 2, healthyThreshold: 1, tcp: {}}")},
	"MeshRetry":       {to: one("default: {http: {numRetries: %d}}", "default: {tcp: {maxConnectAttempt: %d}}", "default: {grpc: {numRetries: %d}}")},
	"MeshMetric": {single: one("default: {backends: [{type: Prometheus, prometheus: {port: 567%d, path: /metrics}}]}",
		"default: {applications: [{name: app, port: 808%d}], backends: [{type: OpenTelemetry, openTelemetry: {endpoint: 'otel.example:4317'}}]}")},
	"MeshProxyPatch": {single: func(t *rapid.T) string {
		return "default: {appendModifications: [" + list(t, "modifications", func() string { return modification(t) }) + "]}"
	}},
}

var modification = one(
	"{cluster: {operation: Patch, match: {origin: outbound}, jsonPatches: [{op: add, path: /perConnectionBufferLimitBytes, value: %d}]}}",
	"{listener: {operation: Patch, match: {origin: inbound}, value: 'tcpBacklogSize: %d'}}",
	"{listener: {operation: Patch, match: {tags: {team: a}}, value: 'tcpBacklogSize: 1%d'}}",
	"{listener: {operation: Remove, match: {name: 'outbound:241.0.0.%d:80'}}}",
	"{httpFilter: {operation: Remove, match: {name: envoy.filters.http.fault}}}",
	"{networkFilter: {operation: Patch, match: {origin: outbound, name: envoy.filters.network.tcp_proxy}, jsonPatches: [{op: replace, path: /statPrefix, value: p%d}]}}",
	"{virtualHost: {operation: Patch, jsonPatches: [{op: add, path: /requestHeadersToRemove, value: [x-%d]}]}}",
	"{cluster: {operation: Add, value: '{name: by-hand, type: STATIC, connectTimeout: %ds}'}}",
	"{cluster: {operation: Add, value: '{name: \"localhost:8080\", type: STATIC, connectTimeout: %ds}'}}",
	// These fail at some parts, or at all.
	"{cluster: {operation: Patch, jsonPatches: [{op: replace, path: /edsClusterConfig/serviceName, value: s%d}]}}",
	"{cluster: {operation: Patch, match: {origin: outbound}, jsonPatches: [{op: replace, path: /transportSocket/name, value: s%d}]}}",
	"{listener: {operation: Patch, jsonPatches: [{op: copy, from: /bindToPort, path: /freebind}, {op: replace, path: /nothing/%d, value: 1}]}}",
	"{cluster: {operation: Patch, match: {name: 'localhost:8080'}, value: 'connectTimeout: -%ds'}}",
)
