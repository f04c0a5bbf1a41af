// Package meshfaultinjection lets requests fail on purpose (contract policies.md §3.15).
package meshfaultinjection

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Spec is the body of a MeshFaultInjection.
type Spec struct {
	policy.ToFromSpec[Conf]
}

// Conf holds the faults.
type Conf struct {
	// HTTP is a list in which every element draws lots for itself. An empty list replaces one of lower precedence, an absent
	// one does not.
	HTTP []Fault `json:"http,omitzero"`
}

// Fault is what happens to a request; nothing is fine too.
type Fault struct {
	Abort             *Abort     `json:"abort,omitempty"`
	Delay             *Delay     `json:"delay,omitempty"`
	ResponseBandwidth *Bandwidth `json:"responseBandwidth,omitempty"`
}

// Abort answers at once.
type Abort struct {
	// HTTPStatus are the answer, 100 to 599.
	HTTPStatus int32 `json:"httpStatus" schema:"required"`
	// Percentage of the requests, 0 to 100, a number or a decimal fraction in a string.
	Percentage resource.IntOrString `json:"percentage" schema:"required"`
}

// Delay waits before the request goes on.
type Delay struct {
	// Value is how long; zero is allowed.
	Value resource.Duration `json:"value" schema:"required"`
	// Percentage of the requests, as in Abort.
	Percentage resource.IntOrString `json:"percentage" schema:"required"`
}

// Bandwidth slows the response down.
type Bandwidth struct {
	// Limit is a number with its unit, see ParseBandwidth.
	Limit string `json:"limit" schema:"required"`
	// Percentage of the requests, as in Abort.
	Percentage resource.IntOrString `json:"percentage" schema:"required"`
}
