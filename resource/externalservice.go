package resource

import (
	"net"
	"slices"
	"strconv"
)

// ExternalService is the older form of a destination outside of the mesh: one address behind a kuma.io/service, reached
// from the sidecar itself, or through a ZoneEgress when the mesh routes so (contract effects-routing.md §2.4).
type ExternalService struct {
	Networking *ExternalNetworking `json:"networking,omitempty"`
	// Tags have kuma.io/service, and kuma.io/protocol where it is not tcp.
	Tags map[string]string `json:"tags,omitempty"`
}

// ExternalNetworking says where the service is.
type ExternalNetworking struct {
	// Address is "host:port", the host being an IP address or a domain name.
	Address string              `json:"address,omitempty"`
	TLS     *ExternalServiceTLS `json:"tls,omitempty"`
	// DisableHostDNSEntry keeps the host of Address out of the names that the mesh resolves.
	DisableHostDNSEntry bool `json:"disableHostDNSEntry,omitempty"`
}

// ExternalServiceTLS says how a proxy encrypts towards the service.
type ExternalServiceTLS struct {
	// Enabled switches TLS on.
	Enabled    bool              `json:"enabled,omitempty"`
	CACert     *SecretDataSource `json:"caCert,omitempty"`
	ClientCert *SecretDataSource `json:"clientCert,omitempty"`
	ClientKey  *SecretDataSource `json:"clientKey,omitempty"`
	// AllowRenegotiation lets the service negotiate again.
	AllowRenegotiation bool `json:"allowRenegotiation,omitempty"`
	// ServerName is the SNI, and the name that the certificate must be for; the host of the address when absent.
	ServerName *string `json:"serverName,omitempty"`
	// SkipHostnameVerify takes the certificate for any name.
	SkipHostnameVerify bool `json:"skipHostnameVerification,omitempty"`
}

// HostPort returns the parts of the address; the port is 0 and the host empty for one that is not valid.
func (s *ExternalService) HostPort() (host string, port uint32) {
	if s.Networking == nil {
		return "", 0
	}
	host, text, err := net.SplitHostPort(s.Networking.Address)
	n, perr := strconv.ParseUint(text, 10, 16)
	if err != nil || perr != nil || n == 0 || !isHost(host) {
		return "", 0
	}
	return host, uint32(n)
}

// TLS is never nil.
func (s *ExternalService) TLS() *ExternalServiceTLS {
	if s.Networking == nil || s.Networking.TLS == nil {
		return &ExternalServiceTLS{}
	}
	return s.Networking.TLS
}

// Validate checks the address, the sources of TLS material, and the tags as those of an inbound.
func (s *ExternalService) Validate(*Meta) []Violation {
	var f Faults
	p := Path("networking")
	if s.Networking == nil {
		f.Add(p, "should have networking")
	} else {
		s.Networking.validate(&f, p)
	}
	requireService(&f, "tags", s.Tags)
	validateTags(&f, "tags", s.Tags, isTagValue)
	if v, ok := s.Tags[TagProtocol]; ok && !slices.Contains([]string{"grpc", "http", "http2", "kafka", "tcp"}, v) {
		f.Add(Path("tags").Key(TagProtocol), `tag "kuma.io/protocol" has an invalid value "`+v+`". Allowed values: grpc, http, http2, kafka, tcp`)
	}
	return f
}

func (n *ExternalNetworking) validate(f *Faults, p Path) {
	address := p.Field("address")
	host, port, err := net.SplitHostPort(n.Address)
	switch {
	case n.Address == "":
		f.Add(address, "address can't be empty")
	case err != nil:
		f.Add(address, "unable to parse address, want host:port")
	default:
		if !isHost(host) {
			f.Add(address, badAddress)
		}
		if v, err := strconv.ParseUint(port, 10, 16); err != nil || v == 0 {
			f.Add(address, "port has to be in range 1 to 65535")
		}
	}
	t := n.TLS
	if t == nil {
		return
	}
	p = p.Field("tls")
	t.CACert.validate(f, p.Field("caCert"))
	t.ClientCert.validate(f, p.Field("clientCert"))
	t.ClientKey.validate(f, p.Field("clientKey"))
	switch {
	case t.ClientCert != nil && t.ClientKey == nil:
		f.Add(p.Field("clientKey"), "must be defined when clientCert is defined")
	case t.ClientCert == nil && t.ClientKey != nil:
		f.Add(p.Field("clientCert"), "must be defined when clientKey is defined")
	}
	if t.ServerName != nil && *t.ServerName == "" {
		f.Add(p.Field("serverName"), "cannot be empty")
	}
}
