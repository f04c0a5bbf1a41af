package meshtimeout_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshtimeout"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestValidate(t *testing.T) {
	policytest.Validate(t, meshtimeout.Kind(), []policytest.Case{
		{Name: "good", Spec: "targetRef: {kind: MeshGateway, name: g, tags: {a: b}}, to: [{targetRef: {kind: MeshExternalService, name: a}, default: {connectionTimeout: 1s, idleTimeout: 0s, http: {requestTimeout: 0s}}}]"},
		{Name: "services", Spec: "to: [{targetRef: {kind: MeshService, labels: {a: b}}, default: {idleTimeout: 1s}}, {targetRef: {kind: MeshMultiZoneService, name: a, sectionName: b}, default: {idleTimeout: 1s}}, {targetRef: {kind: MeshExternalService, labels: {a: b}}, default: {idleTimeout: 1s}}]"},
		{Name: "nothing", Spec: "", Want: []string{"spec: at least one of 'from', 'to' has to be defined"}},
		{Name: "empty", Spec: "to: [{targetRef: {kind: Mesh}}]", Want: []string{"spec.to[0].default: at least one timeout should be configured"}},
		{Name: "only headers", Spec: "from: [{targetRef: {kind: Mesh}, default: {http: {requestHeadersTimeout: 1s}}}]", Want: []string{"spec.from[0].default.http: at least one timeout in this section should be configured"}},
		{Name: "values", Spec: "from: [{targetRef: {kind: Mesh}, default: {connectionTimeout: 0s, idleTimeout: -1s, http: {requestTimeout: -1s, streamIdleTimeout: -1s, maxStreamDuration: -1s, maxConnectionDuration: -1s, requestHeadersTimeout: -1s}}}]", Want: []string{"spec.from[0].default.connectionTimeout: must be greater than zero when defined", "spec.from[0].default.idleTimeout: must not be negative when defined", "spec.from[0].default.http.requestTimeout: must not be negative when defined", "spec.from[0].default.http.streamIdleTimeout: must not be negative when defined", "spec.from[0].default.http.maxStreamDuration: must not be negative when defined", "spec.from[0].default.http.maxConnectionDuration: must not be negative when defined", "spec.from[0].default.http.requestHeadersTimeout: must not be negative when defined"}},
		{Name: "on a route", Spec: "targetRef: {kind: MeshHTTPRoute, name: r}, to: [{targetRef: {kind: Mesh}, default: {idleTimeout: 1s, http: {requestTimeout: 1s, maxStreamDuration: 1s, maxConnectionDuration: 1s}}}]", Want: []string{"spec.to[0].default.idleTimeout: can't be specified when top-level TargetRef is referencing MeshHTTPRoute", "spec.to[0].default.http.maxStreamDuration: can't be specified when top-level TargetRef is referencing MeshHTTPRoute", "spec.to[0].default.http.maxConnectionDuration: can't be specified when top-level TargetRef is referencing MeshHTTPRoute"}},
		{Name: "client", Spec: "from: [{targetRef: {kind: MeshSubset}, default: {idleTimeout: 1s}}]", Want: []string{"spec.from[0].targetRef.kind: value is not supported"}},
		{Name: "service fields", Spec: "to: [{targetRef: {kind: MeshService, name: a, tags: {a: b}, proxyTypes: [Sidecar]}, default: {idleTimeout: 1s}}, {targetRef: {kind: MeshExternalService, sectionName: a}, default: {idleTimeout: 1s}}, {targetRef: {kind: MeshExternalService, name: a, labels: {a: b}}, default: {idleTimeout: 1s}}]", Want: []string{"spec.to[0].targetRef.tags: must not be set with kind MeshService", "spec.to[0].targetRef.proxyTypes: must not be set with kind MeshService", "spec.to[1].targetRef.name: must be set with kind MeshExternalService", "spec.to[1].targetRef.sectionName: must not be set with kind MeshExternalService", "spec.to[2].targetRef.labels: either labels or name must be specified"}},
	})
}
