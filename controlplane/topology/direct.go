package topology

import (
	"cmp"
	"net/netip"
	"slices"
)

// everyService in directAccessServices stands for all.
const everyService = "*"

// directAccess are the services whose instances a proxy may reach by their own addresses.
func (d *Dataplane) directAccess() []string {
	if !d.redirected() {
		return nil
	}
	return d.Spec.Networking.TransparentProxying.DirectAccessServices
}

// DirectEndpoints returns the healthy inbounds of other proxies that dp may reach by their own addresses, one for each
// address and port, in the order of these (contract effects-security.md §1.5). Inbounds whose address is a name are left
// out: nothing can be redirected by it.
func (m *Mesh) DirectEndpoints(dp *Dataplane) []Endpoint {
	named := dp.directAccess()
	if len(named) == 0 {
		return nil
	}
	type entry struct {
		Endpoint
		addr netip.Addr
	}
	var all []entry
	for _, s := range m.Legacy {
		if !slices.Contains(named, s.Name) && !slices.Contains(named, everyService) {
			continue
		}
		for _, e := range s.Endpoints {
			if addr, err := netip.ParseAddr(e.Address); err == nil && e.Dataplane != "" && e.Dataplane != dp.Name {
				all = append(all, entry{e, addr})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.Port, b.Port)) })
	all = slices.CompactFunc(all, func(a, b entry) bool { return a.addr == b.addr && a.Port == b.Port })
	out := make([]Endpoint, len(all))
	for i, e := range all {
		out[i] = e.Endpoint
	}
	return out
}
