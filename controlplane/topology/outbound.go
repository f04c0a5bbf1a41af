package topology

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// lazy holds what is derived from the services of a Mesh when somebody first asks for it.
type lazy struct {
	outbounds func() []Outbound
	resources func() []*resource.Resource
	index     func() *policy.Index
}

func newLazy(name string, m *Mesh) *lazy {
	services := m.destinations()
	l := &lazy{
		outbounds: sync.OnceValue(func() []Outbound { return allOutbounds(services) }),
		resources: sync.OnceValue(func() []*resource.Resource { return resourcesOf(services) }),
	}
	l.index = sync.OnceValue(func() *policy.Index { return policy.NewIndex(name, l.resources()) })
	return l
}

// destinations are all services that an outbound may lead to: kind by kind, each in the order of names.
func (m *Mesh) destinations() []*Service { return slices.Concat(m.Services, m.MultiZone, m.External) }

func resourcesOf(services []*Service) []*resource.Resource {
	out := make([]*resource.Resource, len(services))
	for i, s := range services {
		out[i] = s.Resource
	}
	slices.SortStableFunc(out, func(a, b *resource.Resource) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (m *Mesh) resources() []*resource.Resource {
	if m.lazy == nil { // made by hand, in a test
		return resourcesOf(m.destinations())
	}
	return m.lazy.resources()
}

// Index finds what the mesh's policies name. It is the same one as long as no service changes.
func (m *Mesh) Index() *policy.Index {
	if m.lazy == nil {
		return policy.NewIndex(m.Name, m.resources())
	}
	return m.lazy.index()
}

func (m *Mesh) outbounds() []Outbound {
	if m.lazy == nil {
		return allOutbounds(m.destinations())
	}
	return m.lazy.outbounds()
}

// vips are the addresses of a service. What is none is left out.
func (s *Service) vips() []netip.Addr {
	var out []netip.Addr
	for _, vip := range s.Status.VIPs {
		if addr, err := netip.ParseAddr(vip.IP); err == nil {
			out = append(out, addr)
		}
	}
	return out
}

// allOutbounds is every port of every VIP, in the order of addresses, then ports.
func allOutbounds(services []*Service) []Outbound {
	type entry struct {
		Outbound
		addr netip.Addr
	}
	var all []entry
	for _, s := range services {
		for _, vip := range s.vips() {
			for _, p := range s.Spec.Ports {
				all = append(all, entry{Outbound{vip.String(), s, p, p.Port}, vip})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.Port.Port, b.Port.Port))
	})
	// One listener per address and port: of two that claim it the first service by kind and name wins.
	all = slices.CompactFunc(all, func(a, b entry) bool { return a.addr == b.addr && a.Port.Port == b.Port.Port })
	out := make([]Outbound, len(all))
	for i, e := range all {
		out[i] = e.Outbound
	}
	return out
}

// Outbounds returns the destinations of a proxy of m that are real services (MeshService, MeshMultiZoneService, MeshExternalService), with redirection in the order of VIPs and
// ports, else in the order of its Dataplane (contract policies.md §2.2, §2.3, effects-routing.md §2.1). Outbounds by
// kuma.io/service are not among them. The slice may be shared and must not be changed.
func (m *Mesh) Outbounds(dp *Dataplane) []Outbound {
	if dp.Spec.Networking == nil {
		return nil
	}
	if !dp.redirected() {
		return m.handWritten(dp)
	}
	all := m.outbounds()
	if dp.open() {
		if !m.openMode() {
			return nil
		}
		if !slices.ContainsFunc(all, func(o Outbound) bool { return dp.listensOn(o) }) {
			return all
		}
		return slices.DeleteFunc(slices.Clone(all), dp.listensOn)
	}
	named, labelled := map[string][]resource.OutboundRef{}, []resource.OutboundRef(nil)
	for _, ref := range dp.refs() {
		if len(ref.Labels) > 0 {
			labelled = append(labelled, ref)
		} else {
			named[ref.Name] = append(named[ref.Name], ref)
		}
	}
	var out []Outbound
	for _, o := range all {
		lists := func(ref resource.OutboundRef) bool {
			return dp.means(ref, o.Service) && narrows(ref, o.Service, o.Port)
		}
		listed := slices.ContainsFunc(named[o.Service.DisplayName()], lists) || slices.ContainsFunc(labelled, lists)
		if listed && !dp.listensOn(o) {
			out = append(out, o)
		}
	}
	return out
}

// listensOn tells whether an outbound collides with an inbound of the proxy itself.
func (d *Dataplane) listensOn(o Outbound) bool { return d.binds(o.VIP, o.ListenPort) }

func (d *Dataplane) binds(address string, port uint32) bool {
	return slices.ContainsFunc(d.Inbounds(), func(in *resource.Inbound) bool {
		return in.Port == port && cmp.Or(in.Address, d.Spec.Networking.Address) == address
	})
}

// handWritten are the outbounds of the Dataplane that name a service. What does not resolve is left out.
func (m *Mesh) handWritten(dp *Dataplane) []Outbound {
	var out []Outbound
	for _, o := range dp.Spec.Networking.Outbound {
		if o.BackendRef == nil {
			continue
		}
		s := m.resolve(dp, *o.BackendRef)
		if s == nil {
			continue
		}
		i := slices.IndexFunc(s.Spec.Ports, func(p resource.ServicePort) bool { return p.Port == o.BackendRef.Port })
		if i < 0 {
			continue
		}
		out = append(out, Outbound{cmp.Or(o.Address, "127.0.0.1"), s, s.Spec.Ports[i], o.Port})
	}
	return out
}

// resolve returns the service that a reference of dp means; of several the oldest (contract policies.md §4.7).
func (m *Mesh) resolve(dp *Dataplane, ref resource.OutboundRef) *Service {
	var best *Service
	for _, s := range m.destinations() {
		if dp.means(ref, s) && (best == nil || s.CreationTime.Before(best.CreationTime)) {
			best = s
		}
	}
	return best
}
