package bigmesh

import "fmt"

// Policy is one policy in any of many versions.
type Policy struct {
	Kind, Name string
	// Service says that it is for one service only.
	Service bool

	labels, spec string
}

// Document is the policy; other versions say something else.
func (p Policy) Document(version int) string {
	spec := fmt.Sprintf(p.spec, version%50000+2)
	if p.Kind == "MeshTLS" { // which has no numbers
		spec = replace(p.spec, "VERSION", []string{"TLS12", "TLS13"}[version%2])
	}
	return fmt.Sprintf("\ntype: %s\nmesh: default\nname: %s\n%sspec: %s\n", p.Kind, p.Name, p.labels, spec)
}

// Policies are n policies: those for all proxies of the mesh, the rest for one service each, of the eight kinds for
// destinations, in turn written by nobody in particular, by the service's owner and by its client's.
func Policies(n int, size Size) []Policy {
	out := everybody(size.Zone)
	for i := 0; len(out) < n; i++ {
		out = append(out, forService(i, size.Services))
	}
	return out[:n]
}

// All of them have a number to be filled in: the version.
var destinations = []struct{ kind, conf string }{
	{"MeshTimeout", "default: {connectionTimeout: 2s, http: {requestTimeout: %dms}}"},
	{"MeshRetry", "default: {http: {numRetries: %d, backOff: {baseInterval: 25ms}, retryOn: [5xx]}, tcp: {maxConnectAttempt: 2}}"},
	{"MeshCircuitBreaker", "default: {connectionLimits: {maxConnections: %d, maxPendingRequests: 32}}"},
	{"MeshHealthCheck", "default: {interval: %dms, timeout: 1s, unhealthyThreshold: 3, healthyThreshold: 1, http: {path: /health}}"},
	{"MeshLoadBalancingStrategy", "default: {loadBalancer: {type: RingHash, ringHash: {minRingSize: %d, hashPolicies: [{type: Header, header: {name: x-user}}]}}}"},
	{"MeshAccessLog", `default: {backends: [{type: File, file: {path: /tmp/log-%d}}]}`},
	{"MeshHTTPRoute", "rules: [{matches: [{path: {type: PathPrefix, value: /v2}}], default: {backendRefs: [{kind: MeshService, BACKEND, port: 80, weight: %d}, {kind: MeshService, OTHER, port: 80, weight: 1}]}}]"},
	{"MeshTCPRoute", "rules: [{default: {backendRefs: [{kind: MeshService, BACKEND, port: 80, weight: %d}, {kind: MeshService, OTHER, port: 80, weight: 1}]}}]"},
}

func forService(i, services int) Policy {
	d := destinations[i%len(destinations)]
	n := 7 * i % services
	switch { // routes are about one protocol
	case d.kind == "MeshTCPRoute":
		n = n/5*5 + 4
	case n%5 == 4:
		n--
	}
	other := n / 5 * 5
	if d.kind == "MeshTCPRoute" {
		other = (n + 5) % (services / 5 * 5)
	}
	role, target, name := roles[i/len(destinations)%len(roles)], "name: s-%d", fmt.Sprintf("one-%d", i)
	labels := "labels: {k8s.kuma.io/namespace: shop, kuma.io/policy-role: " + role + "}\n"
	if role == "" { // of no namespace
		labels, target = "", "labels: {kuma.io/display-name: s-%d}"
	}
	conf := replace(d.conf, "BACKEND", fmt.Sprintf(target, n), "OTHER", fmt.Sprintf(target, other))
	return Policy{
		Kind: d.kind, Name: name, Service: true, labels: labels,
		spec: "{to: [{targetRef: {kind: MeshService, " + fmt.Sprintf(target, n) + "}, " + conf + "}]}",
	}
}
