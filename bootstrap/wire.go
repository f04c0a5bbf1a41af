// Package bootstrap is the exchange by which an agent learns how to start Envoy: the wire types of POST /bootstrap and the
// agent's client (contract agent.md §2). bootstrap/generate is the other side: it makes the Envoy bootstrap.
package bootstrap

import "time"

// Path is where a control plane answers, on the data-plane server's port.
const Path = "/bootstrap"

// Proxy types of Request.ProxyType.
const (
	TypeDataplane = "dataplane"
	TypeIngress   = "ingress"
	TypeEgress    = "egress"
)

// Request is what an agent tells about itself. Unknown keys are ignored by both sides.
type Request struct {
	Mesh string `json:"mesh"`
	Name string `json:"name"`
	// ProxyType is one of the constants; a server treats "" as TypeDataplane.
	ProxyType string `json:"proxyType"`
	// DataplaneToken is secret: it must not be logged.
	DataplaneToken string `json:"dataplaneToken,omitempty"`
	// DataplaneTokenPath is the file of the token as Envoy sees it.
	DataplaneTokenPath string `json:"dataplaneTokenPath,omitempty"`
	// DataplaneResource is the Dataplane as JSON or YAML text, in the flat REST form.
	DataplaneResource string  `json:"dataplaneResource,omitempty"`
	Version           Version `json:"version"`
	// CACert is the PEM of the authority that the agent verifies the control plane with.
	CACert          string            `json:"caCert"`
	DynamicMetadata map[string]string `json:"dynamicMetadata"`
	DNSPort         uint32            `json:"dnsPort,omitempty"`
	ReadinessPort   uint32            `json:"readinessPort,omitempty"`
	// AppProbeProxyEnabled says that the agent runs the application probe proxy. The key on the wire says the opposite
	// of what it means, and is frozen.
	AppProbeProxyEnabled bool             `json:"appProbeProxyDisabled,omitempty"`
	OperatingSystem      string           `json:"operatingSystem"`
	Features             []string         `json:"features"`
	Resources            Resources        `json:"resources"`
	Workdir              string           `json:"workdir"`
	MetricsResources     MetricsResources `json:"metricsResources"`
	SystemCAPath         string           `json:"systemCaPath"`
	IPv6Enabled          bool             `json:"ipv6Enabled"`
}

// Version is what runs at the agent's side.
type Version struct {
	KumaDP KumaDPVersion `json:"kumaDp"`
	Envoy  EnvoyVersion  `json:"envoy"`
}

// KumaDPVersion is the build of the agent.
type KumaDPVersion struct {
	Version   string `json:"version"`
	GitTag    string `json:"gitTag"`
	GitCommit string `json:"gitCommit"`
	BuildDate string `json:"buildDate"`
}

// EnvoyVersion is the build of Envoy.
type EnvoyVersion struct {
	Version          string `json:"version"`
	Build            string `json:"build"`
	KumaDPCompatible bool   `json:"kumaDpCompatible"`
}

// Resources are the limits of the agent's machine or container.
type Resources struct {
	// MaxHeapSizeBytes is 0 when unknown.
	MaxHeapSizeBytes uint64 `json:"maxHeapSizeBytes"`
}

// MetricsResources are files for serving metrics over TLS.
type MetricsResources struct {
	CertPath string `json:"certPath"`
	KeyPath  string `json:"keyPath"`
}

// Response is a control plane's answer. Everything but Bootstrap may be absent.
type Response struct {
	// Bootstrap is Envoy's bootstrap v3 as YAML in protobuf's JSON naming; base64 on the wire.
	Bootstrap []byte               `json:"bootstrap"`
	Sidecar   SidecarConfiguration `json:"kumaSidecarConfiguration"`
	// Date is the control plane's clock, whole seconds, as the header of the answer tells it; zero without one. RoundTrip is
	// how long the answer took, in which that was read.
	Date      time.Time     `json:"-"`
	RoundTrip time.Duration `json:"-"`
}

// SidecarConfiguration is for the agent itself.
type SidecarConfiguration struct {
	Networking SidecarNetworking `json:"networking"`
	Metrics    SidecarMetrics    `json:"metrics"`
}

// SidecarNetworking says how the workload is connected.
type SidecarNetworking struct {
	IsUsingTransparentProxy bool `json:"isUsingTransparentProxy"`
	// CorefileTemplate replaces the agent's template of CoreDNS; base64 or null on the wire.
	CorefileTemplate []byte `json:"corefileTemplate"`
	// Address is the Dataplane's networking.address, "" for zone proxies.
	Address string `json:"address"`
}

// SidecarMetrics lists applications whose metrics the agent adds to Envoy's.
type SidecarMetrics struct {
	Aggregate []MetricsApplication `json:"aggregate"`
}

// MetricsApplication is one endpoint of the workload.
type MetricsApplication struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Port    uint32 `json:"port"`
	Path    string `json:"path"`
}
