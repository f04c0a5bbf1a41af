package resource

// ZoneProxyInsight is what the control plane knows about a connected ZoneIngress or ZoneEgress (contract
// controlplane.md §1.7).
type ZoneProxyInsight struct {
	Subscriptions []*Subscription `json:"subscriptions,omitempty"`
}

// ZoneIngressInsight and ZoneEgressInsight have one form.
type (
	ZoneIngressInsight = ZoneProxyInsight
	ZoneEgressInsight  = ZoneProxyInsight
)

// ZoneInsight is what a global control plane knows about the control plane of a zone (contract zones.md §5).
type ZoneInsight struct {
	Subscriptions     []*KDSSubscription `json:"subscriptions,omitempty"`
	EnvoyAdminStreams *EnvoyAdminStreams `json:"envoyAdminStreams,omitempty"`
	HealthCheck       *HealthCheck       `json:"healthCheck,omitempty"`
}

// KDSSubscription is one connection of a zone. Times are RFC 3339.
type KDSSubscription struct {
	ID               string `json:"id,omitempty"`
	GlobalInstanceID string `json:"globalInstanceId,omitempty"`
	ConnectTime      string `json:"connectTime,omitempty"`
	DisconnectTime   string `json:"disconnectTime,omitempty"`
	// Status counts responses, in total and by kind.
	Status  *KDSStatus   `json:"status,omitempty"`
	Version *ZoneVersion `json:"version,omitempty"`
	// Config is the configuration of the zone's control plane, as JSON in a string.
	Config            string `json:"config,omitempty"`
	AuthTokenProvided bool   `json:"authTokenProvided,omitempty"`
	ZoneInstanceID    string `json:"zoneInstanceId,omitempty"`
	Generation        uint32 `json:"generation,omitempty"`
}

// KDSStatus counts the responses of a connection.
type KDSStatus struct {
	LastUpdateTime string                `json:"lastUpdateTime,omitempty"`
	Total          ServiceStats          `json:"total"`
	Stat           map[Kind]ServiceStats `json:"stat,omitempty"`
}

// ZoneVersion is the build of a zone's control plane.
type ZoneVersion struct {
	KumaCp *ControlPlaneVersion `json:"kumaCp,omitempty"`
}

// ControlPlaneVersion is a build of kuma-cp.
type ControlPlaneVersion struct {
	Version                string `json:"version,omitempty"`
	GitTag                 string `json:"gitTag,omitempty"`
	GitCommit              string `json:"gitCommit,omitempty"`
	BuildDate              string `json:"buildDate,omitempty"`
	KumaCpGlobalCompatible bool   `json:"kumaCpGlobalCompatible,omitempty"`
}

// EnvoyAdminStreams names the global instances that hold the zone's reversed streams.
type EnvoyAdminStreams struct {
	ConfigDumpGlobalInstanceID string `json:"configDumpGlobalInstanceId,omitempty"`
	StatsGlobalInstanceID      string `json:"statsGlobalInstanceId,omitempty"`
	ClustersGlobalInstanceID   string `json:"clustersGlobalInstanceId,omitempty"`
}

// HealthCheck is when the zone was last heard of, RFC 3339.
type HealthCheck struct {
	Time string `json:"time,omitempty"`
}

// MeshInsight counts what a mesh holds.
type MeshInsight struct {
	Dataplanes       *ProxyCount            `json:"dataplanes,omitempty"`
	Policies         map[Kind]ResourceCount `json:"policies,omitempty"`
	DPVersions       *ProxyVersions         `json:"dpVersions,omitempty"`
	MTLS             *MeshInsightMTLS       `json:"mTLS,omitempty"`
	Services         *ServiceCount          `json:"services,omitempty"`
	DataplanesByType *ProxyCountByType      `json:"dataplanesByType,omitempty"`
	Resources        map[Kind]ResourceCount `json:"resources,omitempty"`
}

// ProxyCount counts proxies by state.
type ProxyCount struct {
	Total             uint32 `json:"total,omitempty"`
	Online            uint32 `json:"online,omitempty"`
	Offline           uint32 `json:"offline,omitempty"`
	PartiallyDegraded uint32 `json:"partiallyDegraded,omitempty"`
}

// ResourceCount counts the resources of one kind.
type ResourceCount struct {
	Total uint32 `json:"total,omitempty"`
}

// ProxyVersions counts proxies by the version of their parts.
type ProxyVersions struct {
	KumaDp map[string]ProxyCount `json:"kumaDp,omitempty"`
	Envoy  map[string]ProxyCount `json:"envoy,omitempty"`
}

// MeshInsightMTLS counts proxies by certificate authority.
type MeshInsightMTLS struct {
	IssuedBackends    map[string]ProxyCount `json:"issuedBackends,omitempty"`
	SupportedBackends map[string]ProxyCount `json:"supportedBackends,omitempty"`
}

// ServiceCount counts services by kuma.io/service.
type ServiceCount struct {
	Total    uint32 `json:"total,omitempty"`
	Internal uint32 `json:"internal,omitempty"`
	External uint32 `json:"external,omitempty"`
}

// ProxyCountByType counts proxies by type; each count is written even when it is zero.
type ProxyCountByType struct {
	Standard         ProxyCount `json:"standard"`
	Gateway          ProxyCount `json:"gateway"`
	GatewayBuiltin   ProxyCount `json:"gatewayBuiltin"`
	GatewayDelegated ProxyCount `json:"gatewayDelegated"`
}

// ServiceInsight says how the services (by kuma.io/service) of a mesh are. What is stored and synchronised is one object
// for the whole mesh, with Services; what the API shows is one object for each of them, with the fields of
// ServiceSummary (contract zones.md §1, controlplane.md appendix A).
type ServiceInsight struct {
	ServiceSummary
	Services map[string]ServiceSummary `json:"services,omitempty"`
}

// ServiceSummary is one service of a mesh.
type ServiceSummary struct {
	// Status is "online", "offline", "partially_degraded" or "not_available".
	Status         string            `json:"status,omitempty"`
	Dataplanes     *ProxyCount       `json:"dataplanes,omitempty"`
	IssuedBackends map[string]uint32 `json:"issuedBackends,omitempty"`
	// ServiceType is "internal" (also when empty), "external", "gateway_builtin" or "gateway_delegated".
	ServiceType string `json:"serviceType,omitempty"`
	// AddressPort is the older name of the service with its port: "backend.mesh:80".
	AddressPort string   `json:"addressPort,omitempty"`
	Zones       []string `json:"zones,omitempty"`
}

// Validate finds no faults: only the control plane writes insights.
func (*ZoneProxyInsight) Validate(*Meta) []Violation { return nil }

// Validate finds no faults: only the control plane writes insights.
func (*ZoneInsight) Validate(*Meta) []Violation { return nil }

// Validate finds no faults: only the control plane writes insights.
func (*MeshInsight) Validate(*Meta) []Violation { return nil }

// Validate finds no faults: only the control plane writes insights.
func (*ServiceInsight) Validate(*Meta) []Violation { return nil }

// Online tells whether the newest subscription is open.
func (i *ZoneProxyInsight) Online() bool {
	return i != nil && (&DataplaneInsight{Subscriptions: i.Subscriptions}).Online()
}

// Online tells whether the newest subscription is open.
func (i *ZoneInsight) Online() bool {
	if i == nil || len(i.Subscriptions) == 0 {
		return false
	}
	last := i.Subscriptions[len(i.Subscriptions)-1]
	return last.ConnectTime != "" && last.DisconnectTime == ""
}
