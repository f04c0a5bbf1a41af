package service

import (
	"cmp"
	"maps"
	"slices"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/resource"
)

// lookMultiZone marks the MeshMultiZoneServices whose list of MeshServices may be another one, because the labels of a
// MeshService are. Of every mesh: the list does not stop at its own, see matched.
func (u *updater) lookMultiZone(w *topology.World, key resource.Key) {
	var now map[string]string
	s := find(w, key)
	if s != nil {
		now = s.Labels
	}
	before, known := u.labels[key]
	switch {
	case s == nil && !known:
		return
	case s == nil:
		delete(u.labels, key)
	case known && maps.Equal(before, now):
		return
	default:
		u.labels[key] = now
	}
	for _, m := range w.Meshes {
		for _, mz := range m.MultiZone {
			sel := mz.Resource.Spec.(*resource.MeshMultiZoneService).Selector
			if known && sel.Matches(before) || s != nil && sel.Matches(now) {
				u.dirty[mz.Key] = true
			}
		}
	}
}

// matched lists the MeshServices that the selector of a MeshMultiZoneService matches, in the order of
// name/namespace/zone/mesh. As in 2.9 it names those of other meshes too (contract policies.md §2.4): nothing is ever
// sent there, because endpoints come from the own mesh alone, and whoever reads the list can read the services.
func matched(w *topology.World, s *topology.Service) []resource.MatchedMeshService {
	selector := s.Resource.Spec.(*resource.MeshMultiZoneService).Selector
	var out []resource.MatchedMeshService
	for _, m := range w.Meshes {
		for _, member := range m.Services {
			if selector.Matches(member.Labels) {
				out = append(out, resource.MatchedMeshService{
					Name: member.DisplayName(), Namespace: member.Labels[resource.LabelNamespace],
					Zone: member.Labels[resource.LabelZone], Mesh: member.Mesh,
				})
			}
		}
	}
	text := func(m resource.MatchedMeshService) string {
		return m.Name + "/" + m.Namespace + "/" + m.Zone + "/" + m.Mesh
	}
	slices.SortFunc(out, func(a, b resource.MatchedMeshService) int { return cmp.Compare(text(a), text(b)) })
	return out
}

// applyMatched returns a copy of r whose status lists services, nil when that of r does.
func applyMatched(r *resource.Resource, services []resource.MatchedMeshService) *resource.Resource {
	status := resource.MeshMultiZoneServiceStatus{}
	if old, _ := r.Status.(*resource.MeshMultiZoneServiceStatus); old != nil {
		status = *old
	}
	if slices.Equal(status.MeshServices, services) {
		return nil
	}
	status.MeshServices = services
	out := *r
	out.Status = &status
	return &out
}
