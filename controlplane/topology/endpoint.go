package topology

import (
	"cmp"
	"maps"
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
)

func newDataplane(r *resource.Resource, insight *resource.DataplaneInsight, zone string) *Dataplane {
	d := &Dataplane{Resource: r, Spec: r.Spec.(*resource.Dataplane), Insight: insight}
	d.inboundTags = make([]map[string]string, len(d.Inbounds()))
	for i, in := range d.Inbounds() {
		tags := in.Tags
		if _, ok := tags[resource.TagZone]; !ok && zone != "" {
			tags = maps.Clone(tags)
			if tags == nil {
				tags = map[string]string{}
			}
			tags[resource.TagZone] = zone
		}
		d.inboundTags[i] = tags
	}
	return d
}

// Inbounds returns the inbounds of the proxy, in its order.
func (d *Dataplane) Inbounds() []*resource.Inbound {
	if d.Spec.Networking == nil {
		return nil
	}
	return d.Spec.Networking.Inbound
}

// advertised is where clients find an inbound (contract effects-security.md §1.1).
func (d *Dataplane) advertised(in *resource.Inbound) string {
	return cmp.Or(d.Spec.Networking.AdvertisedAddress, in.Address, d.Spec.Networking.Address)
}

func hasAll(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// selects tells whether a selector chooses a proxy, whatever its health (contract policies.md §2.1 spec.selector).
func selects(sel *resource.ServiceSelector, d *Dataplane) bool {
	switch {
	case sel == nil:
		return false
	case sel.DataplaneRef != nil:
		return sel.DataplaneRef.Name == d.Name
	case len(sel.DataplaneTags) == 0:
		return false
	}
	return slices.ContainsFunc(d.Inbounds(), func(in *resource.Inbound) bool { return hasAll(in.Tags, sel.DataplaneTags) })
}

// serves tells whether a selected proxy is a candidate for endpoints: by tags, a healthy inbound must match.
func serves(sel *resource.ServiceSelector, d *Dataplane) bool {
	if sel.DataplaneRef != nil {
		return true
	}
	return slices.ContainsFunc(d.Inbounds(), func(in *resource.Inbound) bool {
		return in.Healthy() && hasAll(in.Tags, sel.DataplaneTags)
	})
}

// targets tells whether a service port leads to an inbound. A port without targetPort means the same number: no inbound
// can have port 0, so this only gives endpoints to services that had none.
func targets(p resource.ServicePort, in *resource.Inbound) bool {
	switch {
	case p.TargetPort.Str != "":
		return p.TargetPort.Str == in.Name
	case p.TargetPort.Int != 0:
		return p.TargetPort.Int == in.Port
	default:
		return p.Port == in.Port
	}
}

// endpoints are the healthy inbounds behind every port of s, which is of this zone.
func endpoints(s *Service) map[uint32][]Endpoint {
	out := map[uint32][]Endpoint{}
	for _, d := range s.Dataplanes {
		if d.joining || !serves(s.Spec.Selector, d) {
			continue
		}
		for i, in := range d.Inbounds() {
			if !in.Healthy() {
				continue
			}
			for n, p := range s.Spec.Ports {
				// A port number may be listed twice, with two protocols; it is one VIP port and one list.
				again := slices.ContainsFunc(s.Spec.Ports[:n], func(q resource.ServicePort) bool { return q.Port == p.Port })
				if again || !targets(p, in) {
					continue
				}
				tags := d.inboundTags[i]
				out[p.Port] = append(out[p.Port], Endpoint{
					Address: d.advertised(in), Port: in.Port, Tags: tags, Zone: tags[resource.TagZone], Dataplane: d.Name,
				})
			}
		}
	}
	for _, list := range out {
		slices.SortStableFunc(list, func(a, b Endpoint) int {
			return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port))
		})
	}
	return out
}

func sameEndpoints(a, b map[uint32][]Endpoint) bool {
	return maps.EqualFunc(a, b, func(x, y []Endpoint) bool { return slices.EqualFunc(x, y, sameEndpoint) })
}

func sameEndpoint(a, b Endpoint) bool {
	return a.Address == b.Address && a.Port == b.Port && a.Zone == b.Zone && a.Dataplane == b.Dataplane && a.Priority == b.Priority && a.Weight == b.Weight &&
		maps.Equal(a.Tags, b.Tags)
}

// sameShape tells whether two sets of endpoints agree in all that a cluster is made from besides the endpoints
// themselves: the protocols and zones behind each port (contract effects-routing.md §2.3).
func sameShape(a, b map[uint32][]Endpoint) bool {
	return maps.EqualFunc(a, b, func(x, y []Endpoint) bool { return maps.Equal(shape(x), shape(y)) })
}

func shape(list []Endpoint) map[[2]string]bool {
	out := map[[2]string]bool{}
	for _, e := range list {
		out[[2]string{e.Tags[resource.TagProtocol], e.Zone}] = true
	}
	return out
}
