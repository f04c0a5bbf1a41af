package topology

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// serviceless is the inbound port of a workload that serves nothing.
const serviceless = 49151

// tagMesh in an outbound is the mesh that it leads to.
const tagMesh = "mesh"

// LegacyService is a value of kuma.io/service: what it leads to and, in a mesh whose mode is not Exclusive, the virtual
// address that it is found on.
type LegacyService struct {
	Name string
	// VIP and Port are empty while no address is assigned.
	VIP  string
	Port uint32
	// Endpoints are its healthy inbounds, sorted by address, then port.
	Endpoints []Endpoint
	// External are the ExternalServices of the name, sorted: then it is outside of the mesh.
	External []*resource.Resource
	// Ready tells whether all of its proxies have a certificate of the authority in force, so that clients may encrypt
	// while the mesh is permissive (contract policies.md §5).
	Ready bool
}

func (s *LegacyService) name() string { return s.Name }

// LegacyOutbound is one destination of a proxy by tags.
type LegacyOutbound struct {
	// Address and Port are where the proxy listens.
	Address string
	Port    uint32
	// Tags are kuma.io/service and, when the outbound is written by hand, what else endpoints must have.
	Tags map[string]string
	// Service is nil when nobody knows it.
	Service *LegacyService
}

// LegacyService returns nil when the mesh has no such kuma.io/service.
func (m *Mesh) LegacyService(name string) *LegacyService {
	if i, ok := find(m.Legacy, name); ok {
		return m.Legacy[i]
	}
	return nil
}

// LegacyOutbounds returns the destinations of a proxy of m by kuma.io/service: with redirection those on virtual addresses,
// in the order of these, none in mode Exclusive; else those of its Dataplane, in its order (contract policies.md §2.2,
// effects-routing.md §2.1). The slice may be shared and must not be changed.
func (m *Mesh) LegacyOutbounds(dp *Dataplane) []LegacyOutbound {
	if !dp.redirected() {
		return m.legacyByHand(dp)
	}
	if !m.legacyVIPs() {
		return nil
	}
	var out []LegacyOutbound
	named := dp.Spec.Networking.TransparentProxying.ReachableServices
	all := m.legacyOutbounds()
	if len(named) == 0 {
		out = all
	} else {
		for _, o := range all {
			if slices.Contains(named, o.Service.Name) {
				out = append(out, o)
			}
		}
	}
	own := func(o LegacyOutbound) bool { return dp.binds(o.Address, o.Port) }
	if slices.ContainsFunc(out, own) {
		return slices.DeleteFunc(slices.Clone(out), own)
	}
	return out
}

// legacyVIPs tells whether proxies have outbounds on the addresses of kuma.io/service values.
func (m *Mesh) legacyVIPs() bool {
	return m.Spec != nil && m.Spec.ServicesMode() != resource.MeshServicesExclusive
}

func (m *Mesh) legacyByHand(dp *Dataplane) []LegacyOutbound {
	if dp.Spec.Networking == nil {
		return nil
	}
	var out []LegacyOutbound
	for _, o := range dp.Spec.Networking.Outbound {
		name, tags := o.Tags[resource.TagService], o.Tags
		if mesh, ok := tags[tagMesh]; ok {
			if mesh != dp.Mesh {
				continue // leads to another mesh, whose proxies would not let this one in
			}
			tags = maps.Clone(tags)
			delete(tags, tagMesh)
		}
		if name != "" && o.BackendRef == nil {
			out = append(out, LegacyOutbound{cmp.Or(o.Address, "127.0.0.1"), o.Port, tags, m.LegacyService(name)})
		}
	}
	return out
}

func (m *Mesh) legacyOutbounds() []LegacyOutbound {
	if m.legacy == nil { // made by hand, in a test
		return allLegacyOutbounds(m.Legacy)
	}
	return m.legacy()
}

func allLegacyOutbounds(services []*LegacyService) []LegacyOutbound {
	type entry struct {
		LegacyOutbound
		addr netip.Addr
	}
	var all []entry
	for _, s := range services {
		for _, at := range s.places() {
			all = append(all, entry{LegacyOutbound{at.Addr().String(), uint32(at.Port()), map[string]string{resource.TagService: s.Name}, s}, at.Addr()})
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.Port, b.Port)) })
	// One listener per address and port, of the first by name.
	all = slices.CompactFunc(all, func(a, b entry) bool { return a.addr == b.addr && a.Port == b.Port })
	out := make([]LegacyOutbound, len(all))
	for i, e := range all {
		out[i] = e.LegacyOutbound
	}
	return out
}

// legacyIndex answers "who depends on this kuma.io/service" for one mesh.
type legacyIndex struct {
	vips resource.ServiceVIPs
	// open are the proxies that reach all addresses, listed those that name services, byHand those with outbounds of their
	// own, which the mode of the mesh does not matter to.
	open           map[string]bool
	listed, byHand multimap[string, string]
	// direct are those that reach instances of a service, or of every one, by their own addresses.
	direct multimap[string, string]
}

