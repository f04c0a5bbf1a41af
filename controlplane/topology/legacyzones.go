package topology

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
)

// zoneEgress tells whether what leaves the zone goes through a ZoneEgress.
func (m *Mesh) zoneEgress() bool {
	return m.secured() && m.Spec.Routing != nil && m.Spec.Routing.ZoneEgress
}

// ThroughEgress tells whether clients reach s by a ZoneEgress: it is outside, and the mesh routes so.
func (m *Mesh) ThroughEgress(s *LegacyService) bool {
	return s != nil && len(s.External) > 0 && m.zoneEgress()
}

// externalLegacy takes one change of an ExternalService.
func (e *edit) externalLegacy(prev, next *resource.Resource) {
	r := cmp.Or(next, prev)
	list := slices.Clone(e.mesh.ExternalServices)
	i, found := slices.BinarySearchFunc(list, r.Name, byName)
	switch {
	case found && next != nil:
		list[i] = next
	case found:
		list = slices.Delete(list, i, i+1)
	case next != nil:
		list = slices.Insert(list, i, next)
	}
	e.mesh.ExternalServices = list
	for _, r := range []*resource.Resource{prev, next} {
		if r != nil {
			e.legacy[resource.SpecOf[*resource.ExternalService](r).Tags[resource.TagService]] = true
		}
	}
}

// crossZoneLegacy makes stale every kuma.io/service that may be served elsewhere.
func (e *edit) crossZoneLegacy() {
	for _, s := range e.mesh.Legacy {
		e.legacy[s.Name] = true
	}
	for _, z := range []*Zones{e.oldZones, e.zones} {
		for _, r := range z.Ingresses {
			for _, s := range resource.SpecOf[*resource.ZoneIngress](r).AvailableServices {
				if s.Mesh == e.name {
					e.legacy[s.Tags[resource.TagService]] = true
				}
			}
		}
	}
}

// legacyElsewhere adds to a kuma.io/service, which has its local endpoints, those of other zones and what is outside. It
// tells whether there is any (contract effects-routing.md §2.5).
func (e *edit) legacyElsewhere(s *LegacyService) bool {
	for _, r := range e.mesh.ExternalServices {
		if resource.SpecOf[*resource.ExternalService](r).Tags[resource.TagService] == s.Name {
			s.External = append(s.External, r)
		}
	}
	if len(s.External) > 0 && e.mesh.zoneEgress() {
		for _, r := range s.External {
			tags := resource.SpecOf[*resource.ExternalService](r).Tags
			s.Endpoints = append(s.Endpoints, e.egressEndpoints(tags, 0)...)
		}
	}
	remote, ingresses := e.remoteLegacy(s.Name)
	if e.mesh.secured() {
		for i := range s.Endpoints {
			if s.Endpoints[i].Dataplane != "" && ingresses > 1 {
				s.Endpoints[i].Weight = ingresses
			}
		}
		s.Endpoints = append(s.Endpoints, remote...)
	}
	return len(s.External)+len(remote) > 0
}

// egressEndpoints are the egresses of this zone in the place of what has the tags.
func (e *edit) egressEndpoints(tags map[string]string, priority uint32) []Endpoint {
	list := e.zones.LocalEgresses()
	for i := range list {
		list[i].Tags, list[i].Zone, list[i].Priority = tags, tags[resource.TagZone], priority
	}
	return list
}

// remoteLegacy are the ingresses that offer a kuma.io/service, or the egress in their place, and the number of distinct
// ingresses that offer anything of the mesh.
func (e *edit) remoteLegacy(name string) (out []Endpoint, ingresses uint32) {
	var priority uint32
	if r := e.mesh.Spec; r != nil && r.Routing != nil && r.Routing.LocalityAwareLoadBalancing {
		priority = 1
	}
	remote, ingresses := e.zones.offered(e.name, name)
	for _, r := range remote {
		if e.mesh.zoneEgress() {
			out = append(out, e.egressEndpoints(r.Tags, priority)...)
			continue
		}
		r.Priority = priority
		out = append(out, r)
	}
	return out, ingresses
}

// RemoteLegacy are the ingresses of other zones that offer a kuma.io/service of a mesh, each weighing its instances.
func (z *Zones) RemoteLegacy(mesh, service string) []Endpoint {
	out, _ := z.offered(mesh, service)
	return out
}

// offered is RemoteLegacy with the number of distinct ingresses that offer anything of the mesh. Two ingresses of one
// address are one behind a load balancer.
func (z *Zones) offered(mesh, service string) (out []Endpoint, ingresses uint32) {
	type place struct {
		address string
		port    uint32
	}
	done := map[place]bool{}
	for _, r := range z.Ingresses {
		spec := resource.SpecOf[*resource.ZoneIngress](r)
		zone := ZoneOf(r)
		if !spec.Public() || zone == "" || zone == z.Local || !z.enabled(zone) {
			continue
		}
		at := place{spec.Networking.AdvertisedAddress, spec.Networking.AdvertisedPort}
		if done[at] {
			continue
		}
		for _, s := range spec.AvailableServices {
			if s.Mesh != mesh || s.ExternalService {
				continue
			}
			done[at] = true
			if s.Tags[resource.TagService] == service {
				out = append(out, Endpoint{Address: at.address, Port: at.port, Tags: s.Tags, Zone: s.Tags[resource.TagZone], Weight: s.Instances})
			}
		}
	}
	return out, uint32(len(done))
}

// placesOfExternal are where proxies listen for a service outside besides its virtual address and port: its own port
// there, and its own address when that is no name (contract effects-routing.md §2.1).
func (s *LegacyService) placesOfExternal() []netip.AddrPort {
	var out []netip.AddrPort
	for _, r := range s.External {
		host, port := resource.SpecOf[*resource.ExternalService](r).HostPort()
		if port == 0 {
			continue
		}
		if vip, err := netip.ParseAddr(s.VIP); err == nil {
			out = append(out, netip.AddrPortFrom(vip, uint16(port)))
		}
		if addr, err := netip.ParseAddr(host); err == nil {
			out = append(out, netip.AddrPortFrom(addr, uint16(port)))
		}
	}
	return out
}
