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
	Kind        string            `json:"kind,omitempty"`
	Name        string            `json:"name,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Namespace   string            `json:"namespace,omitempty"`
	SectionName string            `json:"sectionName,omitempty"`
	ProxyTypes  []string          `json:"proxyTypes,omitempty"`
	Mesh        string            `json:"mesh,omitempty"`
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

// Resolver finds the service objects that a `to` item means. The topology implements it.
type Resolver interface {
	// Services returns the services of the mesh, in the order of their names.
	Services(mesh string) []*resource.Resource
}
