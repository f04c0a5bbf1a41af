// Package meshcircuitbreaker limits connections and takes failing endpoints out of use (contract policies.md §3.6).
package meshcircuitbreaker

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Spec is the body of a MeshCircuitBreaker.
type Spec struct {
	policy.ToFromSpec[Conf]
}

// Conf has at least one part.
type Conf struct {
	ConnectionLimits *ConnectionLimits `json:"connectionLimits,omitempty"`
	OutlierDetection *OutlierDetection `json:"outlierDetection,omitempty"`
}

// ConnectionLimits are maxima towards one service; an absent one is Envoy's.
type ConnectionLimits struct {
	// MaxConnectionPools is the number of connection pools at a time.
	MaxConnectionPools *uint32 `json:"maxConnectionPools,omitempty"`
	// MaxConnections is the number of connections.
	MaxConnections *uint32 `json:"maxConnections,omitempty"`
	// MaxPendingRequests is the number of requests that wait for a connection.
	MaxPendingRequests *uint32 `json:"maxPendingRequests,omitempty"`
	// MaxRetries is the number of retries at a time.
	MaxRetries *uint32 `json:"maxRetries,omitempty"`
	// MaxRequests is the number of requests at a time.
	MaxRequests *uint32 `json:"maxRequests,omitempty"`
}

// OutlierDetection ejects endpoints that fail.
type OutlierDetection struct {
	// Disabled switches the detection off.
	Disabled *bool `json:"disabled,omitempty"`
	// Interval is the time between two looks.
	Interval *resource.Duration `json:"interval,omitempty"`
	// BaseEjectionTime is how long the first ejection lasts; later ones last longer.
	BaseEjectionTime *resource.Duration `json:"baseEjectionTime,omitempty"`
	// MaxEjectionPercent of the endpoints may be out of use at one time.
	MaxEjectionPercent *uint32 `json:"maxEjectionPercent,omitempty"`
	// SplitExternalAndLocalErrors counts errors of this side, such as refused connections, apart from bad answers.
	SplitExternalAndLocalErrors *bool      `json:"splitExternalAndLocalErrors,omitempty"`
	Detectors                   *Detectors `json:"detectors,omitempty"`
}

// Detectors say what a failure is; a detector that is present is in force, also when it is empty.
type Detectors struct {
	// TotalFailures are every failure, also of the connection.
	TotalFailures *Consecutive `json:"totalFailures,omitempty"`
	// GatewayFailures answers 502, 503 and 504 only.
	GatewayFailures *Consecutive `json:"gatewayFailures,omitempty"`
	// LocalOriginFailures are failures on this side, such as refused connections.
	LocalOriginFailures *Consecutive `json:"localOriginFailures,omitempty"`
	// SuccessRate is endpoints that are worse than the others.
	SuccessRate *SuccessRate `json:"successRate,omitempty"`
	// FailurePercentage is endpoints with too large a share of failures.
	FailurePercentage *FailurePercentage `json:"failurePercentage,omitempty"`
}

// Consecutive ejects after so many failures in a row.
type Consecutive struct {
	// Consecutive is the number of failures in a row.
	Consecutive *uint32 `json:"consecutive,omitempty"`
}

// SuccessRate ejects endpoints that are worse than the others.
type SuccessRate struct {
	// MinimumHosts is the number of endpoints with traffic that is needed to compare.
	MinimumHosts *uint32 `json:"minimumHosts,omitempty"`
	// RequestVolume is the number of requests that an endpoint needs to count.
	RequestVolume *uint32 `json:"requestVolume,omitempty"`
	// StandardDeviationFactor is a number, or a decimal fraction in a string such as "1.9".
	StandardDeviationFactor *resource.IntOrString `json:"standardDeviationFactor,omitempty"`
}

// FailurePercentage ejects endpoints above a share of failures.
type FailurePercentage struct {
	// MinimumHosts is the number of endpoints with traffic that is needed.
	MinimumHosts *uint32 `json:"minimumHosts,omitempty"`
	// RequestVolume is the number of requests that an endpoint needs to count.
	RequestVolume *uint32 `json:"requestVolume,omitempty"`
	// Threshold is a percentage.
	Threshold *uint32 `json:"threshold,omitempty"`
}
