package meshcircuitbreaker_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshcircuitbreaker"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestValidate(t *testing.T) {
	policytest.Validate(t, meshcircuitbreaker.Kind(), []policytest.Case{
		{Name: "good", Spec: "to: [{targetRef: {kind: MeshMultiZoneService, name: a}, default: {connectionLimits: {maxConnections: 1}, outlierDetection: {interval: 1s, baseEjectionTime: 1s, maxEjectionPercent: 100, detectors: {totalFailures: {}, successRate: {standardDeviationFactor: \"1.9\"}, failurePercentage: {threshold: 0}}}}}], from: [{targetRef: {kind: Mesh}, default: {connectionLimits: {}}}]"},
		{Name: "nothing", Spec: "", Want: []string{"spec: at least one of 'from', 'to' has to be defined"}},
		{Name: "empty", Spec: "to: [{targetRef: {kind: Mesh}}]", Want: []string{"spec.to[0].default: at least one of: 'connectionLimits' or 'outlierDetection' should be configured"}},
		{Name: "limits", Spec: "to: [{targetRef: {kind: Mesh}, default: {connectionLimits: {maxConnections: 0, maxConnectionPools: 0, maxPendingRequests: 0, maxRetries: 0, maxRequests: 0}}}]", Want: []string{"spec.to[0].default.connectionLimits.maxConnections: must be greater than 0", "spec.to[0].default.connectionLimits.maxConnectionPools: must be greater than 0", "spec.to[0].default.connectionLimits.maxPendingRequests: must be greater than 0", "spec.to[0].default.connectionLimits.maxRetries: must be greater than 0", "spec.to[0].default.connectionLimits.maxRequests: must be greater than 0"}},
		{Name: "no detector", Spec: "to: [{targetRef: {kind: Mesh}, default: {outlierDetection: {interval: 0s, baseEjectionTime: 0s, detectors: {}}}}]", Want: []string{"spec.to[0].default.outlierDetection.interval: must be greater than zero when defined", "spec.to[0].default.outlierDetection.baseEjectionTime: must be greater than zero when defined", "spec.to[0].default.outlierDetection.detectors: must have at least one defined: totalFailures, gatewayFailures, localOriginFailures, successRate, failurePercentage"}},
		{Name: "detectors", Spec: "to: [{targetRef: {kind: Mesh}, default: {outlierDetection: {detectors: {totalFailures: {consecutive: 0}, successRate: {minimumHosts: 0, requestVolume: 0, standardDeviationFactor: x}, failurePercentage: {minimumHosts: 0, requestVolume: 0, threshold: 101}}}}}]", Want: []string{"spec.to[0].default.outlierDetection.detectors.totalFailures.consecutive: must be greater than 0", "spec.to[0].default.outlierDetection.detectors.successRate.minimumHosts: must be greater than 0", "spec.to[0].default.outlierDetection.detectors.successRate.requestVolume: must be greater than 0", "spec.to[0].default.outlierDetection.detectors.successRate.standardDeviationFactor: string must be a valid number", "spec.to[0].default.outlierDetection.detectors.failurePercentage.minimumHosts: must be greater than 0", "spec.to[0].default.outlierDetection.detectors.failurePercentage.requestVolume: must be greater than 0", "spec.to[0].default.outlierDetection.detectors.failurePercentage.threshold: must be in inclusive range [0, 100]"}},
		{Name: "factor", Spec: "to: [{targetRef: {kind: Mesh}, default: {outlierDetection: {detectors: {successRate: {standardDeviationFactor: \"-1\"}}}}}]", Want: []string{"spec.to[0].default.outlierDetection.detectors.successRate.standardDeviationFactor: must be greater or equal then: 0"}},
		{Name: "destination", Spec: "to: [{targetRef: {kind: MeshExternalService, name: a}, default: {connectionLimits: {}}}]", Want: []string{"spec.to[0].targetRef.kind: value is not supported"}},
	})
}
