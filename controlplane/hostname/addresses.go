package hostname

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/resource"
)

// reserve returns the addresses of a stored status that the service may keep.
func (p *plan) reserve(r *resource.Resource) []resource.VIP {
	var out []resource.VIP
	for _, vip := range p.of.read(r.Status).VIPs {
		addr, err := netip.ParseAddr(vip.IP)
		if err == nil && !slices.ContainsFunc(p.pools, func(of *pool) bool { return !of.reserve(addr, r.Key) }) {
			out = append(out, vip)
		}
	}
	return out
}

// release frees what a service had and does not keep.
func (p *plan) release(key resource.Key, had, keeps []resource.VIP) {
	for _, vip := range had {
		addr, err := netip.ParseAddr(vip.IP)
		if err != nil || slices.Contains(keeps, vip) {
			continue
		}
		for _, of := range p.pools {
			of.release(addr, key)
		}
	}
}

// allocate gives a service what it lacks. With one range that is an address, when it has none; with a range of each family
// an address of each: who begins to use IPv6 keeps the addresses that services have.
func (p *plan) allocate(e *entry) {
	delete(p.starved, e.Key)
	for _, of := range p.pools {
		if slices.ContainsFunc(e.vips, func(vip resource.VIP) bool {
			addr, err := netip.ParseAddr(vip.IP)
			return err == nil && (len(p.pools) == 1 || addr.Is4() == of.prefix.Addr().Is4())
		}) {
			continue
		}
		addr, err := of.next(e.Key)
		if err != nil {
			p.starved[e.Key] = true
			continue
		}
		e.vips = append(slices.Clone(e.vips), resource.VIP{IP: addr.String()})
	}
}

// ranges are those of VIPs, as they are configured.
func (p *plan) ranges() string {
	var out []string
	for _, of := range p.pools {
		out = append(out, of.prefix.String())
	}
	return strings.Join(out, ",")
}
