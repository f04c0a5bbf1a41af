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
	MaxConnectionPools *uint32 `json:"maxConnectionPools,omitempty"`
	MaxConnections     *uint32 `json:"maxConnections,omitempty"`
	MaxPendingRequests *uint32 `json:"maxPendingRequests,omitempty"`
	MaxRetries         *uint32 `json:"maxRetries,omitempty"`
	MaxRequests        *uint32 `json:"maxRequests,omitempty"`
}

// OutlierDetection ejects endpoints that fail.
type OutlierDetection struct {
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
	TotalFailures       *Consecutive       `json:"totalFailures,omitempty"`
	GatewayFailures     *Consecutive       `json:"gatewayFailures,omitempty"`
	LocalOriginFailures *Consecutive       `json:"localOriginFailures,omitempty"`
	SuccessRate         *SuccessRate       `json:"successRate,omitempty"`
	FailurePercentage   *FailurePercentage `json:"failurePercentage,omitempty"`
}

// Consecutive ejects after so many failures in a row.
type Consecutive struct {
	Consecutive *uint32 `json:"consecutive,omitempty"`
}

// SuccessRate ejects endpoints that are worse than the others.
type SuccessRate struct {
	MinimumHosts  *uint32 `json:"minimumHosts,omitempty"`
	RequestVolume *uint32 `json:"requestVolume,omitempty"`
	// StandardDeviationFactor is a number, or a decimal fraction in a string such as "1.9".
	StandardDeviationFactor *resource.IntOrString `json:"standardDeviationFactor,omitempty"`
}

// FailurePercentage ejects endpoints above a share of failures.
type FailurePercentage struct {
	MinimumHosts  *uint32 `json:"minimumHosts,omitempty"`
	RequestVolume *uint32 `json:"requestVolume,omitempty"`
	// Threshold is a percentage.
	Threshold *uint32 `json:"threshold,omitempty"`
}
