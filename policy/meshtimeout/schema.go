// Package meshtimeout limits how long connections and requests may take (contract policies.md §3.4).
package meshtimeout

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Spec is the body of a MeshTimeout.
type Spec struct {
	policy.ToFromSpec[Conf]
}

// Conf holds limits; an absent one says nothing, zero switches off.
type Conf struct {
	// ConnectionTimeout is how long connecting may take; more than zero.
	ConnectionTimeout *resource.Duration `json:"connectionTimeout,omitempty"`
	// IdleTimeout is how long a connection may stay without bytes (TCP) or requests (HTTP).
	IdleTimeout *resource.Duration `json:"idleTimeout,omitempty"`
	HTTP        *HTTP              `json:"http,omitempty"`
}

// HTTP holds the limits of HTTP traffic.
type HTTP struct {
	// RequestTimeout is how long a request may take until the whole answer is there.
	RequestTimeout *resource.Duration `json:"requestTimeout,omitempty"`
	// StreamIdleTimeout is how long a stream may stay without bytes.
	StreamIdleTimeout *resource.Duration `json:"streamIdleTimeout,omitempty"`
	// MaxStreamDuration is how long a stream may live.
	MaxStreamDuration *resource.Duration `json:"maxStreamDuration,omitempty"`
	// MaxConnectionDuration is how long a connection may live.
	MaxConnectionDuration *resource.Duration `json:"maxConnectionDuration,omitempty"`
	// RequestHeadersTimeout is how long the request's headers may take.
	RequestHeadersTimeout *resource.Duration `json:"requestHeadersTimeout,omitempty"`
}
