package topology

import (
	"maps"
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
)

// finish completes the picture after the last event of a batch and finds who is touched. Dependencies are looked up in
// the final indexes: a proxy whose own dependencies changed in the batch is touched as a whole anyway.
func (e *edit) finish() {
	e.crossZone()
	for name, d := range e.drafts {
		if d == nil {
			continue
		}
		if !d.Remote() {
			d.identify()
			e.linger(d.Service, e.old.Service(name))
		}
		if !d.stale {
			continue
		}
		if d.Remote() {
			d.Service.Endpoints = e.remoteEndpoints(d.Service)
		} else {
			d.Service.Endpoints = endpoints(d.Service)
		}
		if was := e.old.Service(name); was != nil && sameEndpoints(was.Endpoints, d.Service.Endpoints) {
			d.Service.Endpoints = was.Endpoints
		}
	}
	e.finishMultiZone()
	e.finishExternal()
	e.finishLegacy()
	if e.owned.services || e.owned.multi || e.owned.external {
		e.mesh.lazy = newLazy(e.name, e.mesh)
	}
	e.touchZoneProxies()
	if e.all {
		return
	}
	for name := range e.drafts {
		e.touchClients(e.old.Service(name), e.mesh.Service(name))
	}
	for name := range e.multi {
		e.touchClients(e.old.MultiZoneService(name), e.mesh.MultiZoneService(name))
	}
	for name := range e.legacy {
		e.touchLegacyClients(name)
	}
	e.touchLegacyRivals()
	for name := range e.external {
		e.touchClients(e.old.ExternalService(name), e.mesh.ExternalService(name))
	}
	for _, r := range e.policies {
		sel := e.touching(r)
		if sel.all {
			e.all = true
			return
		}
		for name := range sel.names {
			e.touched[name] |= ScopeFull
		}
	}
}

// touchClients finds who is touched by what became of a service.
func (e *edit) touchClients(before, after *Service) {
	scope := difference(before, after)
	if scope == 0 {
		return
	}
	for _, s := range []*Service{before, after} {
		if s == nil {
			continue
		}
		e.eachClient(s, func(client string) { e.touched[client] |= scope })
		if scope == ScopeFull {
			e.rivals(s, func(client string) { e.touched[client] |= scope })
		}
	}
}

// rivals calls f with the clients of other services on an address of s: of two on one address and port a proxy has an
// outbound to one.
func (e *edit) rivals(s *Service, f func(name string)) {
	for _, vip := range s.vips() {
		for key := range e.ix.byVIP[vip] {
			if rival := e.mesh.Destination(key); rival != nil && key != s.Key {
				e.eachClient(rival, f)
			}
		}
	}
}

// difference says what a change of a service means to its clients. Counts of proxies and conditions mean nothing.
func difference(before, after *Service) Scope {
	switch {
	case before == nil && after == nil:
		return 0
	case before == nil || after == nil:
		return ScopeFull
	}
	a, b := before.Spec, after.Spec
	same := before.CreationTime.Equal(after.CreationTime) && // decides between services of the same labels
		maps.Equal(before.Labels, after.Labels) &&
		a.State == b.State && slices.Equal(a.Ports, b.Ports) && slices.Equal(a.Identities, b.Identities) &&
		slices.Equal(before.Status.VIPs, after.Status.VIPs) && tls(before) == tls(after) &&
		slices.EqualFunc(before.Status.Addresses, after.Status.Addresses, func(x, y resource.ServiceAddress) bool {
			return x.Hostname == y.Hostname
		})
	switch {
	case !same || !sameShape(before.Endpoints, after.Endpoints):
		return ScopeFull
	case !sameEndpoints(before.Endpoints, after.Endpoints):
		return ScopeEndpoints
	}
	return 0
}

func tls(s *Service) string {
	if s.Status.TLS == nil {
		return ""
	}
	return s.Status.TLS.Status
}
