package topology

import (
	"maps"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// selection is the set of proxies that the top-level targetRef of a policy chooses. It may be larger than what the
// policy selects in the end (zone, namespace and role are left out), never smaller: too many are recomputed, none is
// forgotten.
type selection struct {
	all   bool
	names map[string]bool
}

// touching returns the proxies of e's mesh, as it is now, that a stored version of a policy may concern.
func (e *edit) touching(r *resource.Resource) selection {
	if older, ok := r.Spec.(resource.OlderPolicy); ok {
		return e.carryingAny(older.Proxies())
	}
	sel := e.selectedBy(r)
	if !sel.all && len(sel.names) == 0 {
		return sel
	}
	clients, narrowed := e.clientsOfItems(r)
	switch {
	case !narrowed:
		return sel
	case sel.all:
		return selection{names: clients}
	}
	maps.DeleteFunc(sel.names, func(n string, _ bool) bool { return !clients[n] })
	return sel
}

// selectedBy looks at the top-level targetRef only. A shadow policy concerns nobody (contract policies.md §4.1 step 1).
func (e *edit) selectedBy(r *resource.Resource) selection {
	spec, ok := r.Spec.(policy.Targeted)
	if !ok || r.Labels[resource.LabelEffect] == "shadow" {
		return selection{}
	}
	return e.selected(spec.Target())
}

// selected follows contract policies.md §4.1 step 4. Kinds that need more than the Dataplane (MeshGateway,
// MeshHTTPRoute) select everybody.
func (e *edit) selected(ref policy.TargetRef) selection {
	tags := map[string]string{}
	switch ref.Kind {
	case "", policy.Mesh:
	case policy.MeshSubset:
		tags = ref.Tags
	case policy.MeshService, policy.MeshServiceSubset:
		maps.Copy(tags, ref.Tags)
		tags[resource.TagService] = ref.Name
	default:
		return selection{all: true}
	}
	if len(tags) == 0 && len(ref.ProxyTypes) == 0 {
		return selection{all: true}
	}
	names := map[string]bool{}
	for d := range e.carrying(tags) {
		if d.ofType(ref.ProxyTypes) && d.carries(tags) {
			names[d.Name] = true
		}
	}
	return selection{names: names}
}

// carryingAny are the proxies that one of the selectors chooses.
func (e *edit) carryingAny(selectors []resource.Selector) selection {
	names := map[string]bool{}
	for _, s := range selectors {
		for d := range e.carrying(s.Match) {
			if d.carries(s.Match) {
				names[d.Name] = true
			}
		}
	}
	return selection{names: names}
}

// carrying yields a superset of the proxies that carry all tags, the smallest that the index has.
func (e *edit) carrying(tags map[string]string) func(yield func(*Dataplane) bool) {
	var best map[string]bool
	indexed := false
	for k, v := range tags {
		if v == "*" {
			continue
		}
		if set := e.ix.proxies[pair{k, v}]; !indexed || len(set) < len(best) {
			best, indexed = set, true
		}
	}
	return func(yield func(*Dataplane) bool) {
		if !indexed {
			for _, d := range e.mesh.Dataplanes {
				if !yield(d) {
					return
				}
			}
			return
		}
		for name := range best {
			if d := e.mesh.Dataplane(name); d != nil && !yield(d) {
				return
			}
		}
	}
}

// ofType applies proxyTypes; none means both.
func (d *Dataplane) ofType(types []string) bool {
	t := "Sidecar"
	if d.Spec.Networking != nil && d.Spec.Networking.Gateway != nil {
		t = "Gateway"
	}
	return len(types) == 0 || slices.Contains(types, t)
}

// carries tells whether one inbound, or the gateway, has all tags; "*" is any value. Ignored inbounds are not left out
// here: a proxy too many does no harm.
func (d *Dataplane) carries(tags map[string]string) bool {
	n := d.Spec.Networking
	if len(tags) == 0 {
		return true
	}
	if n == nil {
		return false
	}
	has := func(have map[string]string) bool {
		for k, v := range tags {
			if got, ok := have[k]; !ok || v != "*" && v != got {
				return false
			}
		}
		return true
	}
	return n.Gateway != nil && has(n.Gateway.Tags) ||
		slices.ContainsFunc(d.inboundTags, has) // with kuma.io/zone, which policies may name too
}

// kindTimeout is never narrowed: any MeshTimeout on a proxy rewrites all of its outbounds (contract effects-routing.md
// §1 trap 1).
const kindTimeout = "MeshTimeout"

// clientsOfItems returns the clients of the services that a producer policy is about: in a large mesh a service's owner
// changes them often, and they concern few.
func (e *edit) clientsOfItems(r *resource.Resource) (clients map[string]bool, narrowed bool) {
	spec := r.Spec.(policy.Targeted)
	if r.Labels[resource.LabelPolicyRole] != "producer" || r.Kind == kindTimeout || len(spec.FromItems()) > 0 {
		return nil, false
	}
	services, ok := e.servicesOfItems(spec)
	if !ok {
		return nil, false
	}
	clients = map[string]bool{}
	for _, s := range services {
		e.eachClient(s, func(name string) { clients[name] = true })
	}
	e.eachLegacyClientOf(spec, func(name string) { clients[name] = true })
	return clients, true
}

// servicesOfItems returns the services that the `to` items of a policy mean. It is not ok when that would not be all
// that the policy is about: items of other kinds, outbounds made from kuma.io/service.
func (e *edit) servicesOfItems(spec policy.Targeted) (services []*Service, ok bool) {
	items := spec.ToItems()
	if e.mesh.Spec == nil || e.mesh.Spec.ServicesMode() != resource.MeshServicesExclusive ||
		len(items) == 0 || spec.Target().Kind == policy.MeshHTTPRoute {
		return nil, false
	}
	for _, it := range items {
		// Names of the older form `<name>_<namespace>_svc_<port>` resolve in another way (contract policies.md §4.6).
		// So do the names of clusters.
		if it.TargetRef.Kind != policy.MeshService || strings.Contains(it.TargetRef.Name, "svc_") || strings.HasSuffix(it.TargetRef.Name, "_svc") {
			return nil, false
		}
	}
	for _, s := range e.mesh.Services {
		if slices.ContainsFunc(items, func(it policy.Item) bool { return mayMean(it.TargetRef.Name, it.TargetRef.Labels, s) }) {
			services = append(services, s)
		}
	}
	return services, true
}

// mayMean tells whether a reference by name or labels can be to s, whoever wrote it.
func mayMean(name string, labels map[string]string, s *Service) bool {
	if len(labels) > 0 {
		return hasAll(s.Labels, labels)
	}
	return name == s.DisplayName()
}

// eachClient calls f with every proxy whose configuration holds endpoints of s, some more than once: those with an
// outbound to it, and those that a route sends there from the outbound of another service.
func (e *edit) eachClient(s *Service, f func(name string)) {
	e.eachOwnClient(s, f)
	for _, r := range e.ix.routes.to(s) {
		e.eachRouted(r, f)
	}
}

// eachOwnClient calls f with every proxy that has an outbound to s.
func (e *edit) eachOwnClient(s *Service, f func(name string)) {
	if e.mesh.openMode() {
		for name := range e.ix.open {
			f(name)
		}
	}
	e.ix.reach.each(s, func(name string) {
		if d := e.mesh.Dataplane(name); d != nil && e.mesh.reaches(d, s) {
			f(name)
		}
	})
}
