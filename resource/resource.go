// Package resource is the model of everything that the control plane stores: kinds, keys, labels, the JSON form of
// Kuma 2.9 and its validation. It is pure: no clock, no I/O, none of our other packages.
package resource

import (
	"time"
)

// Kind names a type of resource exactly as Kuma's `type` field does, such as "MeshService".
type Kind string

// The kinds that do not belong to a policy. Policies declare theirs in policy/<kind>.
const (
	KindMesh              Kind = "Mesh"
	KindDataplane         Kind = "Dataplane"
	KindDataplaneInsight  Kind = "DataplaneInsight"
	KindMeshService       Kind = "MeshService"
	KindHostnameGenerator Kind = "HostnameGenerator"
	KindZone              Kind = "Zone"
	KindSecret            Kind = "Secret"
	KindGlobalSecret      Kind = "GlobalSecret"
	KindConfig            Kind = "Config"

	KindExternalService      Kind = "ExternalService"
	KindMeshExternalService  Kind = "MeshExternalService"
	KindMeshMultiZoneService Kind = "MeshMultiZoneService"
	KindZoneIngress          Kind = "ZoneIngress"
	KindZoneEgress           Kind = "ZoneEgress"
	KindMeshInsight          Kind = "MeshInsight"
	KindServiceInsight       Kind = "ServiceInsight"
	KindZoneInsight          Kind = "ZoneInsight"
	KindZoneIngressInsight   Kind = "ZoneIngressInsight"
	KindZoneEgressInsight    Kind = "ZoneEgressInsight"

	KindMeshGateway      Kind = "MeshGateway"
	KindMeshGatewayRoute Kind = "MeshGatewayRoute"

	// Policies from before target references.
	KindTrafficPermission Kind = "TrafficPermission"
	KindTrafficLog        Kind = "TrafficLog"
	KindTrafficTrace      Kind = "TrafficTrace"
	KindFaultInjection    Kind = "FaultInjection"
	KindRateLimit         Kind = "RateLimit"
)

// Labels that the control plane computes or reads (contract policies.md §1.4).
const (
	LabelMesh        = "kuma.io/mesh"
	LabelOrigin      = "kuma.io/origin"
	LabelZone        = "kuma.io/zone"
	LabelEnv         = "kuma.io/env"
	LabelDisplayName = "kuma.io/display-name"
	LabelManagedBy   = "kuma.io/managed-by"
	LabelEffect      = "kuma.io/effect"
	LabelPolicyRole  = "kuma.io/policy-role"
	LabelNamespace   = "k8s.kuma.io/namespace"
	LabelGraceStart  = "kuma.io/deletion-grace-period-started-at"

	TagService  = "kuma.io/service"
	TagProtocol = "kuma.io/protocol"
	TagZone     = "kuma.io/zone"

	OriginZone   = "zone"
	OriginGlobal = "global"
)

// Key identifies a resource. Mesh is empty for global kinds.
type Key struct {
	Kind Kind
	Mesh string
	Name string
}

// String renders the key for people: "MeshService default/backend".
func (k Key) String() string {
	if k.Mesh == "" {
		return string(k.Kind) + " " + k.Name
	}
	return string(k.Kind) + " " + k.Mesh + "/" + k.Name
}

// Meta is what every resource has besides its spec.
type Meta struct {
	Key
	Labels           map[string]string
	CreationTime     time.Time
	ModificationTime time.Time
	// Version is the store revision of the last write, 0 for a resource that was never stored.
	Version uint64
}

// DisplayName is the name that a person gave: the display-name label, else the name.
func (m *Meta) DisplayName() string {
	if n := m.Labels[LabelDisplayName]; n != "" {
		return n
	}
	return m.Name
}

// Spec is the typed body of a resource. Implementations are pointers to structs with JSON tags.
type Spec interface {
	// Validate returns every semantic fault; field paths are the ones that a user sees (contract policies.md §1.3):
	// kinds with a nested spec prefix theirs with "spec".
	Validate(meta *Meta) []Violation
}

// Violation is one fault of a resource.
type Violation struct {
	Field  string
	Reason string
}

// Resource is a value of the store. A stored Resource is immutable and shared between readers:
// whoever changes one makes a copy with Clone first.
type Resource struct {
	Meta
	Spec Spec
	// Status is a pointer to the kind's status struct, nil when the kind has none or nothing was computed yet.
	Status any
}

// SpecOf returns r's spec as T. It panics on another kind, which is a programmer's error.
func SpecOf[T Spec](r *Resource) T { return r.Spec.(T) }

// Scope tells whether a kind lives in a mesh.
type Scope string

// Scopes as `/_resources` prints them.
const (
	ScopeGlobal Scope = "Global"
	ScopeMesh   Scope = "Mesh"
)

// Descriptor says how a kind is stored, served and shown.
type Descriptor struct {
	Kind  Kind
	Scope Scope
	// Path is the REST collection, such as "meshservices".
	Path     string
	Singular string
	Plural   string
	// Flat kinds (protobuf in Kuma) carry spec fields beside type, mesh and name instead of under `spec`.
	Flat bool
	// ReadOnly kinds refuse PUT and DELETE with 405.
	ReadOnly bool
	// AdminOnly kinds are readable by administrators only (Secret, GlobalSecret).
	AdminOnly bool
	// Volatile kinds change often and may be lost in a crash: a store need not fsync them one by one (insights).
	Volatile bool
	// Hidden kinds have no REST path (Config).
	Hidden bool
	// CreatableInZone kinds get origin, zone and env labels when created in a zone.
	CreatableInZone bool
	// InFederation kinds are exported by `kumactl export --profile=federation`.
	InFederation bool
	Policy       *PolicyTraits
	NewSpec      func() Spec
	// NewStatus is nil for kinds without a status.
	NewStatus func() any
}

// PolicyTraits is what `/policies` and `/_resources` say about a policy kind.
type PolicyTraits struct {
	HasTo, HasFrom bool
	// TargetRef policies are the ones of contract policies.md §3; the older kinds are not.
	TargetRef bool
}
