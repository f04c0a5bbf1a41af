// Package policy says which policies apply to a proxy, in which order, and with what result: match, role, order, merge
// (contract policies.md §4). It is pure. Each kind has a folder below with its schema, its validation and its effect on
// Envoy's configuration.
package policy

import "github.com/kuma-dp/kuma-dp/resource"

// Kind joins what the algorithms need to know about a policy kind.
type Kind struct {
	Descriptor *resource.Descriptor
	// NewConf returns a pointer to an empty conf struct, into which merged confs are decoded.
	NewConf func() any
	// NoShadow kinds never show what a policy with the label kuma.io/effect: shadow would do (contract
	// effects-security.md §MeshTLS).
	NoShadow bool
	// Permits kinds decide which clients are let in: BuildFrom makes InboundRules.Exact for them.
	Permits bool
	// Components groups items that overlap directly or through others, as Kuma did before 2.9.13, instead of by maximal
	// cliques (contract policies.md §4.5).
	Components bool
}

// Targeted is implemented by every policy spec.
type Targeted interface {
	resource.Spec
	// Target returns the top-level targetRef, kind Mesh when the policy has none.
	Target() TargetRef
	// ToItems and FromItems return the items in the order of the policy, nil for kinds without them.
	ToItems() []Item
	FromItems() []Item
	// Default returns the conf of a kind without to and from, else nil.
	Default() any
}

// Item is one element of `to` or `from`.
type Item struct {
	TargetRef TargetRef
	// Conf is a pointer to the kind's conf struct.
	Conf any
}

// TargetRef selects proxies, clients or destinations (contract policies.md §3.1).
type TargetRef struct {
	// Kind is what is selected, see the table of the kind.
	Kind string `json:"kind,omitempty"`
	// Name is the name of the object.
	Name string `json:"name,omitempty"`
	// Tags are tags that the proxy must have; the value "*" is any.
	Tags map[string]string `json:"tags,omitempty"`
	// Labels are labels that the object must have, instead of a name.
	Labels map[string]string `json:"labels,omitempty"`
	// Namespace is the object's on Kubernetes, the policy's own when absent.
	Namespace string `json:"namespace,omitempty"`
	// SectionName is a port of the service, by name or number.
	SectionName string `json:"sectionName,omitempty"`
	// ProxyTypes is Sidecar, Gateway, or both when absent.
	ProxyTypes []string `json:"proxyTypes,omitempty"`
	// Mesh is reserved.
	Mesh string `json:"mesh,omitempty"`
}

// Kinds of TargetRef.
const (
	Mesh                 = "Mesh"
	MeshSubset           = "MeshSubset"
	MeshGateway          = "MeshGateway"
	MeshService          = "MeshService"
	MeshServiceSubset    = "MeshServiceSubset"
	MeshExternalService  = "MeshExternalService"
	MeshMultiZoneService = "MeshMultiZoneService"
	MeshHTTPRoute        = "MeshHTTPRoute"
)

// Values of TargetRef.ProxyTypes.
const (
	ProxySidecar = "Sidecar"
	ProxyGateway = "Gateway"
)

// Routed is implemented by the specs of routes of requests, which other policies may name as their top-level targetRef.
type Routed interface {
	Targeted
	// RouteRules returns the rules of all items, in the order of the policy.
	RouteRules() []RouteRule
}

// RouteRule is one rule of a route.
type RouteRule struct {
	// To is the destination of the item that the rule belongs to.
	To TargetRef
	// Hash names the rule's matches, which Matches holds.
	Hash    string
	Matches any
}

// RuleMatchesHash is the key of the tag by which the rules of route-scoped policies name a rule of a route (contract
// policies.md §4.6).
const RuleMatchesHash = "__rule-matches-hash__"

// Resolver finds the service objects that a `to` item means. The topology implements it.
type Resolver interface {
	// Services returns the services of the mesh, in the order of their names.
	Services(mesh string) []*resource.Resource
}
