package all

import (
	"slices"
	"time"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/meshcircuitbreaker"
	"github.com/kuma-dp/kuma-dp/policy/meshretry"
	"github.com/kuma-dp/kuma-dp/policy/meshtimeout"
	"github.com/kuma-dp/kuma-dp/resource"
)

// DefaultPolicies returns the policies that are created with a mesh (contract policies.md §2.8) but for the kinds that skip
// names, Mesh.SkipCreatingInitialPolicies; "*" names all. They carry no labels. No traffic permission is among them: with
// mTLS on, everything is denied until a person writes one.
func DefaultPolicies(mesh string, skip []string) []*resource.Resource {
	if slices.Contains(skip, "*") {
		return nil
	}
	var out []*resource.Resource
	add := func(kind resource.Kind, prefix string, spec resource.Spec) {
		if !slices.Contains(skip, string(kind)) {
			key := resource.Key{Kind: kind, Mesh: mesh, Name: prefix + mesh}
			out = append(out, &resource.Resource{Meta: resource.Meta{Key: key}, Spec: spec})
		}
	}
	add(meshtimeout.Name, "mesh-gateways-timeout-all-", gatewayTimeout())
	add(meshtimeout.Name, "mesh-timeout-all-", sidecarTimeout())
	add(meshcircuitbreaker.Name, "mesh-circuit-breaker-all-", circuitBreaker())
	add(meshretry.Name, "mesh-retry-all-", retry())
	return out
}

func duration(d time.Duration) *resource.Duration { return &resource.Duration{Duration: d} }

func proxies(types ...string) *policy.TargetRef {
	return &policy.TargetRef{Kind: policy.Mesh, ProxyTypes: types}
}

// toMesh is one item for all destinations or clients.
func toMesh[C any](conf C) []policy.Entry[C] {
	return []policy.Entry[C]{{TargetRef: policy.TargetRef{Kind: policy.Mesh}, Default: conf}}
}

func sidecarTimeout() *meshtimeout.Spec {
	return &meshtimeout.Spec{ToFromSpec: policy.ToFromSpec[meshtimeout.Conf]{
		TargetRef: proxies(policy.ProxySidecar),
		To: toMesh(meshtimeout.Conf{
			ConnectionTimeout: duration(5 * time.Second),
			IdleTimeout:       duration(time.Hour),
			HTTP: &meshtimeout.HTTP{
				RequestTimeout:    duration(15 * time.Second),
				StreamIdleTimeout: duration(30 * time.Minute),
			},
		}),
		From: toMesh(meshtimeout.Conf{
			ConnectionTimeout: duration(10 * time.Second),
			IdleTimeout:       duration(2 * time.Hour),
			HTTP: &meshtimeout.HTTP{
				RequestTimeout:    duration(0),
				StreamIdleTimeout: duration(time.Hour),
				MaxStreamDuration: duration(0),
			},
		}),
	}}
}

func gatewayTimeout() *meshtimeout.Spec {
	return &meshtimeout.Spec{ToFromSpec: policy.ToFromSpec[meshtimeout.Conf]{
		TargetRef: proxies(policy.ProxyGateway),
		To: toMesh(meshtimeout.Conf{
			IdleTimeout: duration(time.Hour),
			HTTP:        &meshtimeout.HTTP{StreamIdleTimeout: duration(5 * time.Second)},
		}),
		From: toMesh(meshtimeout.Conf{
			IdleTimeout: duration(5 * time.Minute),
			HTTP: &meshtimeout.HTTP{
				StreamIdleTimeout:     duration(5 * time.Second),
				RequestHeadersTimeout: duration(500 * time.Millisecond),
			},
		}),
	}}
}

func circuitBreaker() *meshcircuitbreaker.Spec {
	return &meshcircuitbreaker.Spec{ToFromSpec: policy.ToFromSpec[meshcircuitbreaker.Conf]{
		TargetRef: proxies(),
		To: toMesh(meshcircuitbreaker.Conf{ConnectionLimits: &meshcircuitbreaker.ConnectionLimits{
			MaxConnections:     new(uint32(1024)),
			MaxPendingRequests: new(uint32(1024)),
			MaxRetries:         new(uint32(3)),
			MaxRequests:        new(uint32(1024)),
		}}),
	}}
}

func retry() *meshretry.Spec {
	const retries = 5
	perTry := 16 * time.Second
	backOff := func() *meshretry.BackOff {
		return &meshretry.BackOff{
			BaseInterval: duration(25 * time.Millisecond),
			MaxInterval:  duration(250 * time.Millisecond),
		}
	}
	return &meshretry.Spec{ToSpec: policy.ToSpec[meshretry.Conf]{
		TargetRef: proxies(),
		To: toMesh(meshretry.Conf{
			TCP:  &meshretry.TCP{MaxConnectAttempt: new(uint32(retries))},
			HTTP: &meshretry.HTTP{NumRetries: new(uint32(retries)), PerTryTimeout: duration(perTry), BackOff: backOff()},
			GRPC: &meshretry.GRPC{NumRetries: new(uint32(retries)), PerTryTimeout: duration(perTry), BackOff: backOff()},
		}),
	}}
}
