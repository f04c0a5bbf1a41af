package topology

import (
	"cmp"
	"reflect"
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
)

// newMultiZone makes a Service of a MeshMultiZoneService, without what its members give.
func newMultiZone(r *resource.Resource) *Service {
	spec := r.Spec.(*resource.MeshMultiZoneService)
	s := &Service{
		Resource: r,
		Spec:     &resource.MeshService{},
		// Nothing of it depends on the proxies that are ready: clients always speak TLS to it (contract policies.md §5).
		Status: &resource.MeshServiceStatus{TLS: &resource.TLSStatus{Status: resource.TLSReady}},
	}
	for _, p := range spec.Ports {
		s.Spec.Ports = append(s.Spec.Ports, p.ServicePort())
	}
	if st, ok := r.Status.(*resource.MeshMultiZoneServiceStatus); ok && st != nil {
		s.Status.Addresses, s.Status.VIPs, s.Status.HostnameGenerators = st.Addresses, st.VIPs, st.HostnameGenerators
	}
	return s
}

// matches tells whether a MeshMultiZoneService selects a MeshService of its mesh.
func (s *Service) matches(member *Service) bool {
	spec, ok := s.Resource.Spec.(*resource.MeshMultiZoneService)
	return ok && member != nil && spec.Selector.Matches(member.Labels)
}

// matchLabels are the labels that a MeshMultiZoneService selects by.
func (s *Service) matchLabels() map[string]string {
	if spec, ok := s.Resource.Spec.(*resource.MeshMultiZoneService); ok {
		return spec.Selector.MeshService.MatchLabels
	}
	return nil
}

// multiZone takes one change of a MeshMultiZoneService; next is nil when it is deleted. Its members are looked at in
// finish, when all MeshServices are as they will be.
func (e *edit) multiZone(name string, next *resource.Resource) {
	prev := e.mesh.MultiZoneService(name)
	e.changed[resource.Key{Kind: resource.KindMeshMultiZoneService, Mesh: e.name, Name: name}] = true
	if prev != nil {
		e.ix.removeService(prev)
	}
	if next == nil {
		if prev != nil {
			e.putMultiZone(name, nil)
		}
		e.multi[name] = nil
		return
	}
	s := newMultiZone(next)
	e.ix.addService(s)
	d := &draft{Service: s}
	if prev != nil && reflect.DeepEqual(prev.matchLabels(), s.matchLabels()) {
		s.Members = slices.Clone(prev.Members)
		d.stale = e.multi[name] != nil && e.multi[name].stale
	} else {
		d.stale = true
	}
	e.multi[name] = d
	e.putMultiZone(name, s)
}

func (e *edit) putMultiZone(name string, s *Service) {
	if !e.owned.multi {
		e.mesh.MultiZone, e.owned.multi = slices.Clone(e.mesh.MultiZone), true
	}
	e.mesh.MultiZone = put(e.mesh.MultiZone, name, s, s != nil)
}

// draftMultiZone returns the service as a copy that is ours; it must be there.
func (e *edit) draftMultiZone(name string) *Service {
	if d := e.multi[name]; d != nil {
		return d.Service
	}
	s := *e.mesh.MultiZoneService(name)
	s.Members = slices.Clone(s.Members)
	e.multi[name] = &draft{Service: &s}
	e.putMultiZone(name, &s)
	return &s
}

// finishMultiZone gives every MeshMultiZoneService that was written, or that selects a MeshService that changed, its
// members and what follows from them.
func (e *edit) finishMultiZone() {
	for member := range e.drafts {
		before, after := e.old.Service(member), e.mesh.Service(member)
		for name := range e.ix.selectingService(before, after) {
			s := e.mesh.MultiZoneService(name)
			if _, had := find(s.Members, member); !had && !s.matches(after) {
				continue
			}
			own := e.draftMultiZone(name)
			own.Members = put(own.Members, member, after, own.matches(after))
		}
	}
	for name, d := range e.multi {
		if d == nil {
			continue
		}
		if d.stale { // selects by other labels than before
			d.Members = slices.DeleteFunc(slices.Clone(e.mesh.Services), func(s *Service) bool { return !d.matches(s) })
		}
		d.join()
		e.linger(d.Service, e.old.MultiZoneService(name))
		if was := e.old.MultiZoneService(name); was != nil && sameEndpoints(was.Endpoints, d.Service.Endpoints) {
			d.Service.Endpoints = was.Endpoints
		}
	}
}

// join makes endpoints and identities out of the members. The endpoints of a port are those of every member's port of the
// same number, whatever its name; what two members share is there once (contract policies.md §2.4).
func (s *Service) join() {
	identities := map[resource.ServiceIdentity]bool{}
	s.Endpoints = map[uint32][]Endpoint{}
	for _, m := range s.Members {
		for _, id := range m.Spec.Identities {
			identities[id] = true
		}
		if m.Remote() && m.Spec.State != resource.StateAvailable {
			continue // of another zone, which has no healthy proxy for it
		}
		for i, p := range s.Spec.Ports {
			if !slices.ContainsFunc(s.Spec.Ports[:i], func(q resource.ServicePort) bool { return q.Port == p.Port }) && len(m.Endpoints[p.Port]) > 0 {
				s.Endpoints[p.Port] = append(s.Endpoints[p.Port], m.Endpoints[p.Port]...)
			}
		}
	}
	for port, list := range s.Endpoints {
		slices.SortStableFunc(list, func(a, b Endpoint) int {
			return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port))
		})
		s.Endpoints[port] = slices.CompactFunc(list, func(a, b Endpoint) bool { return a.Address == b.Address && a.Port == b.Port })
	}
	spec := *s.Spec
	spec.Identities = sortedIdentities(identities)
	s.Spec = &spec
}
