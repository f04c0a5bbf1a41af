package resource

// SetDefaults changes the spec of a resource that a user writes as the control plane does before it stores it: the zone as
// a tag of a Dataplane's inbounds and gateway (contract policies.md §2.7), the state of a MeshService that says none (§2.1).
func SetDefaults(r *Resource, info ZoneInfo) {
	switch spec := r.Spec.(type) {
	case *Dataplane:
		if info.Zone != "" && !info.Global {
			spec.setZone(info.Zone)
		}
	case *MeshService:
		if spec.State == "" {
			spec.State = StateUnavailable
		}
	}
}

// KeepComputed gives next what the control plane itself has computed in old and next's author left out, so that writing a
// file again does not take a service's addresses away until they are computed anew.
func KeepComputed(old, next *Resource) {
	if next.Status == nil {
		next.Status = old.Status
	}
	before, ok := old.Spec.(*MeshService)
	if !ok {
		return
	}
	service := SpecOf[*MeshService](next)
	if service.State == "" {
		service.State = before.State
	}
	if service.Identities == nil {
		service.Identities = before.Identities
	}
}
