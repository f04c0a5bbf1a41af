package resource

import "encoding/json"

// Mesh is one trust domain and its settings (contract policies.md §2.8, controlplane.md §5.1).
type Mesh struct {
	MTLS    *MTLS        `json:"mtls,omitempty"`
	Tracing *MeshTracing `json:"tracing,omitempty"`
	Logging *MeshLogging `json:"logging,omitempty"`
	// Metrics are the older backends for metrics, see MeshMetric.
	Metrics     json.RawMessage  `json:"metrics,omitempty"`
	Networking  *MeshNetworking  `json:"networking,omitempty"`
	Routing     *MeshRouting     `json:"routing,omitempty"`
	Constraints *MeshConstraints `json:"constraints,omitempty"`
	// SkipCreatingInitialPolicies are kinds of policies that are not made with the mesh; "*" is all.
	SkipCreatingInitialPolicies []string          `json:"skipCreatingInitialPolicies,omitempty"`
	MeshServices                *MeshServicesConf `json:"meshServices,omitempty"`
}

// MTLS holds the certificate authorities of a mesh.
type MTLS struct {
	// EnabledBackend is the backend in force; without it there is no mTLS.
	EnabledBackend string `json:"enabledBackend,omitempty"`
	// SkipValidation skips the checks of a provided backend.
	SkipValidation bool           `json:"skipValidation,omitempty"`
	Backends       []*MTLSBackend `json:"backends,omitempty"`
	// Rotation lets a second backend in while proxies go over to it. It is ours: Kuma 2.9 has one backend.
	Rotation *MTLSRotation `json:"rotation,omitempty"`
	// ApplicationIdentities lets agents hand their applications certificates for SPIFFE clients, which show the service and no
	// other tag: a permission that denies by other tags does not see them. It is ours.
	ApplicationIdentities bool `json:"applicationIdentities,omitempty"`
}

// MTLSRotation is a change of the authority under way: proxies trust all backends and have certificates of the enabled one.
type MTLSRotation struct {
	// To names the backend that is to remain.
	To string `json:"to,omitempty"`
}

// MTLSBackend is one certificate authority.
type MTLSBackend struct {
	// Name is the backend's.
	Name string `json:"name,omitempty"`
	// Type is "builtin" or "provided".
	Type   string  `json:"type,omitempty"`
	DpCert *DpCert `json:"dpCert,omitempty"`
	// Conf depends on Type. For builtin it is a BuiltinConf: caCert with RSAbits (2048) and expiration (10y); for provided a
	// ProvidedConf: cert and key, each with one of secret, file, inline and inlineString (contract controlplane.md §5.1).
	Conf json.RawMessage `json:"conf,omitempty"`
	// Mode is "STRICT" (also when empty) or "PERMISSIVE".
	Mode      string     `json:"mode,omitempty"`
	RootChain *RootChain `json:"rootChain,omitempty"`
}

// DpCert says how long workload certificates live.
type DpCert struct {
	Rotation *Rotation `json:"rotation,omitempty"`
	// RequestTimeout is how long issuing may take, such as 10s.
	RequestTimeout string `json:"requestTimeout,omitempty"`
}

// Rotation is the lifetime of a leaf: one integer and one unit of ms s m h d w y; 24h when unset.
type Rotation struct {
	// Expiration is the lifetime, such as 1d.
	Expiration string `json:"expiration,omitempty"`
}

// RootChain says how long to wait for the authority's chain.
type RootChain struct {
	// RequestTimeout is how long reading may take, such as 10s.
	RequestTimeout string `json:"requestTimeout,omitempty"`
}

// BuiltinConf is MTLSBackend.Conf of type builtin.
type BuiltinConf struct {
	CACert *struct {
		// RSABits defaults to 2048.
		RSABits uint32 `json:"RSAbits,omitempty"`
		// Expiration defaults to 10y; grammar as Rotation.Expiration.
		Expiration string `json:"expiration,omitempty"`
		// KeyType is "RSA" (also when empty) or "ECDSA", on P-256; ours.
		KeyType string `json:"keyType,omitempty"`
	} `json:"caCert,omitempty"`
}

// ProvidedConf is MTLSBackend.Conf of type provided.
type ProvidedConf struct {
	Cert *DataSource `json:"cert,omitempty"`
	Key  *DataSource `json:"key,omitempty"`
}

