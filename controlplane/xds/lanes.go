package xds

import (
	"slices"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// keep takes over the lane of an outbound to a service object when it would be made the same again.
func (w *work) keep(o topology.Outbound, l *lane) bool {
	e := w.earlier
	if !e.sameLanes || e.stale[o.Service.Key] {
		return false
	}
	i := e.find(len(e.outbounds), 0, func(i int) bool { return e.outbounds[i].VIP == o.VIP && e.outbounds[i].ListenPort == o.ListenPort })
	return i >= 0 && e.outbounds[i] == o && w.takeOver(&e.lanes[i], l, o.Service)
}

// keepLegacy does so for an outbound by tags that leads to own by itself.
func (w *work) keepLegacy(o topology.LegacyOutbound, l *lane) bool {
	e := w.earlier
	if !e.sameLanes || !e.sameByTags || w.staleTags(o.Tags[resource.TagService]) {
		return false
	}
	before := len(e.outbounds)
	i := e.find(len(e.legacy), before, func(i int) bool { return e.legacy[i].Address == o.Address && e.legacy[i].Port == o.Port })
	return i >= 0 && sameLegacy(e.legacy[i], o) && w.takeOver(&e.lanes[before+i], l, nil)
}

// lookahead is how many lanes may have gone at one place for the rest to be found.
const lookahead = 8

// find returns the place among n lanes, the first of which is at first, -1 when it is none of the next ones.
func (e *earlier) find(n, first int, same func(i int) bool) int {
	for i := max(e.at-first, 0); i < min(n, e.at-first+lookahead); i++ {
		if same(i) {
			e.at = first + i + 1
			return i
		}
	}
	return -1
}

// takeOver is the rest of both; own is the service of the outbound, which is known to be the same.
func (w *work) takeOver(old, l *lane, own *topology.Service) bool {
	if old.routing != nil && !w.stands(old.routing) {
		return false
	}
	for _, u := range old.uses {
		if (own == nil || u.service != own) && !w.still(u) {
			return false
		}
	}
	*l = *old
	for _, u := range l.uses {
		w.take(u)
	}
	if l.routing != nil && l.routing.Routing != nil {
		w.b.warnings = append(w.b.warnings, l.routing.Warnings...)
	}
	return true
}

// still tells whether a cluster would be made the same again.
func (w *work) still(u *use) bool {
	if u.ref.tags == nil {
		return w.in.Mesh.Destination(u.ref.service) == u.service && !w.earlier.stale[u.ref.service]
	}
	name := u.ref.tags[resource.TagService]
	return w.earlier.sameByTags && !u.external && u.indirect == !w.called[name] && w.in.Mesh.LegacyService(name) == u.legacy && !w.staleTags(name)
}

// staleTags tells whether policies say something else of a kuma.io/service than before.
func (w *work) staleTags(name string) bool {
	e := w.earlier
	return e.scoped || slices.ContainsFunc(e.changed, func(k resource.Kind) bool {
		return e.rules[k].ForLegacyService(name) != w.in.Rules[k].ForLegacyService(name)
	})
}

// take notes a cluster that an outbound leads to; one of its name that is there stays.
func (w *work) take(u *use) {
	if w.used[u.ref.destination] == nil {
		w.used[u.ref.destination] = u
		w.made.uses = append(w.made.uses, u)
		w.secured = w.secured || u.secured
	}
}

// lead returns the clusters that an outbound leads to, which leads to own by itself. Service is nil for one by tags.
func (w *work) lead(own *effect.Target, service *topology.Service, routing *effect.Routing) ([]*use, error) {
	if routing == nil {
		if !own.Accepts() {
			return nil, nil
		}
		u, err := w.use(own, service)
		return []*use{u}, err
	}
	w.b.warnings = append(w.b.warnings, routing.Warnings...)
	var out []*use
	for _, t := range routing.Targets {
		u, err := w.use(t, nil)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, u) {
			out = append(out, u)
		}
	}
	return out, nil
}

// use makes the cluster of a target with its endpoints, once. Service may be nil.
func (w *work) use(t *effect.Target, service *topology.Service) (*use, error) {
	if u := w.used[t.Cluster]; u != nil {
		return u, nil
	}
	if t.Tags != nil {
		return w.useLegacy(t)
	}
	if service == nil {
		service = w.in.Mesh.Destination(t.Service)
	}
	return w.useService(t, service)
}
