// Package meshpassthrough says which traffic may leave the mesh (contract policies.md §3.17).
package meshpassthrough

import "github.com/kuma-dp/kuma-dp/policy"

// Spec is the body of a MeshPassthrough.
type Spec struct {
	policy.SingleSpec[Conf]
}

// Conf holds the mode and what Matched lets through.
type Conf struct {
	// PassthroughMode is All, Matched or None; absent it is as Matched.
	PassthroughMode string `json:"passthroughMode,omitempty" k8s:"None"`
	// AppendMatch lists of several policies are joined.
	AppendMatch []Match `json:"appendMatch,omitempty"`
}

// Match is a destination outside of the mesh.
type Match struct {
	// Type is Domain, IP or CIDR.
	Type string `json:"type,omitempty" schema:"required"`
	// Value is a name (which may begin with "*."), an address or a range, by Type.
	Value string `json:"value,omitempty" schema:"required"`
	// Port is the destination's; absent it is any.
	Port *uint32 `json:"port,omitempty"`
	// Protocol is tcp, tls, grpc, http or http2.
	Protocol string `json:"protocol,omitempty" k8s:"tcp"`
}

// Values of Conf.PassthroughMode.
const (
	ModeAll     = "All"
	ModeMatched = "Matched"
	ModeNone    = "None"
)

// Values of Match.Type.
const (
	TypeDomain = "Domain"
	TypeIP     = "IP"
	TypeCIDR   = "CIDR"
)

// Values of Match.Protocol.
const (
	ProtocolTCP   = "tcp"
	ProtocolTLS   = "tls"
	ProtocolGRPC  = "grpc"
	ProtocolHTTP  = "http"
	ProtocolHTTP2 = "http2"
)

// WildcardPrefix begins a domain that stands for all below it.
const WildcardPrefix = "*."
