// Package meshratelimit limits how often a proxy is asked, counted by each proxy alone (contract policies.md §3.14).
package meshratelimit

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Spec is the body of a MeshRateLimit.
type Spec struct {
	policy.ToFromSpec[Conf]
}

// Conf holds the limits; Local is required.
type Conf struct {
	// Local is the limits; every proxy counts for itself.
	Local *Local `json:"local,omitempty"`
}

// Local has a part for each protocol and at least one of them.
type Local struct {
	HTTP *HTTP `json:"http,omitempty"`
	TCP  *TCP  `json:"tcp,omitempty"`
}

// HTTP limits requests; without a RequestRate it limits nothing.
type HTTP struct {
	// Disabled switches the limit off.
	Disabled *bool `json:"disabled,omitempty"`
	// RequestRate is how many requests there may be.
	RequestRate *Rate        `json:"requestRate,omitempty"`
	OnRateLimit *OnRateLimit `json:"onRateLimit,omitempty"`
}

// TCP limits connections; without a ConnectionRate it limits nothing.
type TCP struct {
	// Disabled switches the limit off.
	Disabled *bool `json:"disabled,omitempty"`
	// ConnectionRate is how many connections there may be.
	ConnectionRate *Rate `json:"connectionRate,omitempty"`
}

// Rate is Num in each Interval.
type Rate struct {
	// Num is more than zero.
	Num uint32 `json:"num" schema:"required"`
	// Interval is more than MinInterval.
	Interval resource.Duration `json:"interval" schema:"required"`
}

// OnRateLimit is the answer to a request over the limit.
type OnRateLimit struct {
	// Status are the HTTP status; absent or zero it is 429.
	Status *uint32 `json:"status,omitempty"`
	// Headers are those of the answer.
	Headers *policy.HeaderModifier `json:"headers,omitempty"`
}
