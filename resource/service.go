package resource

// MeshService is a service by name: which proxies serve it and on which ports (contract policies.md §2.1).
type MeshService struct {
	// State is "Available" or "Unavailable", computed by the control plane.
	State string `json:"state,omitempty"`
	// Selector chooses the proxies that serve it.
	Selector *ServiceSelector `json:"selector,omitempty"`
	// Ports are the ports of its virtual address.
	Ports []ServicePort `json:"ports,omitempty"`
	// Identities are what its certificates carry, computed by the control plane.
	Identities []ServiceIdentity `json:"identities,omitempty"`
}

// ServiceSelector chooses proxies; DataplaneRef takes precedence over DataplaneTags.
type ServiceSelector struct {
	// DataplaneTags are tags that one inbound has; none selects nothing.
	DataplaneTags map[string]string `json:"dataplaneTags,omitempty"`
	// DataplaneRef is one proxy.
	DataplaneRef *DataplaneRef `json:"dataplaneRef,omitempty"`
}

// DataplaneRef names one Dataplane.
type DataplaneRef struct {
	// Name is the Dataplane's.
	Name string `json:"name,omitempty"`
}

// ServicePort is one port of a service's VIP.
type ServicePort struct {
	// Name is the section name; the decimal port when empty.
	Name string `json:"name,omitempty"`
	// Port is the port of the virtual address.
	Port uint32 `json:"port"`
	// TargetPort is an inbound's port (number) or name (string); 0 when it was not given.
	TargetPort IntOrString `json:"targetPort"`
	// AppProtocol is tcp (also when empty), http, http2, grpc or kafka.
	AppProtocol string `json:"appProtocol,omitempty" k8s:"tcp"`
}

// ServiceIdentity is a name that the service's certificates carry; Type is "ServiceTag".
type ServiceIdentity struct {
	// Type is ServiceTag.
	Type string `json:"type,omitempty"`
	// Value is the value of kuma.io/service.
	Value string `json:"value,omitempty"`
}

// MeshServiceStatus is computed by the control plane.
type MeshServiceStatus struct {
	Addresses          []ServiceAddress     `json:"addresses,omitempty"`
	VIPs               []VIP                `json:"vips,omitempty"`
	TLS                *TLSStatus           `json:"tls,omitempty"`
	HostnameGenerators []GeneratorStatus    `json:"hostnameGenerators,omitempty"`
	DataplaneProxies   *DataplaneProxyCount `json:"dataplaneProxies,omitempty"`
}

// ServiceAddress is a hostname of a service.
type ServiceAddress struct {
	Hostname             string        `json:"hostname,omitempty"`
	Origin               string        `json:"origin,omitempty"`
	HostnameGeneratorRef *GeneratorRef `json:"hostnameGeneratorRef,omitempty"`
}

// GeneratorRef names a HostnameGenerator.
type GeneratorRef struct {
	CoreName string `json:"coreName"`
}

// VIP is a virtual address.
type VIP struct {
	IP string `json:"ip,omitempty"`
}

// TLSStatus is "Ready" when every proxy of the service has an identity.
type TLSStatus struct {
	Status string `json:"status,omitempty"`
}

// GeneratorStatus tells what a HostnameGenerator made of a service.
type GeneratorStatus struct {
	HostnameGeneratorRef GeneratorRef `json:"hostnameGeneratorRef"`
	Conditions           []Condition  `json:"conditions,omitempty"`
}

// Condition is one statement about a resource.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// DataplaneProxyCount counts the proxies of a service.
type DataplaneProxyCount struct {
	Connected int `json:"connected,omitempty"`
	Healthy   int `json:"healthy,omitempty"`
	Total     int `json:"total,omitempty"`
}

// States of MeshService and TLSStatus, identity types and address origins.
const (
	StateAvailable   = "Available"
	StateUnavailable = "Unavailable"
	TLSReady         = "Ready"
	TLSNotReady      = "NotReady"

	IdentityServiceTag = "ServiceTag"
	OriginGenerator    = "HostnameGenerator"
)

// HostnameGenerator makes hostnames for the services that it selects (contract policies.md §2.6, dns.md).
type HostnameGenerator struct {
	Selector GeneratorSelector `json:"selector"`
	// Template is a Go template with .Name, .DisplayName, .Namespace, .Mesh, .Zone and label "key". It may use what is built into Go's templates but range, define, block, template and call, and makes at most 1024 bytes.
	Template  string              `json:"template,omitempty"`
	Extension *GeneratorExtension `json:"extension,omitempty"`
}

// GeneratorSelector holds exactly one selector.
type GeneratorSelector struct {
	MeshService          *LabelSelector `json:"meshService,omitempty"`
	MeshExternalService  *LabelSelector `json:"meshExternalService,omitempty"`
	MeshMultiZoneService *LabelSelector `json:"meshMultiZoneService,omitempty"`
}

// LabelSelector matches objects that have all labels.
type LabelSelector struct {
	// MatchLabels are labels that the service must have; none selects all.
	MatchLabels map[string]string `json:"matchLabels,omitempty"`
}

// GeneratorExtension is carried for round trips only.
type GeneratorExtension struct {
	// Type is the extension's.
	Type string `json:"type,omitempty"`
	// Config is for the extension.
	Config any `json:"config,omitempty"`
}
