package policy

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/kuma-dp/kuma-dp/resource"
)

// Set holds the policies of one kind in ascending precedence (contract policies.md §4.3), with what matching needs taken
// out of each once. It is immutable and safe for concurrent use.
type Set struct {
	kind     Kind
	policies []*resource.Resource
	routes   []*resource.Resource
	entries  []*entry
}

// entry is one policy.
type entry struct {
	// id tells entries apart for as long as the process runs.
	id     uint64
	policy *resource.Resource
	spec   Targeted
	rank   ranked
	// top is the targetRef that selects proxies: the policy's, or that of its route; wanted are the tags that it asks for.
	top    TargetRef
	wanted map[string]string
	// route is the MeshHTTPRoute that the policy names; missing says that it does not exist.
	route   *resource.Resource
	missing bool

	shadow                  bool
	role                    Role
	origin, zone, namespace string
	to                      []*toItem
	tagged                  []*tagItem // of `to`
	from                    []*tagItem
	single                  any
	// byTags: it is a route that may lead to a kuma.io/service.
	byTags bool
}

var lastID atomic.Uint64

// NewSet makes the Set of those policies that are of the kind. Routes are the MeshHTTPRoutes that their top-level
// targetRefs may name. What an earlier Set of the kind has in common is taken over from it; it may be nil. The result does
// not depend on the order of the policies.
func NewSet(kind Kind, policies, routes []*resource.Resource, earlier *Set) *Set {
	s := &Set{kind: kind, policies: policies, routes: routes}
	gone := map[*resource.Resource]bool{}
	came := policies
	var kept []*entry
	if earlier != nil {
		old := earlier.policies
		old, came = unlike(old, came)
		if len(old)+len(came) == 0 && slices.Equal(earlier.routes, routes) {
			return earlier
		}
		for _, p := range old {
			gone[p] = true
		}
		came = slices.DeleteFunc(slices.Clone(came), func(p *resource.Resource) bool {
			stays := gone[p]
			delete(gone, p)
			return stays
		})
		kept = earlier.entries
	}
	var fresh []*entry
	for _, p := range came {
		if spec, ok := p.Spec.(Targeted); ok && p.Kind == kind.Descriptor.Kind {
			fresh = append(fresh, newEntry(p, spec, routes))
		}
	}
	for _, e := range kept {
		if !gone[e.policy] && !e.sameRoute(routes) {
			gone[e.policy] = true
			fresh = append(fresh, newEntry(e.policy, e.spec, routes))
		}
	}
	if earlier != nil && len(fresh)+len(gone) == 0 {
		return earlier // the routes are others, but mean the same to all
	}
	slices.SortStableFunc(fresh, func(a, b *entry) int { return a.rank.compare(b.rank) })
	s.entries = make([]*entry, 0, len(policies))
	for _, e := range kept {
		if gone[e.policy] {
			continue
		}
		for len(fresh) > 0 && fresh[0].rank.compare(e.rank) < 0 {
			s.entries, fresh = append(s.entries, fresh[0]), fresh[1:]
		}
		s.entries = append(s.entries, e)
	}
	s.entries = append(s.entries, fresh...)
	return s
}

// unlike returns a and b without their equal beginnings and ends.
func unlike[E comparable](a, b []E) (_, _ []E) {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return a, b
}

func newEntry(p *resource.Resource, spec Targeted, routes []*resource.Resource) *entry {
	top := spec.Target()
	e := &entry{
		id: lastID.Add(1), policy: p, spec: spec, rank: rank(p, top), role: RoleOf(&p.Meta), shadow: p.Labels[resource.LabelEffect] == "shadow",
		origin: p.Labels[resource.LabelOrigin], zone: p.Labels[resource.LabelZone], namespace: p.Labels[resource.LabelNamespace],
		single: spec.Default(),
	}
	scoped := top.Kind == MeshHTTPRoute
	if scoped {
		e.route = routeOf(p, top, routes)
		if e.route == nil {
			e.missing = true
			return e
		}
		top = e.route.Spec.(Routed).Target()
	}
	e.top = top
	switch top.Kind {
	case MeshSubset, MeshGateway:
		e.wanted = top.Tags
	case MeshService, MeshServiceSubset:
		e.wanted = map[string]string{resource.TagService: top.Name}
		for k, v := range top.Tags {
			e.wanted[k] = v
		}
	}
	for i, item := range spec.ToItems() {
		if scoped {
			e.tagged = append(e.tagged, routeScoped(e.route, item, p)...)
			continue
		}
		if t, ok := tagItemOf(item, p); ok {
			e.tagged = append(e.tagged, t)
		}
		e.to = append(e.to, &toItem{
			ranked: e.rank, kind: kindOrder(item.TargetRef.Kind), section: sectionOrder(item.TargetRef),
			ref: item.TargetRef, conf: item.Conf, index: i,
		})
	}
	e.byTags = slices.ContainsFunc(Backends(spec), Backend.ByTags)
	for _, item := range spec.FromItems() {
		if t, ok := tagItemOf(item, p); ok {
			e.from = append(e.from, t)
		}
	}
	return e
}

// sameRoute tells whether the entry's reference to a route still means the same.
func (e *entry) sameRoute(routes []*resource.Resource) bool {
	return e.route == nil && !e.missing || routeOf(e.policy, e.spec.Target(), routes) == e.route
}

// routeOf resolves a top-level MeshHTTPRoute: by display name in the mesh of the policy, or by labels (contract policies.md
// §4.1 step 4). Of several it is the first by name.
func routeOf(p *resource.Resource, ref TargetRef, routes []*resource.Resource) *resource.Resource {
	var found *resource.Resource
	for _, r := range routes {
		if r.Mesh != p.Mesh || found != nil && strings.Compare(found.Name, r.Name) <= 0 {
			continue
		}
		if len(ref.Labels) > 0 && !hasLabels(r.Labels, ref.Labels) || len(ref.Labels) == 0 && r.DisplayName() != ref.Name {
			continue
		}
		// A route cannot stand for another one.
		if spec, ok := r.Spec.(Routed); ok && spec.Target().Kind != MeshHTTPRoute {
			found = r
		}
	}
	return found
}

// routeScoped makes an item for every rule of the route: it acts on what the rule takes (contract policies.md §4.6).
func routeScoped(route *resource.Resource, item Item, p *resource.Resource) []*tagItem {
	var out []*tagItem
	for _, rule := range route.Spec.(Routed).RouteRules() {
		tags := map[string]string{RuleMatchesHash: rule.Hash}
		if rule.To.Kind != Mesh && rule.To.Kind != MeshSubset {
			tags[resource.TagService] = rule.To.Name
		}
		out = append(out, newTagItem(tags, item.Conf, p))
	}
	return out
}
