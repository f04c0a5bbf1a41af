// Package topology keeps an immutable picture of every mesh up to date from store events: who serves what and who
// reaches whom. A change of the store becomes a new World, built by replacing only what the event touches, together
// with the set of proxies whose configuration may differ.
package topology

import (
	"cmp"
	"slices"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// World is the picture of all meshes at one store revision. It and all that hangs from it is immutable.
type World struct {
	Revision uint64
	Meshes   map[string]*Mesh
	// Zones is never nil in a World of a Tracker or of Build.
	Zones *Zones
}

var _ policy.Resolver = (*World)(nil)

// Services returns the MeshServices, MeshMultiZoneServices and MeshExternalServices of a mesh in the order of their names, nil for a mesh that
// is not there. The slice is shared and must not be changed.
func (w *World) Services(mesh string) []*resource.Resource {
	m := w.Meshes[mesh]
	if m == nil {
		return nil
	}
	return m.resources()
}

// Mesh is the picture of one mesh.
type Mesh struct {
	*resource.Resource
	Spec *resource.Mesh
	// Dataplanes, Services (the MeshServices), MultiZone (the MeshMultiZoneServices) and External (the
	// MeshExternalServices) are sorted by name.
	Dataplanes []*Dataplane
	Services   []*Service
	MultiZone  []*Service
	External   []*Service
	// ExternalServices, the older kind, are sorted by name.
	ExternalServices []*resource.Resource
	// Legacy are the values of kuma.io/service, sorted.
	Legacy []*LegacyService
	// Policies holds the stored policies of each kind, sorted by name.
	Policies map[resource.Kind][]*resource.Resource
	// Gateways are the MeshGateways, sorted by name.
	Gateways []*resource.Resource
	// Secrets by name (CA certificate and key, signing keys).
	Secrets map[string]*resource.Resource

	lazy   *lazy
	legacy func() []LegacyOutbound // see legacyOutbounds
}

// Dataplane returns nil when the mesh has no such proxy.
func (m *Mesh) Dataplane(name string) *Dataplane {
	if i, ok := find(m.Dataplanes, name); ok {
		return m.Dataplanes[i]
	}
	return nil
}

// Service returns nil when the mesh has no such MeshService.
func (m *Mesh) Service(name string) *Service {
	if i, ok := find(m.Services, name); ok {
		return m.Services[i]
	}
	return nil
}

// MultiZoneService returns nil when the mesh has no such MeshMultiZoneService.
func (m *Mesh) MultiZoneService(name string) *Service {
	if i, ok := find(m.MultiZone, name); ok {
		return m.MultiZone[i]
	}
	return nil
}

// Destination returns the service of any kind that an Outbound may lead to, nil when the mesh has none of this key.
// Services of different kinds may share a name.
func (m *Mesh) Destination(key resource.Key) *Service {
	switch key.Kind {
	case resource.KindMeshService:
		return m.Service(key.Name)
	case resource.KindMeshMultiZoneService:
		return m.MultiZoneService(key.Name)
	case resource.KindMeshExternalService:
		return m.ExternalService(key.Name)
	default:
		return nil
	}
}

// Dataplane is one proxy.
type Dataplane struct {
	*resource.Resource
	Spec *resource.Dataplane
	// Insight is nil when the proxy never connected.
	Insight *resource.DataplaneInsight

	// joining: see Tracker.SetJoining.
	joining bool
	// inboundTags are the tags of each inbound with kuma.io/zone added, shared by the endpoints made from them.
	inboundTags []map[string]string
}

// Service is a destination: a MeshService or, told by Kind, a MeshMultiZoneService or a MeshExternalService, with the
// endpoints behind each of its ports.
type Service struct {
	*resource.Resource
	// Spec is that of a MeshService. Of a MeshMultiZoneService it holds the ports, and as Identities the union of those of
	// its Members; of a MeshExternalService its port, and the identity of the ZoneEgress.
	Spec *resource.MeshService
	// Status is never nil. Of kinds other than MeshService it holds addresses, and TLS is always ready: clients encrypt
	// without asking.
	Status *resource.MeshServiceStatus
	// Endpoints by service port number; sorted by address, then port. A port without endpoints is absent.
	Endpoints map[uint32][]Endpoint
	// Dataplanes are the proxies that the selector of a MeshService matches, healthy or not, sorted by name.
	Dataplanes []*Dataplane
	// Members are the MeshServices of the mesh that a MeshMultiZoneService joins, sorted by name.
	Members []*Service
}

// Endpoint is where a port is served: a healthy inbound (contract policies.md §2.1 "Endpoints"), or the zone proxy that
// leads to it, which has no Dataplane.
type Endpoint struct {
	Address string
	Port    uint32
	// Tags of the inbound, with kuma.io/zone added. The map is shared and must not be changed.
	Tags      map[string]string
	Zone      string
	Dataplane string
	// Priority is 0 for endpoints that are used first.
	Priority uint32
	// Weight is 1 when 0.
	Weight uint32
}

// Outbound is one destination of a proxy: a service port on a VIP.
type Outbound struct {
	// VIP is the address that the proxy listens on: a virtual one, or that of an outbound written by hand.
	VIP     string
	Service *Service
	// Port is the port of the service that the outbound leads to.
	Port resource.ServicePort
	// ListenPort is where the proxy listens on VIP: Port.Port, another one only for outbounds written by hand.
	ListenPort uint32
}

// ProxyID identifies a proxy: mesh and Dataplane name; a ZoneIngress or ZoneEgress has no mesh.
type ProxyID struct{ Mesh, Name string }

// Change is what one or more store events mean to proxies.
type Change struct {
	World *World
	// All names the meshes whose every proxy is touched in ScopeFull: the Mesh itself, its CA, a policy for everybody.
	// The mesh may be gone from World.
	All map[string]bool
	// Proxies are touched one by one. A proxy may be gone from World.
	Proxies map[ProxyID]Scope
	// Services are the MeshServices that were written or deleted, whose set of proxies changed, or one of whose proxies
	// changed, connected, disconnected or got an identity, and the MeshMultiZoneServices that were written or deleted.
	// Derivations such as status recompute only these, and what they derive from them.
	Services map[resource.Key]bool
}

// Scope says which inputs of a proxy changed, so that only those resources are made again.
type Scope uint8

// Scopes are bits.
const (
	// ScopeEndpoints: only endpoints of services that the proxy reaches. Protocols and zones that could change the shape
	// of clusters (contract effects-routing.md §2.3) make it ScopeFull.
	ScopeEndpoints Scope = 1 << iota
	// ScopeFull: its own Dataplane, a policy that selects it, or the shape of a service that it reaches.
	ScopeFull
)

// named is what sorted slices hold.
type named interface{ name() string }

func (d *Dataplane) name() string { return d.Name }
func (s *Service) name() string   { return s.Name }

func find[T named](sorted []T, name string) (int, bool) {
	return slices.BinarySearchFunc(sorted, name, func(e T, n string) int { return cmp.Compare(e.name(), n) })
}

// put replaces, inserts or (absent) removes the element called name. It changes sorted in place.
func put[T named](sorted []T, name string, element T, present bool) []T {
	i, found := find(sorted, name)
	switch {
	case found && present:
		sorted[i] = element
	case found:
		sorted = slices.Delete(sorted, i, i+1)
	case present:
		sorted = slices.Insert(sorted, i, element)
	}
	return sorted
}
