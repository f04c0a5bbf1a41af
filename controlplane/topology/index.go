package topology

import (
	"net/netip"

	"github.com/kuma-dp/kuma-dp/resource"
)

// index answers "who depends on this" for one mesh. Unlike the pictures it is changed in place, by the tracker only.
type index struct {
	// insights by Dataplane name; also those whose Dataplane is not there (yet).
	insights map[string]*resource.DataplaneInsight
	// joining are the names of the proxies that are about to join; also those whose Dataplane is not there yet.
	joining map[string]bool
	// proxies by each tag of an inbound or of the gateway.
	proxies multimap[pair, string]
	// byTag and byRef find the services that may select a proxy: by one tag of the selector, by dataplaneRef.
	byTag multimap[pair, string]
	byRef multimap[string, string]
	// byLabel finds the MeshMultiZoneServices that may select a MeshService, by one of their labels.
	byLabel multimap[pair, string]
	// byVIP finds the services of an address: one, unless somebody wrote a status by hand.
	byVIP  multimap[netip.Addr, resource.Key]
	legacy legacyIndex
	// open are the proxies that reach everything; reach finds those that name what they reach.
	open   map[string]bool
	reach  refIndex
	routes routeIndex
}

func newIndex() *index {
	return &index{
		insights: map[string]*resource.DataplaneInsight{}, joining: map[string]bool{},
		proxies: multimap[pair, string]{}, byTag: multimap[pair, string]{}, byRef: multimap[string, string]{},
		legacy: newLegacyIndex(), byLabel: multimap[pair, string]{}, byVIP: multimap[netip.Addr, resource.Key]{},
		open: map[string]bool{}, reach: newRefIndex(),
		routes: newRouteIndex(),
	}
}

// eachTag calls f with every tag of d, some more than once.
func (d *Dataplane) eachTag(f func(pair)) {
	for _, tags := range d.inboundTags {
		for k, v := range tags {
			f(pair{k, v})
		}
	}
	if n := d.Spec.Networking; n != nil && n.Gateway != nil {
		for k, v := range n.Gateway.Tags {
			f(pair{k, v})
		}
	}
}

func (x *index) addDataplane(d *Dataplane) {
	d.eachTag(func(p pair) { x.proxies.add(p, d.Name) })
	if d.open() {
		x.open[d.Name] = true
	}
	x.reach.add(d.Name, d.refs())
	x.legacy.add(d)
}

func (x *index) removeDataplane(d *Dataplane) {
	d.eachTag(func(p pair) { x.proxies.remove(p, d.Name) })
	delete(x.open, d.Name)
	x.reach.remove(d.Name, d.refs())
	x.legacy.remove(d)
}

func (x *index) addService(s *Service) {
	for _, vip := range s.vips() {
		x.byVIP.add(vip, s.Key)
	}
	if labels := s.matchLabels(); len(labels) > 0 {
		x.byLabel.add(pairOf(labels), s.Name)
	}
	switch name, sel := s.Name, s.selector(); {
	case sel == nil:
	case sel.DataplaneRef != nil:
		x.byRef.add(sel.DataplaneRef.Name, name)
	case len(sel.DataplaneTags) > 0:
		x.byTag.add(pairOf(sel.DataplaneTags), name)
	}
}

func (x *index) removeService(s *Service) {
	for _, vip := range s.vips() {
		x.byVIP.remove(vip, s.Key)
	}
	if labels := s.matchLabels(); len(labels) > 0 {
		x.byLabel.remove(pairOf(labels), s.Name)
	}
	switch name, sel := s.Name, s.selector(); {
	case sel == nil:
	case sel.DataplaneRef != nil:
		x.byRef.remove(sel.DataplaneRef.Name, name)
	case len(sel.DataplaneTags) > 0:
		x.byTag.remove(pairOf(sel.DataplaneTags), name)
	}
}

// selecting returns the names of the services that may select d.
func (x *index) selecting(d *Dataplane) map[string]bool {
	out := map[string]bool{}
	for name := range x.byRef[d.Name] {
		out[name] = true
	}
	d.eachTag(func(p pair) {
		for name := range x.byTag[p] {
			out[name] = true
		}
	})
	return out
}

// selectingService returns the names of the MeshMultiZoneServices that may select one of the versions of a MeshService.
func (x *index) selectingService(versions ...*Service) map[string]bool {
	out := map[string]bool{}
	for _, s := range versions {
		if s == nil {
			continue
		}
		for k, v := range s.Labels {
			for name := range x.byLabel[pair{k, v}] {
				out[name] = true
			}
		}
	}
	return out
}
