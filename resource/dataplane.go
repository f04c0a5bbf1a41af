package resource

import "encoding/json"

// Dataplane describes one proxy and the workload beside it (contract policies.md §2.7).
type Dataplane struct {
	Networking *Networking `json:"networking,omitempty"`
	// Metrics is carried for round trips only.
	Metrics json.RawMessage `json:"metrics,omitempty"`
	Probes  *Probes         `json:"probes,omitempty"`
}

// Networking says where a proxy listens and what it reaches.
type Networking struct {
	Address             string               `json:"address,omitempty"`
	AdvertisedAddress   string               `json:"advertisedAddress,omitempty"`
	Inbound             []*Inbound           `json:"inbound,omitempty"`
	Outbound            []*Outbound          `json:"outbound,omitempty"`
	Gateway             *Gateway             `json:"gateway,omitempty"`
	TransparentProxying *TransparentProxying `json:"transparentProxying,omitempty"`
	Admin               *Admin               `json:"admin,omitempty"`
}

// Inbound is one port of the workload.
type Inbound struct {
	// Port is where Envoy listens on Address (default: the Dataplane's).
	Port uint32 `json:"port,omitempty"`
	// ServicePort and ServiceAddress are where the application listens; default Port on 127.0.0.1
	// (on the inbound's address with transparent proxying when ServiceAddress says so).
	ServicePort    uint32            `json:"servicePort,omitempty"`
	ServiceAddress string            `json:"serviceAddress,omitempty"`
	Address        string            `json:"address,omitempty"`
	Tags           map[string]string `json:"tags,omitempty"`
	Health         *InboundHealth    `json:"health,omitempty"`
	ServiceProbe   *ServiceProbe     `json:"serviceProbe,omitempty"`
	// State is "Ready" (also when empty), "NotReady" or "Ignored".
	State string `json:"state,omitempty"`
	Name  string `json:"name,omitempty"`
}

// InboundHealth is the older form of Inbound.State.
type InboundHealth struct {
	Ready bool `json:"ready,omitempty"`
}

// ServiceProbe asks Envoy to probe the application over HDS.
type ServiceProbe struct {
	Interval           string    `json:"interval,omitempty"`
	Timeout            string    `json:"timeout,omitempty"`
	UnhealthyThreshold *uint32   `json:"unhealthyThreshold,omitempty"`
	HealthyThreshold   *uint32   `json:"healthyThreshold,omitempty"`
	TCP                *struct{} `json:"tcp,omitempty"`
}

