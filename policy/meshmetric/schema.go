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
	// Sidecar is which of Envoy's metrics there are.
	Sidecar *Sidecar `json:"sidecar,omitempty"`
	// Applications are whose metrics are offered too.
	Applications []Application `json:"applications,omitzero"`
	// Backends are who gets the metrics.
	Backends []Backend `json:"backends,omitzero"`
}

// Sidecar chooses among Envoy's metrics.
type Sidecar struct {
	Profiles *Profiles `json:"profiles,omitempty"`
	// IncludeUnused adds those that nothing has touched yet, false when absent.
	IncludeUnused *bool `json:"includeUnused,omitempty" k8s:"false"`
}

// Profiles is a choice: what a profile has, without Exclude, with Include.
type Profiles struct {
	// AppendProfiles are joined over all policies.
	AppendProfiles []Profile `json:"appendProfiles,omitzero"`
	// Exclude takes metrics away.
	Exclude []Selector `json:"exclude,omitzero"`
	// Include brings metrics back; it wins over exclude.
	Include []Selector `json:"include,omitzero"`
}

// Profile is a named set of metrics: ProfileAll, ProfileBasic or ProfileNone.
type Profile struct {
	// Name is All, Basic or None.
	Name string `json:"name" schema:"required"`
}

// Selector matches names of metrics.
type Selector struct {
	// Type is SelectPrefix, SelectRegex, SelectExact or SelectContains.
	Type string `json:"type" schema:"required"`
	// Match is what the name is compared with.
	Match string `json:"match" schema:"required"`
}

// Application is an application beside the proxy that offers metrics in the form of Prometheus.
type Application struct {
	// Name tells applications apart in the metrics.
	Name *string `json:"name,omitempty"`
	// Path is "/metrics" when absent.
	Path *string `json:"path,omitempty" k8s:"/metrics/prometheus"`
	// Address is the host of the proxy when absent.
	Address *string `json:"address,omitempty"`
	// Port is the application's port.
	Port *uint32 `json:"port,omitempty" schema:"required"`
}

// Backend gets the metrics; Type names the member that is used.
type Backend struct {
	// Type is BackendPrometheus or BackendOpenTelemetry.
	Type string `json:"type" schema:"required"`
	// Prometheus belongs to type Prometheus: a server that fetches from the proxy.
	Prometheus *Prometheus `json:"prometheus,omitempty"`
	// OpenTelemetry belongs to type OpenTelemetry: a collector that the agent pushes to.
	OpenTelemetry *OpenTelemetry `json:"openTelemetry,omitempty"`
}

// Prometheus fetches from the proxy. Port and Path are never nil in a valid policy.
type Prometheus struct {
	// ClientID tells several servers apart, DefaultClientID when absent.
	ClientID *string `json:"clientId,omitempty"`
	// Port is the port of every proxy that is opened.
	Port *uint32 `json:"port,omitempty" schema:"required" k8s:"5670"`
	// Path is the path there.
	Path *string `json:"path,omitempty" schema:"required" k8s:"/metrics"`
	TLS  *TLS    `json:"tls,omitempty"`
}

// TLS says how the port is protected: TLSDisabled, TLSProvided or TLSActiveMTLSBackend.
type TLS struct {
	// Mode is Disabled, ProvidedTLS or ActiveMTLSBackend.
	Mode string `json:"mode,omitempty"`
}

// OpenTelemetry is a collector that the agent pushes to.
type OpenTelemetry struct {
	// Endpoint is host or host:port; the default port is 4317.
	Endpoint string `json:"endpoint" schema:"required"`
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
