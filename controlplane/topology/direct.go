package topology

import (
	"net/netip"
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
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

// DirectEndpoints returns the inbounds of other proxies that dp may reach by their own addresses, in the order of addresses
// and ports (contract effects-security.md §1.5). Their health does not matter: who calls an instance wants this one.
func (m *Mesh) DirectEndpoints(dp *Dataplane) []netip.AddrPort {
	named := dp.directAccess()
	if len(named) == 0 {
		return nil
	}
	every := slices.Contains(named, everyService)
	var out []netip.AddrPort
	for _, d := range m.Dataplanes {
		if d.Name == dp.Name {
			continue
		}
		for _, in := range d.instances() {
			if every || slices.Contains(named, in.service) {
				out = append(out, in.place)
			}
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

// instance is an inbound as others reach it by its address.
type instance struct {
	service string
	place   netip.AddrPort
}

// instances leaves out inbounds whose address is a name: nothing can be redirected by it.
func (d *Dataplane) instances() []instance {
	if d == nil {
		return nil
	}
	var out []instance
	for _, in := range d.Inbounds() {
		if addr, err := netip.ParseAddr(d.advertised(in)); err == nil {
			out = append(out, instance{in.Tags[resource.TagService], netip.AddrPortFrom(addr, uint16(in.Port))})
		}
	}
	return out
}

// touchDirect touches the proxies that reach a version of another one by its own address.
func (e *edit) touchDirect(prev, next *Dataplane) {
	before, after := prev.instances(), next.instances()
	if slices.Equal(before, after) {
		return
	}
	for _, in := range slices.Concat(before, after, []instance{{service: everyService}}) {
		for client := range e.ix.legacy.direct[in.service] {
			e.touched[client] |= ScopeFull
		}
	}
}