func newLegacyIndex() legacyIndex {
	return legacyIndex{resource.ServiceVIPs{}, map[string]bool{}, multimap[string, string]{}, multimap[string, string]{}, multimap[string, string]{}}
}

// legacyNames are the services that a Dataplane names, and the index that they belong to; everything without an index.
func (x legacyIndex) legacyNames(d *Dataplane) (multimap[string, string], []string) {
	n := d.Spec.Networking
	switch {
	case n == nil:
		return x.byHand, nil
	case n.TransparentProxying == nil:
		var out []string
		for _, o := range n.Outbound {
			if name := o.Tags[resource.TagService]; name != "" && o.BackendRef == nil {
				out = append(out, name)
			}
		}
		return x.byHand, out
	case len(n.TransparentProxying.ReachableServices) == 0:
		return nil, nil
	}
	return x.listed, n.TransparentProxying.ReachableServices
}

func (x legacyIndex) add(d *Dataplane) {
	by, names := x.legacyNames(d)
	if by == nil {
		x.open[d.Name] = true
	}
	for _, n := range names {
		by.add(n, d.Name)
	}
	for _, n := range d.directAccess() {
		x.direct.add(n, d.Name)
	}
}

func (x legacyIndex) remove(d *Dataplane) {
	by, names := x.legacyNames(d)
	delete(x.open, d.Name)
	for _, n := range names {
		by.remove(n, d.Name)
	}
	for _, n := range d.directAccess() {
		x.direct.remove(n, d.Name)
	}
}

// eachLegacyClient calls f with every proxy whose configuration holds endpoints of a kuma.io/service, some more than once:
// those with an outbound to it, and those that a route sends there.
func (e *edit) eachLegacyClient(service string, f func(name string)) {
	e.eachOwnLegacyClient(service, f)
	for owner := range e.ix.routes.legacy[service] {
		e.eachRouted(e.ix.routes.of[owner], f)
	}
}

// eachOwnLegacyClient calls f with every proxy that has an outbound to a kuma.io/service, some more than once.
func (e *edit) eachOwnLegacyClient(service string, f func(name string)) {
	if e.mesh.legacyVIPs() {
		for name := range e.ix.legacy.open {
			f(name)
		}
		for name := range e.ix.legacy.listed[service] {
			f(name)
		}
	}
	for name := range e.ix.legacy.byHand[service] {
		f(name)
	}
}

// eachLegacyClientOf calls f with the clients of every kuma.io/service that an item of a policy names.
func (e *edit) eachLegacyClientOf(spec policy.Targeted, f func(name string)) {
	for _, it := range spec.ToItems() {
		if it.TargetRef.Name != "" {
			e.eachLegacyClient(it.TargetRef.Name, f)
		}
	}
}

// eachOwnLegacyClientOf does the same with those that have an outbound to it.
func (e *edit) eachOwnLegacyClientOf(spec policy.Targeted, f func(name string)) {
	for _, it := range spec.ToItems() {
		if it.TargetRef.Name != "" {
			e.eachOwnLegacyClient(it.TargetRef.Name, f)
		}
	}
}

// staleLegacy notes the services whose members include a version of a proxy.
func (e *edit) staleLegacy(versions ...*Dataplane) {
	for _, d := range versions {
		if d == nil {
			continue
		}
		for _, in := range d.Inbounds() {
			if s := in.Tags[resource.TagService]; s != "" {
				e.legacy[s] = true
			}
		}
	}
}

// serviceVIPs takes one change of the addresses; next is nil when they are deleted. Addresses that cannot be read are
// none: whoever keeps them writes them again.
func (e *edit) serviceVIPs(next *resource.Resource) {
	var c *resource.Config
	if next != nil {
		c = resource.SpecOf[*resource.Config](next)
	}
	vips, err := resource.ParseServiceVIPs(c)
	if err != nil {
		vips = resource.ServiceVIPs{}
	}
	before := e.ix.legacy.vips
	for _, side := range []resource.ServiceVIPs{before, vips} {
		for key := range side {
			if s, ok := resource.ServiceOfVIPKey(key); ok && !sameVIP(before, vips, key) {
				e.legacy[s] = true
			}
		}
	}
	e.ix.legacy.vips = vips
}

// sameVIP tells whether a change of the addresses leaves what legacyService reads of one entry.
func sameVIP(before, after resource.ServiceVIPs, key string) bool {
	a, inBefore := before[key]
	b, inAfter := after[key]
	if inBefore != inAfter || a.Address != b.Address || len(a.Outbounds) != len(b.Outbounds) {
		return false
	}
	return len(a.Outbounds) == 0 || a.Outbounds[0].Port == b.Outbounds[0].Port
}

