package topology

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/kuma-dp/kuma-dp/resource"
)

// identityLinger is how long clients go on accepting an identity that a service has lost. An Envoy takes clusters and their
// endpoints in two steps: for a moment it has the new cluster with the old endpoints, and must not refuse those.
const identityLinger = 2 * time.Second

// retired is an identity that a service has lost.
type retired struct {
	service resource.Key
	id      resource.ServiceIdentity
}

// identify adds to the identities of a local service those of the proxies that it selects now. The stored ones follow from
// the proxies too, but a moment later: clients that already send to a proxy must not refuse its certificate until then.
func (s *Service) identify() {
	stored := s.Resource.Spec.(*resource.MeshService)
	s.Spec = stored
	all := identitySet(stored)
	for _, d := range s.Dataplanes {
		for _, in := range d.Inbounds() {
			if v := in.Tags[resource.TagService]; v != "" {
				all[resource.ServiceIdentity{Type: resource.IdentityServiceTag, Value: v}] = true
			}
		}
	}
	s.accept(all)
}

// accept sets the identities of s to a larger set.
func (s *Service) accept(all map[resource.ServiceIdentity]bool) {
	if len(all) <= len(s.Spec.Identities) {
		return
	}
	spec := *s.Spec
	spec.Identities = sortedIdentities(all)
	s.Spec = &spec
}

// linger keeps for a while what a service had before. It is not in the World that Build makes, which has no before.
func (e *edit) linger(s, before *Service) {
	st := e.state
	if st.retire == nil || before == nil {
		return
	}
	all := identitySet(s.Spec)
	for _, id := range before.Spec.Identities {
		r := retired{s.Key, id}
		// What a member has given up in this batch was kept for as long as it takes.
		kept := slices.ContainsFunc(before.Members, func(m *Service) bool { return e.released[retired{m.Key, id}] })
		if all[id] || e.released[r] || kept {
			continue
		}
		all[id] = true
		if !st.lingering[r] {
			st.lingering[r] = true
			st.retire(r)
		}
	}
	s.accept(all)
}

// release ends the time of a lost identity.
func (e *edit) release(r retired) {
	delete(e.state.lingering, r)
	e.released[r] = true
	switch {
	case r.service.Kind == resource.KindMeshMultiZoneService && e.mesh.MultiZoneService(r.service.Name) != nil:
		e.draftMultiZone(r.service.Name)
	case r.service.Kind == resource.KindMeshService && e.mesh.Service(r.service.Name) != nil:
		e.draft(r.service.Name)
	}
}

// retireLater has an identity released when its time is over.
func (t *Tracker) retireLater(r retired) {
	time.AfterFunc(identityLinger, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.released = append(t.released, r)
		if t.interrupt != nil {
			t.interrupt()
		}
	})
}

func identitySet(spec *resource.MeshService) map[resource.ServiceIdentity]bool {
	out := map[resource.ServiceIdentity]bool{}
	for _, id := range spec.Identities {
		out[id] = true
	}
	return out
}

func sortedIdentities(set map[resource.ServiceIdentity]bool) []resource.ServiceIdentity {
	return slices.SortedFunc(maps.Keys(set), func(a, b resource.ServiceIdentity) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Value, b.Value))
	})
}
