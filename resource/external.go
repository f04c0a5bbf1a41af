package resource

// MeshExternalService is a destination outside of the mesh, reached through a ZoneEgress (contract policies.md §2.5).
type MeshExternalService struct {
	Match     ExternalMatch       `json:"match" schema:"required"`
	Extension *GeneratorExtension `json:"extension,omitempty"`
	Endpoints []ExternalEndpoint  `json:"endpoints,omitempty"`
	TLS       *ExternalTLS        `json:"tls,omitempty"`
}

// ExternalMatch says on which port of the VIP the service is found.
type ExternalMatch struct {
	// Type is "HostnameGenerator" (also when empty).
	Type string `json:"type,omitempty" k8s:"HostnameGenerator"`
	// Port is the port of the virtual address.
	Port uint32 `json:"port" schema:"required"`
	// Protocol is tcp, grpc, http or http2.
	Protocol string `json:"protocol,omitempty" k8s:"tcp"`
}

// ExternalEndpoint is one address, an IP or a domain name, of the service.
type ExternalEndpoint struct {
	// Address is an IP address or a domain name.
	Address string `json:"address,omitempty"`
	// Port is the port there.
	Port uint32 `json:"port,omitempty"`
}

// ExternalTLS says how the egress encrypts towards the service.
type ExternalTLS struct {
	// Enabled switches TLS on.
	Enabled bool        `json:"enabled,omitempty" k8s:"false"`
	Version *TLSVersion `json:"version,omitempty"`
	// AllowRenegotiation lets the service negotiate again.
	AllowRenegotiation bool                  `json:"allowRenegotiation,omitempty" k8s:"false"`
	Verification       *ExternalVerification `json:"verification,omitempty"`
}

// TLSVersion bounds the versions: TLSAuto (also when empty), TLS10, TLS11, TLS12 or TLS13.
type TLSVersion struct {
	// Min is the oldest version that is spoken.
	Min string `json:"min,omitempty" k8s:"TLSAuto"`
	// Max is the newest one.
	Max string `json:"max,omitempty" k8s:"TLSAuto"`
}

// ExternalVerification says how the certificate of the service is checked, and which one is shown to it.
type ExternalVerification struct {
	// Mode is "SkipSAN", "SkipCA", "Secured" (also when empty) or "SkipAll".
	Mode string `json:"mode,omitempty" k8s:"Secured"`
	// ServerName is the name that is asked for, as SNI.
	ServerName      string            `json:"serverName,omitempty"`
	SubjectAltNames []SubjectAltName  `json:"subjectAltNames,omitempty"`
	CACert          *SecretDataSource `json:"caCert,omitempty"`
	ClientCert      *SecretDataSource `json:"clientCert,omitempty"`
	ClientKey       *SecretDataSource `json:"clientKey,omitempty"`
}

// SubjectAltName is a name that the certificate must carry; Type is "Exact" (also when empty) or "Prefix".
type SubjectAltName struct {
	// Type is Exact (also when empty) or Prefix.
	Type string `json:"type,omitempty" k8s:"Exact"`
	// Value is the name.
	Value string `json:"value,omitempty"`
}

// SecretDataSource says where bytes come from. Unlike DataSource it never names a file of the control plane: users of a
// mesh write it, operators of the control plane do not.
type SecretDataSource struct {
	// Secret names a Secret of the mesh.
	Secret string `json:"secret,omitempty"`
	// Inline is the bytes.
	Inline []byte `json:"inline,omitempty"`
	// InlineString is the bytes as text.
	InlineString string `json:"inlineString,omitempty"`
}

// MeshExternalServiceStatus is computed by the control plane. VIP is one object where other kinds have a list.
type MeshExternalServiceStatus struct {
	VIP                *VIP              `json:"vip,omitempty"`
	Addresses          []ServiceAddress  `json:"addresses,omitempty"`
	HostnameGenerators []GeneratorStatus `json:"hostnameGenerators,omitempty"`
}

// Values of ExternalMatch.Type and ExternalVerification.Mode.
const (
	MatchHostnameGenerator = "HostnameGenerator"

	VerifySecured = "Secured"
	VerifySkipSAN = "SkipSAN"
	VerifySkipCA  = "SkipCA"
	VerifySkipAll = "SkipAll"
)
