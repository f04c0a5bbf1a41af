package meshloadbalancingstrategy_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshloadbalancingstrategy"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestValidate(t *testing.T) {
	lb := func(s string) string { return "to: [{targetRef: {kind: Mesh}, default: {loadBalancer: " + s + "}}]" }
	la := func(s string) string {
		return "to: [{targetRef: {kind: Mesh}, default: {localityAwareness: " + s + "}}]"
	}
	const types = "in body should be one of [Header Cookie SourceIP QueryParameter FilterState]"
	const algorithms = "in body should be one of [RoundRobin LeastRequest RingHash Random Maglev]"
	policytest.Validate(t, meshloadbalancingstrategy.Kind(), []policytest.Case{
		{Name: "nothing", Want: []string{"spec.to: needs at least one item"}},
		{Name: "targets", Spec: "targetRef: {kind: MeshHTTPRoute, name: a}, to: [{targetRef: {kind: MeshExternalService, name: a}}]", Want: []string{"spec.targetRef.kind: value is not supported", "spec.to[0].targetRef.kind: value is not supported"}},
		{Name: "gateway", Spec: "targetRef: {kind: MeshGateway, name: g, tags: {a: b}}, to: [{targetRef: {kind: Mesh}, default: {loadBalancer: {type: Random}}}, {targetRef: {kind: MeshService, name: s}, default: {localityAwareness: {disabled: true}}}]"},
		{Name: "balancer of a gateway", Spec: "targetRef: {kind: MeshGateway, name: g}, to: [{targetRef: {kind: MeshService, name: s}, default: {loadBalancer: {type: Random}}}]", Want: []string{"spec.to[0].targetRef.kind: value is not supported, only Mesh is allowed if loadBalancer is set"}},
		{Name: "no type", Spec: lb("{}"), Want: []string{"spec.to[0].default.loadBalancer.type: in body is required"}},
		{Name: "type", Spec: lb("{type: x}"), Want: []string{"spec.to[0].default.loadBalancer.type: " + algorithms}},
		{Name: "choices", Spec: lb("{type: LeastRequest, leastRequest: {choiceCount: 1}}"), Want: []string{"spec.to[0].default.loadBalancer.leastRequest.choiceCount: in body should be greater than or equal to 2"}},
		{Name: "bias", Spec: lb("{type: LeastRequest, leastRequest: {activeRequestBias: \"-0.1\"}}"), Want: []string{"spec.to[0].default.loadBalancer.leastRequest.activeRequestBias: must be greater or equal then: 0"}},
		{Name: "bias text", Spec: lb("{type: LeastRequest, leastRequest: {activeRequestBias: x}}"), Want: []string{"spec.to[0].default.loadBalancer.leastRequest.activeRequestBias: string must be a valid number"}},
		{Name: "sizes", Spec: lb("{type: Maglev, maglev: {tableSize: 5000012}, ringHash: {hashFunction: x, minRingSize: 0, maxRingSize: 8000001}}"), Want: []string{
			"spec.to[0].default.loadBalancer.ringHash.hashFunction: in body should be one of [XXHash MurmurHash2]",
			"spec.to[0].default.loadBalancer.ringHash.minRingSize: in body should be greater than or equal to 1",
			"spec.to[0].default.loadBalancer.ringHash.maxRingSize: in body should be less than or equal to 8000000",
			"spec.to[0].default.loadBalancer.maglev.tableSize: in body should be less than or equal to 5000011",
		}},
		{Name: "hash schema", Spec: lb("{type: RingHash, ringHash: {hashPolicies: [{type: Connection}, {}]}, maglev: {hashPolicies: [{type: Header, header: {}, cookie: {}, queryParameter: {}, filterState: {}}]}}"), Want: []string{
			"spec.to[0].default.loadBalancer.maglev.hashPolicies[0].cookie.name: in body is required",
			"spec.to[0].default.loadBalancer.maglev.hashPolicies[0].filterState.key: in body is required",
			"spec.to[0].default.loadBalancer.maglev.hashPolicies[0].header.name: in body is required",
			"spec.to[0].default.loadBalancer.maglev.hashPolicies[0].queryParameter.name: in body is required",
			"spec.to[0].default.loadBalancer.ringHash.hashPolicies[0].type: " + types,
			"spec.to[0].default.loadBalancer.ringHash.hashPolicies[1].type: in body is required",
		}},
		{Name: "empty names", Spec: lb("{type: Maglev, maglev: {hashPolicies: [{type: Header, header: {name: ''}, cookie: {name: ''}, queryParameter: {name: ''}, filterState: {key: ''}}]}}"), Want: []string{
			"spec.to[0].default.loadBalancer.maglev.hashPolicies[0].header.name: in body should be at least 1 chars long",
			"spec.to[0].default.loadBalancer.maglev.hashPolicies[0].cookie.name: in body should be at least 1 chars long",
			"spec.to[0].default.loadBalancer.maglev.hashPolicies[0].queryParameter.name: in body should be at least 1 chars long",
			"spec.to[0].default.loadBalancer.maglev.hashPolicies[0].filterState.key: in body should be at least 1 chars long",
		}},
		{Name: "hash bodies", Spec: lb("{type: Maglev, maglev: {hashPolicies: [{type: Header}, {type: Cookie}, {type: QueryParameter}, {type: FilterState}, {type: SourceIP}, {type: Cookie, cookie: {name: a, path: b}}]}}"), Want: []string{
			"spec.to[0].default.loadBalancer.maglev.hashPolicies[0].header: must be defined",
			"spec.to[0].default.loadBalancer.maglev.hashPolicies[1].cookie: must be defined",
			"spec.to[0].default.loadBalancer.maglev.hashPolicies[2].queryParameter: must be defined",
			"spec.to[0].default.loadBalancer.maglev.hashPolicies[3].filterState: must be defined",
			"spec.to[0].default.loadBalancer.maglev.hashPolicies[5].cookie.path: must be an absolute path",
		}},
		{Name: "affinity", Spec: la("{localZone: {affinityTags: [{key: a, weight: 9}, {key: \"\"}, {key: b, weight: 0}]}}"), Want: []string{
			"spec.to[0].default.localityAwareness.localZone.affinityTags[1].key: must not be empty",
			"spec.to[0].default.localityAwareness.localZone.affinityTags[2].weight: must be greater than 0",
			"spec.to[0].default.localityAwareness.localZone.affinityTags: all or none affinity tags should have weight",
		}},
		{Name: "failover", Spec: la("{crossZone: {failover: [{to: {type: Any, zones: [a]}}, {to: {type: None, zones: [a]}}, {to: {type: AnyExcept}}, {to: {type: ''}}]}}"), Want: []string{
			"spec.to[0].default.localityAwareness.crossZone.failover[0].to.zones: must be empty when type is Any",
			"spec.to[0].default.localityAwareness.crossZone.failover[1].to.zones: must be empty when type is None",
			"spec.to[0].default.localityAwareness.crossZone.failover[2].to.zones: must not be empty when type is AnyExcept",
			"spec.to[0].default.localityAwareness.crossZone.failover[3].to.type: unrecognized type",
		}},
		{Name: "missing", Spec: la("{localZone: {affinityTags: [{}]}, crossZone: {failover: [{}, {from: {}, to: {}}], failoverThreshold: {}}}"), Want: []string{
			"spec.to[0].default.localityAwareness.crossZone.failover[0].to: in body is required",
			"spec.to[0].default.localityAwareness.crossZone.failover[1].from.zones: in body is required",
			"spec.to[0].default.localityAwareness.crossZone.failover[1].to.type: in body is required",
			"spec.to[0].default.localityAwareness.crossZone.failoverThreshold.percentage: in body is required",
			"spec.to[0].default.localityAwareness.localZone.affinityTags[0].key: in body is required",
		}},
		{Name: "failover schema", Spec: la("{crossZone: {failover: [{to: {type: x}}]}}"), Want: []string{"spec.to[0].default.localityAwareness.crossZone.failover[0].to.type: in body should be one of [None Only Any AnyExcept]"}},
		{Name: "threshold", Spec: la("{crossZone: {failoverThreshold: {percentage: \"100.1\"}}}"), Want: []string{"spec.to[0].default.localityAwareness.crossZone.failoverThreshold.percentage: must be in inclusive range [0.0, 100.0]"}},
		{Name: "threshold text", Spec: la("{crossZone: {failoverThreshold: {percentage: x}}}"), Want: []string{"spec.to[0].default.localityAwareness.crossZone.failoverThreshold.percentage: string must be a valid number"}},
		{Name: "local by labels", Spec: "to: [{targetRef: {kind: MeshService, labels: {a: b}}, default: {localityAwareness: {crossZone: {}}}}]", Want: []string{"spec.to[0].default.localityAwareness.crossZone: must not be set: MeshService traffic is local"}},
		{Name: "older service", Spec: "to: [{targetRef: {kind: MeshService, name: a}, default: {localityAwareness: {crossZone: {failover: [{from: {zones: [a]}, to: {type: Only, zones: [b]}}]}}}}]"},
	})
}
