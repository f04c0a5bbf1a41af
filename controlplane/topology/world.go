// Package topology keeps an immutable picture of every mesh up to date from store events: who serves what and who
// reaches whom. A change of the store becomes a new World, built by replacing only what the event touches, together
// with the set of proxies whose configuration may differ.
package topology

import "github.com/kuma-dp/kuma-dp/resource"

// World is the picture of all meshes at one store revision. It and all that hangs from it is immutable.
type World struct {
	Revision uint64
	Meshes   map[string]*Mesh
}

// Mesh is the picture of one mesh.
type Mesh struct {
	*resource.Resource
	Spec *resource.Mesh
	// Dataplanes and Services are sorted by name.
	Dataplanes []*Dataplane
	Services   []*Service
	// Policies holds the stored policies of each kind, sorted by name.
	Policies map[resource.Kind][]*resource.Resource
	// Secrets by name (CA certificate and key, signing keys).
	Secrets map[string]*resource.Resource

	byDataplane map[string]*Dataplane
	byService   map[string]*Service
}

// Dataplane returns nil when the mesh has no such proxy.
func (m *Mesh) Dataplane(name string) *Dataplane { return m.byDataplane[name] }

// Service returns nil when the mesh has no such MeshService.
func (m *Mesh) Service(name string) *Service { return m.byService[name] }

// Dataplane is one proxy.
type Dataplane struct {
	*resource.Resource
	Spec *resource.Dataplane
	// Insight is nil when the proxy never connected.
	Insight *resource.DataplaneInsight
}

// Service is a MeshService with the endpoints behind each of its ports.
type Service struct {
	*resource.Resource
	Spec *resource.MeshService
	// Status is never nil.
	Status *resource.MeshServiceStatus
	// Endpoints by service port number; sorted by address, then port.
	Endpoints map[uint32][]Endpoint
}

// Endpoint is one healthy inbound that serves a port (contract policies.md §2.1 "Endpoints").
type Endpoint struct {
	Address string
	Port    uint32
	// Tags of the inbound, with kuma.io/zone added.
	Tags      map[string]string
	Zone      string
	Dataplane string
}

// Outbound is one destination of a proxy: a service port on a VIP.
type Outbound struct {
	VIP     string
	Service *Service
	Port    resource.ServicePort
}

// ProxyID identifies a proxy: mesh and Dataplane name.
type ProxyID struct{ Mesh, Name string }

// Change is what one or more store events mean to proxies.
type Change struct {
	World *World
	// All names the meshes whose every proxy is touched (the Mesh itself, its CA).
	All map[string]bool
	// Proxies are touched one by one.
	Proxies map[ProxyID]Scope
}

// Scope says which inputs of a proxy changed, so that only those resources are made again.
type Scope uint8

// Scopes are bits.
const (
	// ScopeEndpoints: only endpoints of services that the proxy reaches.
	ScopeEndpoints Scope = 1 << iota
	// ScopeFull: its own Dataplane, a policy that selects it, or the shape of a service that it reaches.
	ScopeFull
)
