// Package meshhealthcheck lets proxies ask the endpoints they send to whether they are well (contract policies.md §3.10).
package meshhealthcheck

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Spec is the body of a MeshHealthCheck.
type Spec struct {
	policy.ToSpec[Conf]
}

// Conf says when to check, what follows from it, and how to check for each protocol; the proxy uses the part of the
// service's protocol. At least one of TCP, HTTP and GRPC is given. The values of absent fields are those that the schema
// for Kubernetes gives them.
type Conf struct {
	// Interval is the time between two checks, 1m when absent.
	Interval *resource.Duration `json:"interval,omitempty" k8s:"1m"`
	// Timeout is how long an answer may take, 15s when absent.
	Timeout *resource.Duration `json:"timeout,omitempty" k8s:"15s"`
	// UnhealthyThreshold is the number of failures that make an endpoint unhealthy, 5 when absent.
	UnhealthyThreshold *uint32 `json:"unhealthyThreshold,omitempty" k8s:"5"`
	// HealthyThreshold is the number of successes that make it healthy again, 1 when absent.
	HealthyThreshold *uint32 `json:"healthyThreshold,omitempty" k8s:"1"`
	// InitialJitter is the longest random delay of the first check.
	InitialJitter *resource.Duration `json:"initialJitter,omitempty"`
	// IntervalJitter is the longest random prolongation of Interval.
	IntervalJitter *resource.Duration `json:"intervalJitter,omitempty"`
	// IntervalJitterPercent is the same as a percentage of Interval.
	IntervalJitterPercent *uint32 `json:"intervalJitterPercent,omitempty"`
	// HealthyPanicThreshold is the percentage of healthy endpoints below which health is ignored, a policy.Decimal.
	HealthyPanicThreshold *resource.IntOrString `json:"healthyPanicThreshold,omitempty"`
	// FailTrafficOnPanic refuses traffic below the threshold instead.
	FailTrafficOnPanic *bool `json:"failTrafficOnPanic,omitempty"`
	// EventLogPath is a file on the proxy's host that tells changes of health.
	EventLogPath *string `json:"eventLogPath,omitempty"`
	// AlwaysLogHealthCheckFailures logs every failure, not only the first.
	AlwaysLogHealthCheckFailures *bool `json:"alwaysLogHealthCheckFailures,omitempty"`
	// NoTrafficInterval is Interval for services that nobody has used yet.
	NoTrafficInterval *resource.Duration `json:"noTrafficInterval,omitempty"`
	// ReuseConnection keeps the connection between checks; Envoy does when it is absent.
	ReuseConnection *bool `json:"reuseConnection,omitempty"`
	// TCP is the check of TCP services.
	TCP *TCP `json:"tcp,omitempty"`
	// HTTP is the check of HTTP services.
	HTTP *HTTP `json:"http,omitempty"`
	// GRPC is the check of gRPC services.
	GRPC *GRPC `json:"grpc,omitempty"`
}

// TCP connects and, when Send or Receive are given, exchanges bytes.
type TCP struct {
	// Disabled switches this check off.
	Disabled *bool `json:"disabled,omitempty"`
	// Send is what to send, in base64.
	Send *string `json:"send,omitempty"`
	// Receive is what must come back, in base64.
	Receive []string `json:"receive,omitzero"`
}

// HTTP makes a request.
type HTTP struct {
	// Disabled switches this check off.
	Disabled *bool `json:"disabled,omitempty"`
	// Path is "/" when absent.
	Path *string `json:"path,omitempty" k8s:"/"`
	// RequestHeadersToAdd is headers of the request.
	RequestHeadersToAdd *policy.HeaderModifier `json:"requestHeadersToAdd,omitempty"`
	// ExpectedStatuses are those of a healthy endpoint, 200 when absent.
	ExpectedStatuses []uint32 `json:"expectedStatuses,omitzero"`
}

// GRPC uses the health service of gRPC.
type GRPC struct {
	// Disabled switches this check off.
	Disabled *bool `json:"disabled,omitempty"`
	// ServiceName is the name to ask for.
	ServiceName *string `json:"serviceName,omitempty"`
	// Authority is the value of the :authority header.
	Authority *string `json:"authority,omitempty"`
}
