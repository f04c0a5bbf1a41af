package topology

import (
	"cmp"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Zones are the zones and zone proxies of all meshes. It is immutable.
type Zones struct {
	// Local is the name of the zone of this control plane.
	Local string
	// Ingresses, Egresses and Zones are sorted by name.
	Ingresses, Egresses, Zones []*resource.Resource
}

// Ingress returns nil when there is no such ZoneIngress.
func (z *Zones) Ingress(name string) *resource.Resource { return lookup(z.Ingresses, name) }

// Egress returns nil when there is no such ZoneEgress.
func (z *Zones) Egress(name string) *resource.Resource { return lookup(z.Egresses, name) }

func byName(r *resource.Resource, name string) int { return cmp.Compare(r.Name, name) }

func lookup(list []*resource.Resource, name string) *resource.Resource {
	if i, ok := slices.BinarySearchFunc(list, name, byName); ok {
		return list[i]
	}
	return nil
}

// with returns the picture after events, z itself when they are about other kinds.
func (z *Zones) with(events []store.Event) *Zones {
	next := z
	for _, ev := range events {
		r := cmp.Or(ev.New, ev.Old)
		if r.Kind != resource.KindZoneIngress && r.Kind != resource.KindZoneEgress && r.Kind != resource.KindZone {
			continue
		}
		if next == z {
			next = &Zones{z.Local, slices.Clone(z.Ingresses), slices.Clone(z.Egresses), slices.Clone(z.Zones)}
		}
		list := map[resource.Kind]*[]*resource.Resource{
			resource.KindZoneIngress: &next.Ingresses, resource.KindZoneEgress: &next.Egresses, resource.KindZone: &next.Zones,
		}[r.Kind]
		i, found := slices.BinarySearchFunc(*list, r.Name, byName)
		switch {
		case found && ev.New != nil:
			(*list)[i] = ev.New
		case found:
			*list = slices.Delete(*list, i, i+1)
		case ev.New != nil:
			*list = slices.Insert(*list, i, ev.New)
		}
	}
	return next
}

// touch names the zone proxies that differ between two pictures, all ingresses when what they serve changed, and
// likewise all egresses, which may also hand on to the ingresses of other zones.
func (z *Zones) touch(next *Zones, ingress, egress bool, touch func(name string)) {
	egress = egress || !slices.Equal(z.Ingresses, next.Ingresses) || !slices.Equal(z.Zones, next.Zones)
	for _, kind := range []struct {
		before, after []*resource.Resource
		all           bool
	}{{z.Ingresses, next.Ingresses, ingress}, {z.Egresses, next.Egresses, egress}} {
		for _, r := range kind.after {
			if kind.all || lookup(kind.before, r.Name) != r {
				touch(r.Name)
			}
		}
		for _, r := range kind.before {
			if lookup(kind.after, r.Name) == nil {
				touch(r.Name)
			}
		}
	}
}

// enabled tells whether a zone takes traffic: one that nobody registered does.
func (z *Zones) enabled(zone string) bool {
	r := lookup(z.Zones, zone)
	if r == nil {
		return true
	}
	enabled := resource.SpecOf[*resource.Zone](r).Enabled
	return enabled == nil || *enabled
}

// ZoneOf is the zone of a zone proxy: the one in its spec, or else in its labels; empty for one of the local zone that
// says nothing.
func ZoneOf(r *resource.Resource) string {
	zone := ""
	switch spec := r.Spec.(type) {
	case *resource.ZoneIngress:
		zone = spec.Zone
	case *resource.ZoneEgress:
		zone = spec.Zone
	}
	return cmp.Or(zone, r.Labels[resource.LabelZone])
}

// LocalEgresses are where the proxies of this zone find the outside: one endpoint for each distinct address (contract
// effects-routing.md §2.5).
func (z *Zones) LocalEgresses() []Endpoint {
	var out []Endpoint
	for _, r := range z.Egresses {
		n := resource.SpecOf[*resource.ZoneEgress](r).Networking
		if zone := ZoneOf(r); n != nil && n.Address != "" && (zone == "" || zone == z.Local) {
			out = append(out, Endpoint{Address: n.Address, Port: n.Port})
		}
	}
	return distinct(out)
}

// IngressesOf are where the services of another zone are found: one endpoint for each distinct advertised address.
func (z *Zones) IngressesOf(zone string) []Endpoint {
	var out []Endpoint
	if !z.enabled(zone) {
		return nil
	}
	for _, r := range z.Ingresses {
		spec := resource.SpecOf[*resource.ZoneIngress](r)
		if spec.Public() && ZoneOf(r) == zone {
			out = append(out, Endpoint{Address: spec.Networking.AdvertisedAddress, Port: spec.Networking.AdvertisedPort})
		}
	}
	return distinct(out)
}

// distinct sorts endpoints by address and port, and keeps one of each.
func distinct(list []Endpoint) []Endpoint {
	slices.SortFunc(list, func(a, b Endpoint) int {
		return cmp.Or(strings.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port))
	})
	return slices.CompactFunc(list, func(a, b Endpoint) bool { return a.Address == b.Address && a.Port == b.Port })
}

