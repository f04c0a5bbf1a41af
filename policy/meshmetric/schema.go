// Package meshmetric offers the metrics of a proxy and of its applications (contract policies.md §3.12).
package meshmetric

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Spec is the body of a MeshMetric.
type Spec struct {
	policy.SingleSpec[Conf]
}

// Conf says which metrics there are and who gets them. An empty list, unlike an absent one, is a value and replaces that
// of a policy of lower precedence.
type Conf struct {
	Sidecar      *Sidecar      `json:"sidecar,omitempty"`
	Applications []Application `json:"applications,omitzero"`
	Backends     []Backend     `json:"backends,omitzero"`
}

// Sidecar chooses among Envoy's metrics.
type Sidecar struct {
	Profiles *Profiles `json:"profiles,omitempty"`
	// IncludeUnused adds those that nothing has touched yet, false when absent.
	IncludeUnused *bool `json:"includeUnused,omitempty"`
}

// Profiles is a choice: what a profile has, without Exclude, with Include.
type Profiles struct {
	// AppendProfiles are joined over all policies.
	AppendProfiles []Profile  `json:"appendProfiles,omitzero"`
	Exclude        []Selector `json:"exclude,omitzero"`
	Include        []Selector `json:"include,omitzero"`
}

// Profile is a named set of metrics: ProfileAll, ProfileBasic or ProfileNone.
type Profile struct {
	Name string `json:"name"`
}

// Selector matches names of metrics.
type Selector struct {
	// Type is SelectPrefix, SelectRegex, SelectExact or SelectContains.
	Type  string `json:"type"`
	Match string `json:"match"`
}

// Application is an application beside the proxy that offers metrics in the form of Prometheus.
type Application struct {
	Name *string `json:"name,omitempty"`
	// Path is "/metrics" when absent.
	Path *string `json:"path,omitempty"`
	// Address is the host of the proxy when absent.
	Address *string `json:"address,omitempty"`
	Port    *uint32 `json:"port,omitempty"`
}

// Backend gets the metrics; Type names the member that is used.
type Backend struct {
	// Type is BackendPrometheus or BackendOpenTelemetry.
	Type          string         `json:"type"`
	Prometheus    *Prometheus    `json:"prometheus,omitempty"`
	OpenTelemetry *OpenTelemetry `json:"openTelemetry,omitempty"`
}

// Prometheus fetches from the proxy. Port and Path are never nil in a valid policy.
type Prometheus struct {
	// ClientID tells several servers apart, DefaultClientID when absent.
	ClientID *string `json:"clientId,omitempty"`
	Port     *uint32 `json:"port,omitempty"`
	Path     *string `json:"path,omitempty"`
	TLS      *TLS    `json:"tls,omitempty"`
}

// TLS says how the port is protected: TLSDisabled, TLSProvided or TLSActiveMTLSBackend.
type TLS struct {
	Mode string `json:"mode,omitempty"`
}

// OpenTelemetry is a collector that the agent pushes to.
type OpenTelemetry struct {
	// Endpoint is host or host:port; the default port is 4317.
	Endpoint string `json:"endpoint"`
	// RefreshInterval is the time between two pushes, 60s when absent.
	RefreshInterval *resource.Duration `json:"refreshInterval,omitempty"`
}

// Values of the enumerations.
const (
	BackendPrometheus    = "Prometheus"
	BackendOpenTelemetry = "OpenTelemetry"

	ProfileAll   = "All"
	ProfileBasic = "Basic"
	ProfileNone  = "None"

	SelectPrefix   = "Prefix"
	SelectRegex    = "Regex"
	SelectExact    = "Exact"
	SelectContains = "Contains"

	TLSDisabled          = "Disabled"
	TLSProvided          = "ProvidedTLS"
	TLSActiveMTLSBackend = "ActiveMTLSBackend"

	// DefaultClientID stands for an absent Prometheus.ClientID.
	DefaultClientID = "default-backend"
)
