package meshcircuitbreaker_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy/meshcircuitbreaker"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestValidate(t *testing.T) {
	registry := resource.NewRegistry(meshcircuitbreaker.Kind().Descriptor)
	for _, tt := range []struct {
		name, spec string
		// want holds "field: reason", none for a valid policy.
		want []string
	}{
		{"good", "to: [{targetRef: {kind: MeshMultiZoneService, name: a}, default: {connectionLimits: {maxConnections: 1}, outlierDetection: {interval: 1s, baseEjectionTime: 1s, maxEjectionPercent: 100, detectors: {totalFailures: {}, successRate: {standardDeviationFactor: \"1.9\"}, failurePercentage: {threshold: 0}}}}}], from: [{targetRef: {kind: Mesh}, default: {connectionLimits: {}}}]", nil},
		{"nothing", "", []string{"spec: at least one of 'from', 'to' has to be defined"}},
		{"empty", "to: [{targetRef: {kind: Mesh}}]", []string{"spec.to[0].default: at least one of: 'connectionLimits' or 'outlierDetection' should be configured"}},
		{"limits", "to: [{targetRef: {kind: Mesh}, default: {connectionLimits: {maxConnections: 0, maxConnectionPools: 0, maxPendingRequests: 0, maxRetries: 0, maxRequests: 0}}}]", []string{"spec.to[0].default.connectionLimits.maxConnections: must be greater than 0", "spec.to[0].default.connectionLimits.maxConnectionPools: must be greater than 0", "spec.to[0].default.connectionLimits.maxPendingRequests: must be greater than 0", "spec.to[0].default.connectionLimits.maxRetries: must be greater than 0", "spec.to[0].default.connectionLimits.maxRequests: must be greater than 0"}},
		{"no detector", "to: [{targetRef: {kind: Mesh}, default: {outlierDetection: {interval: 0s, baseEjectionTime: 0s, detectors: {}}}}]", []string{"spec.to[0].default.outlierDetection.interval: must be greater than zero when defined", "spec.to[0].default.outlierDetection.baseEjectionTime: must be greater than zero when defined", "spec.to[0].default.outlierDetection.detectors: must have at least one defined: totalFailures, gatewayFailures, localOriginFailures, successRate, failurePercentage"}},
		{"detectors", "to: [{targetRef: {kind: Mesh}, default: {outlierDetection: {detectors: {totalFailures: {consecutive: 0}, successRate: {minimumHosts: 0, requestVolume: 0, standardDeviationFactor: x}, failurePercentage: {minimumHosts: 0, requestVolume: 0, threshold: 101}}}}}]", []string{"spec.to[0].default.outlierDetection.detectors.totalFailures.consecutive: must be greater than 0", "spec.to[0].default.outlierDetection.detectors.successRate.minimumHosts: must be greater than 0", "spec.to[0].default.outlierDetection.detectors.successRate.requestVolume: must be greater than 0", "spec.to[0].default.outlierDetection.detectors.successRate.standardDeviationFactor: string must be a valid number", "spec.to[0].default.outlierDetection.detectors.failurePercentage.minimumHosts: must be greater than 0", "spec.to[0].default.outlierDetection.detectors.failurePercentage.requestVolume: must be greater than 0", "spec.to[0].default.outlierDetection.detectors.failurePercentage.threshold: must be in inclusive range [0, 100]"}},
		{"factor", "to: [{targetRef: {kind: Mesh}, default: {outlierDetection: {detectors: {successRate: {standardDeviationFactor: \"-1\"}}}}}]", []string{"spec.to[0].default.outlierDetection.detectors.successRate.standardDeviationFactor: must be greater or equal then: 0"}},
		{"destination", "to: [{targetRef: {kind: MeshExternalService, name: a}, default: {connectionLimits: {}}}]", []string{"spec.to[0].targetRef.kind: value is not supported"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := registry.DecodeYAML([]byte("{type: " + string(meshcircuitbreaker.Name) + ", mesh: m, name: p, spec: {" + tt.spec + "}}"))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range resource.Validate(r) {
				got = append(got, f.Field+": "+f.Reason)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}