// Remote tells whether a MeshService belongs to another zone, which has its proxies (contract zones.md §3).
func (s *Service) Remote() bool {
	return s.Kind == resource.KindMeshService &&
		s.Labels[resource.LabelOrigin] == resource.OriginGlobal && s.Labels[resource.LabelZone] != ""
}

// selector is what chooses proxies of this zone: nothing does for a service of another one.
func (s *Service) selector() *resource.ServiceSelector {
	if s.Remote() {
		return nil
	}
	return s.Spec.Selector
}

// secured tells whether the mesh has mTLS, without which no other zone is reached.
func (m *Mesh) secured() bool { return m.Spec != nil && m.Spec.EnabledBackend() != nil }

// remoteEndpoints are the ingresses of the zone of s, behind each of its ports, used when no endpoint of the local zone
// is left (contract zones.md §7).
func (e *edit) remoteEndpoints(s *Service) map[uint32][]Endpoint {
	out := map[uint32][]Endpoint{}
	if !e.mesh.secured() {
		return out
	}
	zone := s.Labels[resource.LabelZone]
	list := e.zones.IngressesOf(zone)
	tags := map[string]string{resource.TagZone: zone}
	for i := range list {
		list[i].Tags, list[i].Zone, list[i].Priority = tags, zone, 1
	}
	if len(list) == 0 {
		return out
	}
	for _, p := range s.Spec.Ports {
		out[p.Port] = list
	}
	return out
}

// crossZone makes stale what depends on zone proxies, when they or the mTLS of the mesh changed.
func (e *edit) crossZone() {
	zones := e.zones != e.oldZones
	if zones || e.old.Spec != e.mesh.Spec {
		e.crossZoneLegacy()
	}
	if !zones && e.old.secured() == e.mesh.secured() {
		return
	}
	for _, s := range e.mesh.Services {
		if s.Remote() {
			e.draft(s.Name)
			e.drafts[s.Name].stale = true
		}
	}
	if !zones {
		return
	}
	for _, s := range e.mesh.External {
		e.draftExternal(s.Name)
	}
}

// touchZoneProxies finds out whether the batch changes what zone proxies serve of the mesh: an ingress its MeshServices
// and MeshMultiZoneServices, an egress its MeshExternalServices under its policies.
func (e *edit) touchZoneProxies() {
	e.ingress, e.egress = e.all, e.all || len(e.policies) > 0
	for name := range e.drafts {
		e.ingress = e.ingress || difference(e.old.Service(name), e.mesh.Service(name)) != 0
	}
	for name := range e.multi {
		e.ingress = e.ingress || difference(e.old.MultiZoneService(name), e.mesh.MultiZoneService(name)) != 0
	}
	for name := range e.legacy {
		e.egress = e.egress || legacyDifference(e.old.LegacyService(name), e.mesh.LegacyService(name)) != 0
	}
	for name := range e.external {
		before, after := e.old.ExternalService(name), e.mesh.ExternalService(name)
		e.egress = e.egress || before == nil || after == nil || before.Resource != after.Resource
	}
}
