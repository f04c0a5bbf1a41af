package resource

import "cmp"

// SetDefaults changes the spec of a resource that a user writes as the control plane does before it stores it: the zone as
// a tag of a Dataplane's inbounds and gateway (contract policies.md §2.7), the state of a MeshService that says none (§2.1),
// and NotReady for an inbound whose health is probed, until the probe has said otherwise (contract effects-security.md
// §1.1, inbound/17).
func SetDefaults(r *Resource, info ZoneInfo) {
	switch spec := r.Spec.(type) {
	case *Dataplane:
		if info.Zone != "" && !info.Global {
			spec.setZone(info.Zone)
		}
		spec.eachProbed(func(in *Inbound) {
			if in.State == "" {
				in.State = InboundNotReady
			}
		})
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
	switch spec := old.Spec.(type) {
	case *MeshService:
		spec.keepComputed(SpecOf[*MeshService](next))
	case *Dataplane:
		spec.keepComputed(SpecOf[*Dataplane](next))
	}
}

func (s *MeshService) keepComputed(next *MeshService) {
	if next.State == "" {
		next.State = s.State
	}
	if next.Identities == nil {
		next.Identities = s.Identities
	}
}

// keepComputed keeps what probes have found out: a proxy that registers again says nothing about it.
func (d *Dataplane) keepComputed(next *Dataplane) {
	states := map[probed]string{}
	d.eachProbed(func(in *Inbound) { states[probed{in.Address, in.Port}] = cmp.Or(in.State, InboundReady) })
	next.eachProbed(func(in *Inbound) {
		if in.State == "" {
			in.State = states[probed{in.Address, in.Port}]
		}
	})
}

// probed identifies an inbound whose health is probed.
type probed struct {
	address string
	port    uint32
}

func (d *Dataplane) eachProbed(f func(*Inbound)) {
	if d.Networking == nil {
		return
	}
	for _, in := range d.Networking.Inbound {
		if in.ServiceProbe != nil {
			f(in)
		}
	}
}