// Outbound is a destination written by hand, for proxies without redirection.
type Outbound struct {
	Address    string            `json:"address,omitempty"`
	Port       uint32            `json:"port,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
	BackendRef *OutboundRef      `json:"backendRef,omitempty"`
}

// OutboundRef names a service object, by name or by labels.
type OutboundRef struct {
	Kind      Kind              `json:"kind,omitempty"`
	Name      string            `json:"name,omitempty"`
	Namespace string            `json:"namespace,omitempty"`
	Port      uint32            `json:"port,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// Gateway marks a proxy that is a gateway.
type Gateway struct {
	Tags map[string]string `json:"tags,omitempty"`
	// Type is "DELEGATED" (also when empty) or "BUILTIN".
	Type string `json:"type,omitempty"`
}

// TransparentProxying says how traffic is redirected into the proxy.
type TransparentProxying struct {
	RedirectPortInbound  uint32   `json:"redirectPortInbound,omitempty"`
	RedirectPortOutbound uint32   `json:"redirectPortOutbound,omitempty"`
	DirectAccessServices []string `json:"directAccessServices,omitempty"`
	ReachableServices    []string `json:"reachableServices,omitempty"`
	// IPFamilyMode is "UnSpecified", "DualStack" (also when empty), "IPv4" or "IPv6".
	IPFamilyMode      string             `json:"ipFamilyMode,omitempty"`
	ReachableBackends *ReachableBackends `json:"reachableBackends,omitempty"`
}

// ReachableBackends limits what a proxy reaches (contract policies.md §2.3).
type ReachableBackends struct {
	Refs []OutboundRef `json:"refs,omitempty"`
}

// Admin is the port of Envoy's admin interface.
type Admin struct {
	Port uint32 `json:"port,omitempty"`
}

// Probes describes the virtual probes of 2.9.
type Probes struct {
	Port      uint32          `json:"port,omitempty"`
	Endpoints []ProbeEndpoint `json:"endpoints,omitempty"`
}

// ProbeEndpoint maps a path of the probe listener to one of an inbound.
type ProbeEndpoint struct {
	InboundPort uint32 `json:"inboundPort,omitempty"`
	InboundPath string `json:"inboundPath,omitempty"`
	Path        string `json:"path,omitempty"`
}

// Inbound states and gateway types.
const (
	InboundReady    = "Ready"
	InboundNotReady = "NotReady"
	InboundIgnored  = "Ignored"

	GatewayDelegated = "DELEGATED"
	GatewayBuiltin   = "BUILTIN"
)

// Healthy tells whether in takes traffic: state Ready and the older health field, when present, true.
func (in *Inbound) Healthy() bool {
	return (in.State == "" || in.State == InboundReady) && (in.Health == nil || in.Health.Ready)
}

// setZone gives every inbound and the gateway the tag kuma.io/zone.
func (d *Dataplane) setZone(zone string) {
	if d.Networking == nil {
		return
	}
	set := func(tags map[string]string) map[string]string {
		if tags == nil {
			tags = map[string]string{}
		}
		tags[TagZone] = zone
		return tags
	}
	for _, in := range d.Networking.Inbound {
		in.Tags = set(in.Tags)
	}
	if g := d.Networking.Gateway; g != nil {
		g.Tags = set(g.Tags)
	}
}

// DataplaneInsight is what the control plane knows about a connected proxy (contract controlplane.md §1.7).
type DataplaneInsight struct {
	Subscriptions []*Subscription `json:"subscriptions,omitempty"`
	MTLS          *InsightMTLS    `json:"mTLS,omitempty"`
}

// Subscription is one ADS stream of a proxy. Times are RFC 3339.
type Subscription struct {
	ID                     string              `json:"id,omitempty"`
	ControlPlaneInstanceID string              `json:"controlPlaneInstanceId,omitempty"`
	ConnectTime            string              `json:"connectTime,omitempty"`
	DisconnectTime         string              `json:"disconnectTime,omitempty"`
	Generation             uint32              `json:"generation,omitempty"`
	Status                 *SubscriptionStatus `json:"status,omitempty"`
	Version                *ProxyVersion       `json:"version,omitempty"`
}

// SubscriptionStatus counts the responses of a stream.
type SubscriptionStatus struct {
	LastUpdateTime string       `json:"lastUpdateTime,omitempty"`
	Total          ServiceStats `json:"total"`
	CDS            ServiceStats `json:"cds"`
	EDS            ServiceStats `json:"eds"`
	LDS            ServiceStats `json:"lds"`
	RDS            ServiceStats `json:"rds"`
}

// ServiceStats are 64-bit counts, JSON strings on the wire.
type ServiceStats struct {
	ResponsesSent         uint64 `json:"responsesSent,omitempty,string"`
	ResponsesAcknowledged uint64 `json:"responsesAcknowledged,omitempty,string"`
	ResponsesRejected     uint64 `json:"responsesRejected,omitempty,string"`
}

// ProxyVersion is what the agent reported about itself.
type ProxyVersion struct {
	KumaDp       *AgentVersion     `json:"kumaDp,omitempty"`
	Envoy        *EnvoyVersion     `json:"envoy,omitempty"`
	Dependencies map[string]string `json:"dependencies,omitempty"`
}

// AgentVersion is the build of kuma-dp.
type AgentVersion struct {
	Version          string `json:"version,omitempty"`
	GitTag           string `json:"gitTag,omitempty"`
	GitCommit        string `json:"gitCommit,omitempty"`
	BuildDate        string `json:"buildDate,omitempty"`
	KumaCpCompatible bool   `json:"kumaCpCompatible,omitempty"`
}

// EnvoyVersion is the build of Envoy.
type EnvoyVersion struct {
	Version          string `json:"version,omitempty"`
	Build            string `json:"build,omitempty"`
	KumaDpCompatible bool   `json:"kumaDpCompatible,omitempty"`
}

// InsightMTLS records the identity of a proxy. Times are RFC 3339.
type InsightMTLS struct {
	CertificateExpirationTime   string   `json:"certificateExpirationTime,omitempty"`
	LastCertificateRegeneration string   `json:"lastCertificateRegeneration,omitempty"`
	CertificateRegenerations    uint32   `json:"certificateRegenerations,omitempty"`
	IssuedBackend               string   `json:"issuedBackend,omitempty"`
	SupportedBackends           []string `json:"supportedBackends,omitempty"`
}

// Validate finds no faults: only the control plane writes insights.
func (*DataplaneInsight) Validate(*Meta) []Violation { return nil }

// Online tells whether the newest subscription is open.
func (i *DataplaneInsight) Online() bool {
	if i == nil || len(i.Subscriptions) == 0 {
		return false
	}
	last := i.Subscriptions[len(i.Subscriptions)-1]
	return last.ConnectTime != "" && last.DisconnectTime == ""
}
