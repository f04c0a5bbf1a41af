package xds

import (
	"maps"
	"slices"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// rulesChanges lists the kinds of which rules differ, or all.
func (s *Server) rulesChanges(before, after *picture, all bool) []RulesChange {
	var out []RulesChange
	for _, k := range s.cfg.Kinds {
		kind := k.Descriptor.Kind
		if all && (before.rules[kind] != nil || after.rules[kind] != nil) || before.rules[kind] != after.rules[kind] || !slices.Equal(before.leftOut(kind), after.leftOut(kind)) {
			out = append(out, RulesChange{before.ofKind(kind), after.ofKind(kind)})
		}
	}
	return out
}

func byTags(w *topology.World, mesh string) bool {
	m := w.Meshes[mesh]
	return m != nil && m.Spec.ServicesMode() != resource.MeshServicesExclusive
}

// servicesOf are what rules can be about.
func servicesOf(m *topology.Mesh) [3][]*topology.Service {
	return [...][]*topology.Service{m.Services, m.MultiZone, m.External}
}

// otherRules tells whether proxies of a mesh may have other rules after a change, although nothing of their own has changed.
func otherRules(before, after *topology.Mesh) bool {
	if before == nil || after == nil || before == after {
		return before != after
	}
	same := func(a, b *topology.Service) bool { return a.Resource == b.Resource }
	for i, list := range servicesOf(before) {
		if !slices.EqualFunc(list, servicesOf(after)[i], same) {
			return true
		}
	}
	return !maps.EqualFunc(before.Policies, after.Policies, slices.Equal)
}

// relabelledMeshes are those in which a service has other labels after a change: rules that stay show it with them.
func relabelledMeshes(before, after *topology.World) map[string]bool {
	out := map[string]bool{}
	for name, m := range after.Meshes {
		old := before.Meshes[name]
		if old == nil || old == m {
			continue
		}
		was := map[resource.Key]*resource.Resource{}
		for _, s := range slices.Concat(old.Services, old.MultiZone, old.External) {
			was[s.Resource.Key] = s.Resource
		}
		for _, s := range slices.Concat(m.Services, m.MultiZone, m.External) {
			if o := was[s.Resource.Key]; o != nil && o != s.Resource && !maps.Equal(o.Labels, s.Resource.Labels) {
				out[name] = true
			}
		}
	}
	return out
}

// leftOut tells which parts of policies of a kind that patches could not be done.
func (p *picture) leftOut(kind resource.Kind) []string {
	if p.snap == nil || !effect.Effective(p.rules[kind]) {
		return nil
	}
	return p.snap.patchWarnings[kind]
}

// ofKind returns the rules of a kind with what of them is left out, as Rules does.
func (p *picture) ofKind(kind resource.Kind) *policy.Rules {
	r, left := p.rules[kind], p.leftOut(kind)
	if len(left) == 0 {
		return r
	}
	out := *r // rules are shared
	out.Warnings = slices.Concat(r.Warnings, left)
	return &out
}