// finishLegacy makes every kuma.io/service again that something was said about.
func (e *edit) finishLegacy() {
	if authority(e.old) != authority(e.mesh) {
		for _, s := range e.mesh.Legacy {
			e.legacy[s.Name] = true
		}
	}
	for name := range e.legacy {
		before, after := e.mesh.LegacyService(name), e.legacyService(name)
		if legacyDifference(before, after) == 0 {
			delete(e.legacy, name)
			continue
		}
		if before != nil && after != nil && slices.EqualFunc(before.Endpoints, after.Endpoints, sameEndpoint) {
			after.Endpoints = before.Endpoints
		}
		if !e.owned.legacy {
			e.mesh.Legacy, e.owned.legacy = slices.Clone(e.mesh.Legacy), true
		}
		e.mesh.Legacy = put(e.mesh.Legacy, name, after, after != nil)
	}
	if services := e.mesh.Legacy; e.owned.legacy {
		e.mesh.legacy = sync.OnceValue(func() []LegacyOutbound { return allLegacyOutbounds(services) })
	}
}

// authority is the name of the backend in force, "" without mTLS.
func authority(m *Mesh) string {
	if m.secured() {
		return m.Spec.EnabledBackend().Name
	}
	return ""
}

// legacyService looks up what a kuma.io/service leads to, nil when there is none.
func (e *edit) legacyService(name string) *LegacyService {
	s := &LegacyService{Name: name}
	vip, known := e.ix.legacy.vips[resource.ServiceVIPKey(name)]
	if known && len(vip.Outbounds) > 0 {
		s.VIP, s.Port = vip.Address, vip.Outbounds[0].Port
	}
	proxies, issued := 0, 0
	for dp := range e.ix.proxies[pair{resource.TagService, name}] {
		d := e.mesh.Dataplane(dp)
		if d == nil || !d.carriesService(name) {
			continue
		}
		proxies++
		if e.mesh.Spec != nil && e.mesh.Spec.Trusts(d.Identity()) {
			issued++
		}
		for i, in := range d.Inbounds() {
			if in.Tags[resource.TagService] == name && in.Port != serviceless && in.Healthy() && !d.joining {
				tags := d.inboundTags[i]
				s.Endpoints = append(s.Endpoints, Endpoint{
					Address: d.advertised(in), Port: in.Port, Tags: tags, Zone: tags[resource.TagZone], Dataplane: d.Name,
				})
			}
		}
	}
	if elsewhere := e.legacyElsewhere(s); !known && proxies == 0 && !elsewhere {
		return nil
	}
	s.Ready = authority(e.mesh) != "" && proxies > 0 && issued == proxies
	slices.SortStableFunc(s.Endpoints, func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Dataplane, b.Dataplane))
	})
	return s
}

func (d *Dataplane) carriesService(name string) bool {
	return slices.ContainsFunc(d.Inbounds(), func(in *resource.Inbound) bool { return in.Tags[resource.TagService] == name })
}

// touchLegacyClients finds who is touched by what became of a kuma.io/service.
func (e *edit) touchLegacyClients(name string) {
	if scope := legacyDifference(e.old.LegacyService(name), e.mesh.LegacyService(name)); scope != 0 {
		e.eachLegacyClient(name, func(client string) { e.touched[client] |= scope })
	}
}

// touchLegacyRivals touches the clients of services on an address and port that another one took or left: of two a proxy
// has an outbound to one.
func (e *edit) touchLegacyRivals() {
	moved := map[netip.AddrPort]bool{}
	for name := range e.legacy {
		before, after := e.old.LegacyService(name).places(), e.mesh.LegacyService(name).places()
		if slices.Equal(before, after) {
			continue
		}
		for _, p := range slices.Concat(before, after) {
			moved[p] = true
		}
	}
	if len(moved) == 0 {
		return
	}
	for _, s := range e.mesh.Legacy {
		if slices.ContainsFunc(s.places(), func(p netip.AddrPort) bool { return moved[p] }) {
			e.eachOwnLegacyClient(s.Name, func(client string) { e.touched[client] |= ScopeFull })
		}
	}
}

// places are where clients of s listen; none of nil.
func (s *LegacyService) places() []netip.AddrPort {
	if s == nil {
		return nil
	}
	var out []netip.AddrPort
	if vip, err := netip.ParseAddr(s.VIP); err == nil {
		out = append(out, netip.AddrPortFrom(vip, uint16(s.Port)))
	}
	return append(out, s.placesOfExternal()...)
}

// legacyDifference says what a change of a kuma.io/service means to its clients.
func legacyDifference(a, b *LegacyService) Scope {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil || b == nil || a.VIP != b.VIP || a.Port != b.Port || a.Ready != b.Ready || !slices.Equal(a.External, b.External) || !maps.Equal(shape(a.Endpoints), shape(b.Endpoints)):
		return ScopeFull
	case !slices.EqualFunc(a.Endpoints, b.Endpoints, sameEndpoint):
		return ScopeEndpoints
	}
	return 0
}