// DataSource says where bytes come from; exactly one field is set.
type DataSource struct {
	// Secret names a Secret of the mesh.
	Secret string `json:"secret,omitempty"`
	// File is a path on the control plane's machine.
	File         string `json:"file,omitempty"`
	Inline       []byte `json:"inline,omitempty"`
	InlineString string `json:"inlineString,omitempty"`
}

// MeshNetworking holds what all proxies do.
type MeshNetworking struct {
	// Outbound is about what proxies send.
	Outbound *MeshOutbound `json:"outbound,omitempty"`
}

// MeshOutbound holds the passthrough switch.
type MeshOutbound struct {
	// Passthrough lets through what goes to no service of the mesh, true when absent. MeshPassthrough says it more finely.
	Passthrough *bool `json:"passthrough,omitempty"`
}

// MeshRouting holds cross-zone settings.
type MeshRouting struct {
	// LocalityAwareLoadBalancing prefers endpoints of the own zone.
	LocalityAwareLoadBalancing bool `json:"localityAwareLoadBalancing,omitempty"`
	// ZoneEgress sends what leaves the zone through its egress.
	ZoneEgress bool `json:"zoneEgress,omitempty"`
	// DefaultForbidMeshExternalServiceAccess needs a permission for external services.
	DefaultForbidMeshExternalServiceAccess bool `json:"defaultForbidMeshExternalServiceAccess,omitempty"`
}

// MeshConstraints limits which proxies may join.
type MeshConstraints struct {
	DataplaneProxy *DataplaneConstraints `json:"dataplaneProxy,omitempty"`
}

// DataplaneConstraints are sets of tags that a proxy must or must not have.
type DataplaneConstraints struct {
	Requirements []TagRule `json:"requirements,omitempty"`
	Restrictions []TagRule `json:"restrictions,omitempty"`
}

// TagRule is a set of tags; the value "*" means any.
type TagRule struct {
	// Tags are a set of tags.
	Tags map[string]string `json:"tags,omitempty"`
}

// MeshServicesConf chooses how services are represented.
type MeshServicesConf struct {
	// Mode is "Disabled" (also when empty), "Everywhere", "ReachableBackends" or "Exclusive".
	Mode string `json:"mode,omitempty"`
}

// Modes of MeshServicesConf and MTLSBackend, and types of MTLSBackend.
const (
	MeshServicesDisabled          = "Disabled"
	MeshServicesEverywhere        = "Everywhere"
	MeshServicesReachableBackends = "ReachableBackends"
	MeshServicesExclusive         = "Exclusive"

	MTLSStrict     = "STRICT"
	MTLSPermissive = "PERMISSIVE"

	KeyRSA   = "RSA"
	KeyECDSA = "ECDSA"

	BackendBuiltin  = "builtin"
	BackendProvided = "provided"
)

// ServicesMode returns the mode, Disabled when unset.
func (m *Mesh) ServicesMode() string {
	if m.MeshServices == nil || m.MeshServices.Mode == "" {
		return MeshServicesDisabled
	}
	return m.MeshServices.Mode
}

// EnabledBackend returns the backend in force, nil while mTLS is off.
func (m *Mesh) EnabledBackend() *MTLSBackend {
	if m.MTLS == nil || m.MTLS.EnabledBackend == "" {
		return nil
	}
	return m.MTLS.backend(m.MTLS.EnabledBackend)
}

func (m *MTLS) backend(name string) *MTLSBackend {
	for _, b := range m.Backends {
		if b.Name == name {
			return b
		}
	}
	return nil
}

// TrustedBackends are those whose certificates proxies accept, the enabled one first; none while mTLS is off.
func (m *Mesh) TrustedBackends() []*MTLSBackend {
	enabled := m.EnabledBackend()
	if enabled == nil {
		return nil
	}
	out := []*MTLSBackend{enabled}
	for _, b := range m.MTLS.Backends {
		if b != enabled {
			out = append(out, b)
		}
	}
	return out
}

// Trusts tells whether proxies accept certificates of a backend.
func (m *Mesh) Trusts(backend string) bool {
	return m.EnabledBackend() != nil && m.MTLS.backend(backend) != nil
}

// Passthrough tells whether traffic to unknown destinations is let through.
func (m *Mesh) Passthrough() bool {
	return m.Networking == nil || m.Networking.Outbound == nil || m.Networking.Outbound.Passthrough == nil ||
		*m.Networking.Outbound.Passthrough
}
