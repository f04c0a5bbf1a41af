package topology

import (
	"strings"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// routeIndex finds the policies that send traffic somewhere else than their `to` items say (contract policies.md §3.7,
// §3.8): by the service objects that their backendRefs may mean, and by values of kuma.io/service.
type routeIndex struct {
	refs   refIndex
	legacy multimap[string, string]
	// clusters are names that may be those of clusters of service objects.
	clusters multimap[string, string]
	// of holds the policies by owner name.
	of map[string]*resource.Resource
}

func newRouteIndex() routeIndex {
	return routeIndex{newRefIndex(), multimap[string, string]{}, multimap[string, string]{}, map[string]*resource.Resource{}}
}

func routeOwner(k resource.Key) string { return string(k.Kind) + "/" + k.Name }

// set replaces what the index knows of a policy; nil forgets it.
func (x *routeIndex) set(key resource.Key, r *resource.Resource) {
	owner := routeOwner(key)
	if old := x.of[owner]; old != nil {
		refs, names := leadsTo(old)
		x.refs.remove(owner, refs)
		for _, n := range names {
			x.legacy.remove(n, owner)
			x.clusters.remove(n, owner)
		}
		delete(x.of, owner)
	}
	if r == nil {
		return
	}
	refs, names := leadsTo(r)
	if len(refs)+len(names) == 0 {
		return
	}
	x.of[owner] = r
	x.refs.add(owner, refs)
	for _, n := range names {
		x.legacy.add(n, owner)
		if mayNameCluster(n) {
			x.clusters.add(n, owner)
		}
	}
}

// leadsTo returns what the backendRefs of a policy may mean.
func leadsTo(r *resource.Resource) (refs []resource.OutboundRef, names []string) {
	spec, ok := r.Spec.(policy.Targeted)
	if !ok {
		return nil, nil
	}
	for _, b := range policy.Backends(spec) {
		if kind := resource.Kind(b.Kind); b.Real() && isDestination(kind) && (b.Name != "" || len(b.Labels) > 0) {
			refs = append(refs, resource.OutboundRef{Kind: kind, Name: b.Name, Labels: b.Labels})
		}
		if b.ByTags() {
			names = append(names, b.Name)
		}
	}
	return refs, names
}

// mayNameCluster tells whether a name may be that of a cluster of a service object, `<mesh>_<name>_<namespace>_<zone>_msvc_<port>`
// (contract controlplane.md §3.2).
func mayNameCluster(name string) bool { return strings.Contains(name, "svc_") }

// to returns the policies that may send traffic to a service object.
func (x *routeIndex) to(s *Service) map[string]*resource.Resource {
	out := map[string]*resource.Resource{}
	x.refs.each(s, func(owner string) { out[owner] = x.of[owner] })
	for name, owners := range x.clusters {
		if strings.Contains(name, "_"+s.DisplayName()+"_") {
			for owner := range owners {
				out[owner] = x.of[owner]
			}
		}
	}
	return out
}

// eachRouted calls f with every proxy that a route acts on: those that it selects and that have an outbound to a service
// of its `to` items.
func (e *edit) eachRouted(route *resource.Resource, f func(name string)) {
	sel := e.selectedBy(route)
	if services, ok := e.servicesOfItems(route.Spec.(policy.Targeted)); ok {
		for _, s := range services {
			e.eachOwnClient(s, func(name string) {
				if sel.all || sel.names[name] {
					f(name)
				}
			})
		}
		e.eachOwnLegacyClientOf(route.Spec.(policy.Targeted), func(name string) {
			if sel.all || sel.names[name] {
				f(name)
			}
		})
		return
	}
	if sel.all {
		for _, d := range e.mesh.Dataplanes {
			f(d.Name)
		}
	}
	for name := range sel.names {
		f(name)
	}
}
