// Package meshretry repeats failed requests and connections (contract policies.md §3.5).
package meshretry

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Spec is the body of a MeshRetry.
type Spec struct {
	policy.ToSpec[Conf]
}

// Conf has a part for each protocol.
type Conf struct {
	TCP  *TCP  `json:"tcp,omitempty"`
	HTTP *HTTP `json:"http,omitempty"`
	GRPC *GRPC `json:"grpc,omitempty"`
}

// TCP repeats the connection.
type TCP struct {
	// MaxConnectAttempt is the number of attempts to connect.
	MaxConnectAttempt *uint32 `json:"maxConnectAttempt,omitempty"`
}

// HTTP repeats requests.
type HTTP struct {
	// NumRetries is the number of further attempts; zero switches retries off.
	NumRetries *uint32 `json:"numRetries,omitempty"`
	// PerTryTimeout is the limit of each attempt, the request timeout when absent.
	PerTryTimeout *resource.Duration `json:"perTryTimeout,omitempty"`
	// BackOff is the pause between attempts.
	BackOff *BackOff `json:"backOff,omitempty"`
	// RateLimitedBackOff is the pause that the answer asks for.
	RateLimitedBackOff *RateLimitedBackOff `json:"rateLimitedBackOff,omitempty"`
	// RetryOn holds names (see HTTPConditions), "HttpMethod<Method>" and decimal HTTP statuses.
	RetryOn []string `json:"retryOn,omitzero"`
	// RetriableResponseHeaders answers that are worth another attempt.
	RetriableResponseHeaders []HeaderMatch `json:"retriableResponseHeaders,omitzero"`
	// RetriableRequestHeaders are requests that may be repeated, all when absent.
	RetriableRequestHeaders []HeaderMatch `json:"retriableRequestHeaders,omitzero"`
	// HostSelection is the endpoints that further attempts leave out.
	HostSelection []HostPredicate `json:"hostSelection,omitzero"`
	// HostSelectionMaxAttempts are how often another endpoint is looked for.
	HostSelectionMaxAttempts *int64 `json:"hostSelectionMaxAttempts,omitempty"`
}

// GRPC repeats calls.
type GRPC struct {
	// NumRetries is the number of further attempts; zero switches retries off.
	NumRetries *uint32 `json:"numRetries,omitempty"`
	// PerTryTimeout is the limit of each attempt.
	PerTryTimeout *resource.Duration `json:"perTryTimeout,omitempty"`
	// BackOff is the pause between attempts.
	BackOff *BackOff `json:"backOff,omitempty"`
	// RateLimitedBackOff is the pause that the answer asks for.
	RateLimitedBackOff *RateLimitedBackOff `json:"rateLimitedBackOff,omitempty"`
	// RetryOn holds names of GRPCConditions.
	RetryOn []string `json:"retryOn,omitzero"`
}

// BackOff is the pause between tries; it doubles from BaseInterval up to MaxInterval.
type BackOff struct {
	// BaseInterval is the first pause.
	BaseInterval *resource.Duration `json:"baseInterval,omitempty" k8s:"25ms"`
	// MaxInterval is the longest pause, ten times the first when absent.
	MaxInterval *resource.Duration `json:"maxInterval,omitempty"`
}

// RateLimitedBackOff takes the pause from a header of the answer.
type RateLimitedBackOff struct {
	// ResetHeaders are headers of the answer that tell the pause.
	ResetHeaders []ResetHeader `json:"resetHeaders,omitzero"`
	// MaxInterval is the longest pause that is kept.
	MaxInterval *resource.Duration `json:"maxInterval,omitempty" k8s:"300s"`
}

// ResetHeader names a header and how to read it: Seconds or UnixTimestamp.
type ResetHeader struct {
	// Name is the header, in lower case.
	Name string `json:"name" schema:"required"`
	// Format is Seconds or UnixTimestamp.
	Format string `json:"format" schema:"required"`
}

// HeaderMatch matches a header; Type is Exact (also when empty), Present, RegularExpression, Absent or Prefix.
type HeaderMatch struct {
	// Type is how the value is compared: Exact (also when empty), Present, RegularExpression, Absent or Prefix.
	Type string `json:"type,omitempty" k8s:"Exact"`
	// Name is the header, in lower case.
	Name string `json:"name" schema:"required"`
	// Value is what its value is compared with.
	Value string `json:"value,omitempty"`
}

// HostPredicate says which endpoint not to try again.
type HostPredicate struct {
	// Predicate is OmitPreviousHosts, OmitHostsWithTags or OmitPreviousPriorities.
	Predicate string `json:"predicate" schema:"required"`
	// Tags belong to OmitHostsWithTags.
	Tags map[string]string `json:"tags,omitempty"`
	// UpdateFrequency belongs to OmitPreviousPriorities.
	UpdateFrequency int32 `json:"updateFrequency,omitempty" k8s:"2"`
}

// Values of the enumerations.
const (
	FormatSeconds       = "Seconds"
	FormatUnixTimestamp = "UnixTimestamp"

	MatchExact             = "Exact"
	MatchPresent           = "Present"
	MatchRegularExpression = "RegularExpression"
	MatchAbsent            = "Absent"
	MatchPrefix            = "Prefix"

	OmitPreviousHosts      = "OmitPreviousHosts"
	OmitHostsWithTags      = "OmitHostsWithTags"
	OmitPreviousPriorities = "OmitPreviousPriorities"

	// MethodPrefix starts the items of HTTP.RetryOn that name a method: "HttpMethodGet".
	MethodPrefix = "HttpMethod"
)

// HTTPConditions are the names that HTTP.RetryOn may hold beside methods and statuses, with Envoy's word for each.
func HTTPConditions() map[string]string {
	return map[string]string{
		"5xx": "5xx", "GatewayError": "gateway-error", "Reset": "reset", "Retriable4xx": "retriable-4xx",
		"ConnectFailure": "connect-failure", "EnvoyRatelimited": "envoy-ratelimited", "RefusedStream": "refused-stream",
		"Http3PostConnectFailure": "http3-post-connect-failure",
	}
}

// GRPCConditions are the names that GRPC.RetryOn may hold, with Envoy's word for each.
func GRPCConditions() map[string]string {
	return map[string]string{
		"Canceled": "canceled", "DeadlineExceeded": "deadline-exceeded", "Internal": "internal",
		"ResourceExhausted": "resource-exhausted", "Unavailable": "unavailable",
	}
}

// Methods are the names that may follow MethodPrefix, in the form of HTTP.
func Methods() map[string]string {
	return map[string]string{
		"Connect": "CONNECT", "Delete": "DELETE", "Get": "GET", "Head": "HEAD", "Options": "OPTIONS", "Patch": "PATCH",
		"Post": "POST", "Put": "PUT", "Trace": "TRACE",
	}
}
