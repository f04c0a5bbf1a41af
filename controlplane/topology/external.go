package topology

import (
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
)

// egressService is the identity of every ZoneEgress.
const egressService = "zone-egress"

// newExternal makes a Service of a MeshExternalService: its one port, and as identity that of the ZoneEgress, to which
// every connection goes (contract policies.md §2.5).
func newExternal(r *resource.Resource) *Service {
	spec := r.Spec.(*resource.MeshExternalService)
	s := &Service{
		Resource: r,
		Spec: &resource.MeshService{
			Ports:      []resource.ServicePort{{Port: spec.Match.Port, AppProtocol: spec.Match.Protocol}},
			Identities: []resource.ServiceIdentity{{Type: resource.IdentityServiceTag, Value: egressService}},
		},
		Status: &resource.MeshServiceStatus{TLS: &resource.TLSStatus{Status: resource.TLSReady}},
	}
	if st, ok := r.Status.(*resource.MeshExternalServiceStatus); ok && st != nil {
		s.Status.Addresses, s.Status.HostnameGenerators = st.Addresses, st.HostnameGenerators
		if st.VIP != nil {
			s.Status.VIPs = []resource.VIP{*st.VIP}
		}
	}
	return s
}

// ExternalService returns nil when the mesh has no such MeshExternalService.
func (m *Mesh) ExternalService(name string) *Service {
	if i, ok := find(m.External, name); ok {
		return m.External[i]
	}
	return nil
}

// externalService takes one change of a MeshExternalService; next is nil when it is deleted.
func (e *edit) externalService(name string, next *resource.Resource) {
	if prev := e.mesh.ExternalService(name); prev != nil {
		e.ix.removeService(prev)
	}
	if next == nil {
		e.putExternal(name, nil)
		e.external[name] = true
		return
	}
	s := newExternal(next)
	e.ix.addService(s)
	e.putExternal(name, s)
	e.external[name] = true
}

func (e *edit) putExternal(name string, s *Service) {
	if !e.owned.external {
		e.mesh.External, e.owned.external = slices.Clone(e.mesh.External), true
	}
	e.mesh.External = put(e.mesh.External, name, s, s != nil)
}

// draftExternal makes the service, which must be there, a copy that is ours.
func (e *edit) draftExternal(name string) {
	if e.external[name] {
		return
	}
	s := *e.mesh.ExternalService(name)
	e.external[name] = true
	e.putExternal(name, &s)
}

// finishExternal gives every MeshExternalService that was written its endpoints: the egresses of this zone, tagged with
// the labels of the resource (contract effects-routing.md §2.5).
func (e *edit) finishExternal() {
	for name := range e.external {
		s := e.mesh.ExternalService(name)
		if s == nil {
			continue
		}
		list := e.zones.LocalEgresses()
		for i := range list {
			list[i].Tags, list[i].Zone = s.Labels, s.Labels[resource.LabelZone]
		}
		s.Endpoints = map[uint32][]Endpoint{}
		if len(list) > 0 {
			s.Endpoints[s.Spec.Ports[0].Port] = list
		}
		if was := e.old.ExternalService(name); was != nil && sameEndpoints(was.Endpoints, s.Endpoints) {
			s.Endpoints = was.Endpoints
		}
	}
}
