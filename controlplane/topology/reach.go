package topology

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"github.com/kuma-dp/kuma-dp/resource"
)

// redirected tells whether VIPs reach the proxy; without redirection it has the outbounds of its own Dataplane only.
func (d *Dataplane) redirected() bool {
	return d.Spec.Networking != nil && d.Spec.Networking.TransparentProxying != nil
}

// open tells whether the proxy reaches every service, but in mode ReachableBackends (contract effects-routing.md §2.1).
func (d *Dataplane) open() bool {
	if !d.redirected() {
		return false
	}
	tp := d.Spec.Networking.TransparentProxying
	return tp.ReachableBackends == nil && len(tp.ReachableServices) == 0
}

// refs are the services that the Dataplane itself names: its list of reachable backends, or its outbounds.
func (d *Dataplane) refs() []resource.OutboundRef {
	switch {
	case d.Spec.Networking == nil:
		return nil
	case d.redirected():
		if list := d.Spec.Networking.TransparentProxying.ReachableBackends; list != nil {
			return list.Refs
		}
		return nil
	}
	var out []resource.OutboundRef
	for _, o := range d.Spec.Networking.Outbound {
		if o.BackendRef != nil {
			out = append(out, *o.BackendRef)
		}
	}
	return out
}

// means tells whether a reference written in d's Dataplane is to s: by labels every service that has them all, by name
// the one of the same zone and namespace (contract policies.md §1.6, §2.3).
func (d *Dataplane) means(ref resource.OutboundRef, s *Service) bool {
	switch {
	case ref.Kind != s.Kind:
		return false
	case len(ref.Labels) > 0:
		return hasAll(s.Labels, ref.Labels)
	case ref.Name == "":
		return false
	}
	return ref.Name == s.DisplayName() &&
		d.Labels[resource.LabelZone] == s.Labels[resource.LabelZone] &&
		cmp.Or(ref.Namespace, d.Labels[resource.LabelNamespace]) == s.Labels[resource.LabelNamespace]
}

// narrows tells whether a reference with a port number keeps the port p of s. The number of no port is taken for a
// section name (contract policies.md §2.3).
func narrows(ref resource.OutboundRef, s *Service, p resource.ServicePort) bool {
	if ref.Port == 0 || ref.Port == p.Port {
		return true
	}
	known := slices.ContainsFunc(s.Spec.Ports, func(q resource.ServicePort) bool { return q.Port == ref.Port })
	return !known && strconv.FormatUint(uint64(ref.Port), 10) == p.Section()
}

// reaches tells whether d has an outbound to any port of s.
func (m *Mesh) reaches(d *Dataplane, s *Service) bool {
	if d.open() {
		return m.openMode()
	}
	return slices.ContainsFunc(d.refs(), func(ref resource.OutboundRef) bool { return d.means(ref, s) })
}

// openMode tells whether proxies without a list reach everything.
func (m *Mesh) openMode() bool {
	return m.Spec == nil || m.Spec.ServicesMode() != resource.MeshServicesReachableBackends
}

// pair is one tag or label.
type pair struct{ key, value string }

// pairOf picks the pair by which a non-empty map is indexed. Any would do; a kuma.io/service is the most selective.
func pairOf(m map[string]string) pair {
	if v, ok := m[resource.TagService]; ok {
		return pair{resource.TagService, v}
	}
	k := slices.Min(slices.Collect(maps.Keys(m)))
	return pair{k, m[k]}
}

// multimap is a set of values by key.
type multimap[K, V comparable] map[K]map[V]bool

func (m multimap[K, V]) add(k K, v V) {
	set := m[k]
	if set == nil {
		set = map[V]bool{}
		m[k] = set
	}
	set[v] = true
}

func (m multimap[K, V]) remove(k K, v V) {
	delete(m[k], v)
	if len(m[k]) == 0 {
		delete(m, k)
	}
}

// refIndex finds those who may refer to a service. It knows names and one label of each reference, so that whoever
// looks something up must check what it finds.
type refIndex struct {
	names  multimap[kindName, string]
	labels multimap[kindPair, string]
}

type kindName struct {
	kind resource.Kind
	name string
}

type kindPair struct {
	kind resource.Kind
	pair pair
}

func newRefIndex() refIndex {
	return refIndex{multimap[kindName, string]{}, multimap[kindPair, string]{}}
}

// isDestination tells whether an outbound may lead to services of the kind, see destinations.
func isDestination(k resource.Kind) bool {
	return k == resource.KindMeshService || k == resource.KindMeshMultiZoneService || k == resource.KindMeshExternalService
}

func (x refIndex) add(owner string, refs []resource.OutboundRef) {
	for _, r := range refs {
		switch {
		case !isDestination(r.Kind):
		case len(r.Labels) > 0:
			x.labels.add(kindPair{r.Kind, pairOf(r.Labels)}, owner)
		case r.Name != "":
			x.names.add(kindName{r.Kind, r.Name}, owner)
		}
	}
}

func (x refIndex) remove(owner string, refs []resource.OutboundRef) {
	for _, r := range refs {
		switch {
		case !isDestination(r.Kind):
		case len(r.Labels) > 0:
			x.labels.remove(kindPair{r.Kind, pairOf(r.Labels)}, owner)
		case r.Name != "":
			x.names.remove(kindName{r.Kind, r.Name}, owner)
		}
	}
}

// each calls f with everyone who may refer to s, some more than once.
func (x refIndex) each(s *Service, f func(owner string)) {
	for owner := range x.names[kindName{s.Kind, s.DisplayName()}] {
		f(owner)
	}
	for k, v := range s.Labels {
		for owner := range x.labels[kindPair{s.Kind, pair{k, v}}] {
			f(owner)
		}
	}
}
