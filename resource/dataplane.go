package resource

import "encoding/json"

// Dataplane describes one proxy and the workload beside it (contract policies.md §2.7).
type Dataplane struct {
	Networking *Networking `json:"networking,omitempty"`
	// Metrics are carried for round trips only.
	Metrics json.RawMessage `json:"metrics,omitempty"`
	Probes  *Probes         `json:"probes,omitempty"`
}

// Networking says where a proxy listens and what it reaches.
type Networking struct {
	// Address is where other proxies reach this one: an IP address or a domain name.
	Address string `json:"address,omitempty"`
	// AdvertisedAddress is the address for others, when it differs.
	AdvertisedAddress string `json:"advertisedAddress,omitempty"`
	// Inbound is ports that the workload listens to.
	Inbound []*Inbound `json:"inbound,omitempty"`
	// Outbound is destinations on local ports, for proxies without redirection.
	Outbound            []*Outbound          `json:"outbound,omitempty"`
	Gateway             *Gateway             `json:"gateway,omitempty"`
	TransparentProxying *TransparentProxying `json:"transparentProxying,omitempty"`
	Admin               *Admin               `json:"admin,omitempty"`
}

// Inbound is one port of the workload.
type Inbound struct {
	// Port is where Envoy listens on Address (default: the Dataplane's).
	Port uint32 `json:"port,omitempty"`
	// ServicePort is the port that the application listens to, Port when absent.
	ServicePort uint32 `json:"servicePort,omitempty"`
	// ServiceAddress is the workload's address, 127.0.0.1 when absent.
	ServiceAddress string `json:"serviceAddress,omitempty"`
	// Address is the address of this port, the proxy's when absent.
	Address string `json:"address,omitempty"`
	// Tags are what policies and services select; kuma.io/service is mandatory.
	Tags         map[string]string `json:"tags,omitempty"`
	Health       *InboundHealth    `json:"health,omitempty"`
	ServiceProbe *ServiceProbe     `json:"serviceProbe,omitempty"`
	// State is "Ready" (also when empty), "NotReady" or "Ignored".
	State string `json:"state,omitempty"`
	// Name names the port for services.
	Name string `json:"name,omitempty"`
}

// InboundHealth is the older form of Inbound.State.
type InboundHealth struct {
	// Ready is false keeps traffic away.
	Ready bool `json:"ready,omitempty"`
}

// ServiceProbe asks Envoy to probe the application over HDS.
type ServiceProbe struct {
	// Interval is the time between two probes.
	Interval string `json:"interval,omitempty"`
	// Timeout is how long an answer may take.
	Timeout string `json:"timeout,omitempty"`
	// UnhealthyThreshold is the number of failures that make it unhealthy.
	UnhealthyThreshold *uint32 `json:"unhealthyThreshold,omitempty"`
	// HealthyThreshold is the number of successes that make it healthy again.
	HealthyThreshold *uint32 `json:"healthyThreshold,omitempty"`
	// TCP connects.
	TCP *struct{} `json:"tcp,omitempty"`
}

// Outbound is a destination written by hand, for proxies without redirection.
type Outbound struct {
	// Address is the local address, 127.0.0.1 when absent.
	Address string `json:"address,omitempty"`
	// Port is the local port.
	Port uint32 `json:"port,omitempty"`
	// Tags are the destination in the older form: kuma.io/service.
	Tags map[string]string `json:"tags,omitempty"`
	// BackendRef is the destination.
	BackendRef *OutboundRef `json:"backendRef,omitempty"`
}

// OutboundRef names a service object, by name or by labels.
type OutboundRef struct {
	// Kind is MeshService, MeshExternalService or MeshMultiZoneService.
	Kind Kind `json:"kind,omitempty"`
	// Name is the service's.
	Name string `json:"name,omitempty"`
	// Namespace is the service's on Kubernetes.
	Namespace string `json:"namespace,omitempty"`
	// Port is the port of the service, all when absent.
	Port uint32 `json:"port,omitempty"`
	// Labels are select services instead of a name.
	Labels map[string]string `json:"labels,omitempty"`
}

// Gateway marks a proxy that is a gateway.
type Gateway struct {
	// Tags are what policies select; kuma.io/service is mandatory.
	Tags map[string]string `json:"tags,omitempty"`
	// Type is "DELEGATED" (also when empty) or "BUILTIN".
	Type string `json:"type,omitempty"`
}

// TransparentProxying says how traffic is redirected into the proxy.
type TransparentProxying struct {
	// RedirectPortInbound is where redirection sends what comes in.
	RedirectPortInbound uint32 `json:"redirectPortInbound,omitempty"`
	// RedirectPortOutbound is where redirection sends what goes out.
	RedirectPortOutbound uint32 `json:"redirectPortOutbound,omitempty"`
	// DirectAccessServices are services whose instances are reached by their own address; "*" is all.
	DirectAccessServices []string `json:"directAccessServices,omitempty"`
	// ReachableServices limits what the proxy knows, in the older form.
	ReachableServices []string `json:"reachableServices,omitempty"`
	// IPFamilyMode is "UnSpecified", "DualStack" (also when empty), "IPv4" or "IPv6".
	IPFamilyMode      string             `json:"ipFamilyMode,omitempty"`
	ReachableBackends *ReachableBackends `json:"reachableBackends,omitempty"`
}

// ReachableBackends limits what a proxy reaches (contract policies.md §2.3).
type ReachableBackends struct {
	// Refs are the services; none means that nothing is reachable.
	Refs []OutboundRef `json:"refs,omitempty"`
}

// Admin is the port of Envoy's admin interface.
type Admin struct {
	// Port is the port of Envoy's admin interface.
	Port uint32 `json:"port,omitempty"`
}

// Probes describes the virtual probes of 2.9.
type Probes struct {
	// Port is the port that answers.
	Port      uint32          `json:"port,omitempty"`
	Endpoints []ProbeEndpoint `json:"endpoints,omitempty"`
}

// ProbeEndpoint maps a path of the probe listener to one of an inbound.
type ProbeEndpoint struct {
	// InboundPort is the port of the workload.
	InboundPort uint32 `json:"inboundPort,omitempty"`
	// InboundPath is the path there.
	InboundPath string `json:"inboundPath,omitempty"`
	// Path is the path of the probe.
	Path string `json:"path,omitempty"`
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
