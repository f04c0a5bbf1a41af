package policy

import (
	"strconv"
	"strings"

	"github.com/kuma-dp/kuma-dp/resource"
)

// BackendRef is where a route sends traffic: a targetRef with a port and a share (contract policies.md §3.1).
type BackendRef struct {
	TargetRef
	// Weight is the share among the refs of a rule; absent it is 1. A ref with weight 0 gets nothing.
	Weight *uint32 `json:"weight,omitempty" k8s:"1"`
	// Port chooses a section by the service's port.
	Port *uint32 `json:"port,omitempty"`
}

// UnresolvedBackend is the name that a converted route gives to a backend that does not exist; no service can have it.
const UnresolvedBackend = "kuma.io/unresolved-backend"

// Real tells whether the ref means a service object; else it means services by their tags. A MeshService without a port is
// the older form, a value of kuma.io/service.
func (b BackendRef) Real() bool {
	switch b.Kind {
	case MeshService:
		return b.Port != nil
	case MeshMultiZoneService, MeshExternalService:
		return true
	default:
		return false
	}
}

// Share returns the weight, 1 when there is none.
func (b BackendRef) Share() uint32 {
	if b.Weight == nil {
		return 1
	}
	return *b.Weight
}

// CheckSchema is the first stage of validation.
func (b BackendRef) CheckSchema(f *resource.Faults, p resource.Path) { b.checkSchema(f, p) }

// Validate is the second stage.
func (b BackendRef) Validate(f *resource.Faults, p resource.Path) {
	ref := b.TargetRef
	if ref.Name == UnresolvedBackend {
		// Passes wherever a name is needed.
		ref.Name = strings.ReplaceAll(ref.Name, "/", ".")
	}
	ref.validate(f, p, []string{MeshService, MeshServiceSubset, MeshExternalService, MeshMultiZoneService}, false)
	if b.Kind == MeshMultiZoneService && b.Port == nil {
		f.Add(p.Field("port"), "must be defined with kind "+b.Kind)
	}
}

// Resolve finds the service object and the section that a real ref means, as seen from the policy that wrote it: a name
// means a service of the policy's own zone and namespace (contract policies.md §4.7). Of several with the wanted labels it
// is the oldest. It returns false when the service does not exist. The section of a port that the service does not have is
// the port's decimal form; a ref without a port has no section.
func (b BackendRef) Resolve(from *resource.Resource, resolver Resolver) (resource.Key, string, bool) {
	found := indexOf(from.Mesh, resolver)
	ref := b.TargetRef
	ref.SectionName = ""
	var oldest *resource.Resource
	for _, place := range found.resolve(ref, from) {
		r := found.byKey[place.key]
		if r != nil && (oldest == nil || r.CreationTime.Before(oldest.CreationTime)) {
			oldest = r
		}
	}
	switch {
	case oldest == nil:
		return resource.Key{}, "", false
	case b.Port == nil:
		return oldest.Key, "", true
	}
	section := found.section(oldest.Key, *b.Port)
	if section == "" {
		section = strconv.FormatUint(uint64(*b.Port), 10)
	}
	return oldest.Key, section, true
}
