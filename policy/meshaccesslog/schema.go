// Package meshaccesslog writes a line for every connection or request of a proxy (contract policies.md §3.11).
package meshaccesslog

import (
	"encoding/json"

	"github.com/kuma-dp/kuma-dp/policy"
)

// Spec is the body of a MeshAccessLog.
type Spec struct {
	policy.ToFromSpec[Conf]
}

// Conf says where to write. An empty list, unlike an absent one, is a value: it ends the logging that a policy of lower
// precedence has begun.
type Conf struct {
	Backends []Backend `json:"backends,omitzero"`
}

// Backend is a place to write to; Type names the member that is used.
type Backend struct {
	// Type is BackendTCP, BackendFile or BackendOpenTelemetry.
	Type          string         `json:"type" schema:"required"`
	TCP           *TCP           `json:"tcp,omitempty"`
	File          *File          `json:"file,omitempty"`
	OpenTelemetry *OpenTelemetry `json:"openTelemetry,omitempty"`
}

// TCP is a server that the agent sends lines to.
type TCP struct {
	// Address is host:port.
	Address string `json:"address" schema:"required"`
	// Format is Kuma's when absent.
	Format *Format `json:"format,omitempty"`
}

// File is a file on the proxy's host.
type File struct {
	// Path is absolute.
	Path string `json:"path" schema:"required"`
	// Format is Kuma's when absent.
	Format *Format `json:"format,omitempty"`
}

// OpenTelemetry is a collector of OTLP logs over gRPC.
type OpenTelemetry struct {
	// Endpoint is host or host:port; the default port is 4317.
	Endpoint string `json:"endpoint" schema:"required"`
	// Attributes are attributes of the record.
	Attributes []KeyValue `json:"attributes,omitempty"`
	// Body is the AnyValue of OTLP in JSON; null is like absent.
	Body json.RawMessage `json:"body,omitempty"`
}

// Format is the form of a line, with Envoy's command operators; Type names the member that is used.
type Format struct {
	// Type is FormatPlain or FormatJSON.
	Type string `json:"type" schema:"required"`
	// Plain is the line.
	Plain *string `json:"plain,omitempty"`
	// JSON is the members of the object.
	JSON []KeyValue `json:"json,omitzero"`
	// OmitEmptyValues leaves out what has no value.
	OmitEmptyValues *bool `json:"omitEmptyValues,omitempty" k8s:"false"`
}

// KeyValue is a member of a JSON object or an attribute.
type KeyValue struct {
	// Key is the name.
	Key string `json:"key"`
	// Value is the value, with command operators.
	Value string `json:"value"`
}

// Values of the enumerations.
const (
	BackendTCP           = "Tcp"
	BackendFile          = "File"
	BackendOpenTelemetry = "OpenTelemetry"

	FormatPlain = "Plain"
	FormatJSON  = "Json"
)
