// Package meshtrace sends spans of the requests of a proxy to a tracing system (contract policies.md §3.13).
package meshtrace

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Spec is the body of a MeshTrace.
type Spec struct {
	policy.SingleSpec[Conf]
}

// Conf says where spans go, which requests make one, and what is written to it. An empty list, unlike an absent one, is a
// value and replaces that of a policy of lower precedence.
type Conf struct {
	// Backends has at most one element; none ends the tracing.
	Backends []Backend `json:"backends,omitzero"`
	// Sampling is the share of requests that make a span.
	Sampling *Sampling `json:"sampling,omitempty"`
	// Tags are what is written to every span.
	Tags []Tag `json:"tags,omitzero"`
}

// Backend is a tracing system; Type names the member that is used.
type Backend struct {
	// Type is BackendZipkin, BackendDatadog or BackendOpenTelemetry.
	Type string `json:"type" schema:"required"`
	// Zipkin belongs to type Zipkin.
	Zipkin *Zipkin `json:"zipkin,omitempty"`
	// Datadog belongs to type Datadog.
	Datadog *Datadog `json:"datadog,omitempty"`
	// OpenTelemetry belongs to type OpenTelemetry.
	OpenTelemetry *OpenTelemetry `json:"openTelemetry,omitempty"`
}

// Zipkin is a collector of Zipkin.
type Zipkin struct {
	// URL has scheme http or https.
	URL string `json:"url" schema:"required"`
	// TraceID128Bit makes 128 bits instead of 64.
	TraceID128Bit *bool `json:"traceId128bit,omitempty" k8s:"false"`
	// APIVersion is APIVersionJSON, also when empty, or APIVersionProto.
	APIVersion string `json:"apiVersion,omitempty" k8s:"httpJson"`
	// SharedSpanContext gives client and server one span, true when absent.
	SharedSpanContext *bool `json:"sharedSpanContext,omitempty" k8s:"true"`
}

// Datadog is an agent of Datadog.
type Datadog struct {
	// URL is http://host:port.
	URL string `json:"url" schema:"required"`
	// SplitService names the service apart for each direction and destination.
	SplitService *bool `json:"splitService,omitempty" k8s:"false"`
}

// OpenTelemetry is a collector of OTLP traces over gRPC.
type OpenTelemetry struct {
	// Endpoint is host or host:port; the default port is 4317.
	Endpoint string `json:"endpoint" schema:"required"`
}

// Sampling holds percentages, each a policy.Decimal; an absent one is 100.
type Sampling struct {
	// Overall limits what the other two let through.
	Overall *resource.IntOrString `json:"overall,omitempty"`
	// Client is for requests that ask for a trace, Random for the others.
	Client *resource.IntOrString `json:"client,omitempty"`
	// Random is for requests that do not ask for a trace.
	Random *resource.IntOrString `json:"random,omitempty"`
}

// Tag is written to every span: either the Literal or the value of a Header.
type Tag struct {
	// Name is the tag's name.
	Name string `json:"name" schema:"required"`
	// Literal is the value itself.
	Literal *string `json:"literal,omitempty"`
	// Header is where the value comes from.
	Header *Header `json:"header,omitempty"`
}

// Header takes the value of a tag from a request.
type Header struct {
	// Name is the header of the request.
	Name string `json:"name" schema:"required"`
	// Default is for requests without the header; without one they get no tag.
	Default *string `json:"default,omitempty"`
}

// Values of the enumerations.
const (
	BackendZipkin        = "Zipkin"
	BackendDatadog       = "Datadog"
	BackendOpenTelemetry = "OpenTelemetry"

	APIVersionJSON  = "httpJson"
	APIVersionProto = "httpProto"
)
