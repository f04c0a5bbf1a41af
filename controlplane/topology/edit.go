package topology

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// edit makes the next picture of one mesh out of a batch of events. What the events do not touch is shared with the
// picture before.
type edit struct {
	name, zone string
	old        *Mesh // the picture before; empty, never nil
	mesh       *Mesh // the picture being made, ours to change but for what is not owned
	ix         *index
	// oldZones and zones are the zone proxies before and after the batch.
	oldZones, zones *Zones
	state           *state
	// released are the lost identities whose time is over.
	released map[retired]bool

	owned struct{ dataplanes, services, multi, external, legacy, policies, secrets bool }
	kinds map[resource.Kind]bool // elements of mesh.Policies that are ours

	// drafts are the services that are ours to change; nil is one that was deleted.
	drafts map[string]*draft
	// multi is the same for MeshMultiZoneServices.
	multi map[string]*draft
	// external names the MeshExternalServices that are ours to change, or were deleted.
	external map[string]bool
	// legacy are the values of kuma.io/service to make again.
	legacy map[string]bool
	// policies are the versions, before and after, of the policies that changed.
	policies []*resource.Resource

	all     bool
	touched map[string]Scope
	changed map[resource.Key]bool // Change.Services
	// ingress and egress: what zone proxies serve of the mesh may have changed.
	ingress, egress bool
}

type draft struct {
	*Service
	// stale: the endpoints of a MeshService, the members of a MeshMultiZoneService must be made again.
	stale bool
}

func newEdit(name, zone string, old *Mesh, ix *index) *edit {
	mesh := *old
	return &edit{
		name: name, zone: zone, old: old, mesh: &mesh, ix: ix, kinds: map[resource.Kind]bool{}, drafts: map[string]*draft{}, multi: map[string]*draft{}, external: map[string]bool{}, released: map[retired]bool{},
		legacy:  map[string]bool{},
		touched: map[string]Scope{}, changed: map[resource.Key]bool{},
	}
}

// apply takes one change of a resource of the mesh, or of the Mesh itself; next is nil when it is deleted.
func (e *edit) apply(prev, next *resource.Resource) {
	r := next
	if r == nil {
		r = prev
	}
	switch r.Spec.(type) {
	case *resource.Mesh:
		e.mesh.Resource, e.mesh.Spec = nil, nil
		if next != nil {
			e.mesh.Resource, e.mesh.Spec = next, next.Spec.(*resource.Mesh)
		}
		e.all = true
	case *resource.Dataplane:
		e.dataplane(r.Name, next)
	case *resource.DataplaneInsight:
		e.insight(r.Name, next)
	case *resource.MeshService:
		e.service(r.Name, next)
	case *resource.MeshMultiZoneService:
		e.multiZone(r.Name, next)
	case *resource.ExternalService:
		e.externalLegacy(prev, next)
	case *resource.MeshExternalService:
		e.externalService(r.Name, next)
	case *resource.MeshGateway:
		e.gateway(r.Name, next)
	case *resource.Secret:
		e.secret(r.Name, next)
	case *resource.Config:
		e.serviceVIPs(next)
	case policy.Targeted, resource.OlderPolicy:
		e.policy(r.Key, prev, next)
	}
}

func (e *edit) dataplane(name string, next *resource.Resource) {
	var d *Dataplane
	if next != nil {
		d = newDataplane(next, e.ix.insights[name], e.zone)
		d.joining = e.ix.joining[name]
	}
	prev := e.mesh.Dataplane(name)
	if prev == nil && d == nil {
		return
	}
	affected := map[string]bool{}
	if prev != nil {
		maps.Copy(affected, e.ix.selecting(prev))
		e.ix.removeDataplane(prev)
	}
	if d != nil {
		maps.Copy(affected, e.ix.selecting(d))
		e.ix.addDataplane(d)
	}
	e.putDataplane(name, d)
	e.staleLegacy(prev, d)
	e.touchDirect(prev, d)
	for service := range affected {
		if e.setMember(service, name, d) {
			e.drafts[service].stale = true
			e.changed[e.serviceKey(service)] = true
		}
	}
	e.touched[name] |= ScopeFull
}

func (e *edit) serviceKey(name string) resource.Key {
	return resource.Key{Kind: resource.KindMeshService, Mesh: e.name, Name: name}
}

func (e *edit) putDataplane(name string, d *Dataplane) {
	if !e.owned.dataplanes {
		e.mesh.Dataplanes, e.owned.dataplanes = slices.Clone(e.mesh.Dataplanes), true
	}
	e.mesh.Dataplanes = put(e.mesh.Dataplanes, name, d, d != nil)
}

// setMember replaces proxy name among those of a service, or takes it out when d is nil or not selected. It tells
// whether the service has or had it.
func (e *edit) setMember(service, name string, d *Dataplane) bool {
	s := e.mesh.Service(service)
	if s == nil {
		return false
	}
	member := d != nil && selects(s.selector(), d)
	if _, had := find(s.Dataplanes, name); !had && !member {
		return false
	}
	own := e.draft(service)
	own.Dataplanes = put(own.Dataplanes, name, d, member)
	return true
}

// draft returns the service as a copy that is ours; it must be there.
func (e *edit) draft(name string) *Service {
	if d := e.drafts[name]; d != nil {
		return d.Service
	}
	s := *e.mesh.Service(name)
	s.Dataplanes = slices.Clone(s.Dataplanes)
	e.drafts[name] = &draft{Service: &s}
	e.putService(name, &s)
	return &s
}

func (e *edit) putService(name string, s *Service) {
	if !e.owned.services {
		e.mesh.Services, e.owned.services = slices.Clone(e.mesh.Services), true
	}
	e.mesh.Services = put(e.mesh.Services, name, s, s != nil)
}

// insight changes no configuration by itself; derivations want to know who is connected and has an identity.
func (e *edit) insight(name string, next *resource.Resource) {
	var in *resource.DataplaneInsight
	if next != nil {
		in = next.Spec.(*resource.DataplaneInsight)
		e.ix.insights[name] = in
	} else {
		delete(e.ix.insights, name)
	}
	prev := e.mesh.Dataplane(name)
	if prev == nil {
		return
	}
	d := *prev
	d.Insight = in
	e.putDataplane(name, &d)
	if prev.Identity() != d.Identity() {
		e.staleLegacy(&d)
	}
	for service := range e.ix.selecting(&d) {
		if e.setMember(service, name, &d) && (prev.Insight.Online() != in.Online() || prev.Identity() != d.Identity()) {
			e.changed[e.serviceKey(service)] = true
		}
	}
}

// Identity returns the certificate authority that issued the proxy's current identity, "" when it has none.
func (d *Dataplane) Identity() string {
	if d.Insight == nil || d.Insight.MTLS == nil {
		return ""
	}
	return d.Insight.MTLS.IssuedBackend
}

func (e *edit) service(name string, next *resource.Resource) {
	prev := e.mesh.Service(name)
	e.changed[e.serviceKey(name)] = true
	if next == nil {
		if prev != nil {
			e.ix.removeService(prev)
			e.putService(name, nil)
		}
		e.drafts[name] = nil
		return
	}
	s := &Service{Resource: next, Spec: next.Spec.(*resource.MeshService), Status: &resource.MeshServiceStatus{}}
	if st, ok := next.Status.(*resource.MeshServiceStatus); ok && st != nil {
		s.Status = st
	}
	if prev != nil {
		e.ix.removeService(prev)
	}
	e.ix.addService(s)
	d := &draft{Service: s, stale: true}
	if prev != nil && reflect.DeepEqual(prev.selector(), s.selector()) {
		s.Dataplanes = slices.Clone(prev.Dataplanes)
		if slices.Equal(prev.Spec.Ports, s.Spec.Ports) && !prev.Remote() && !s.Remote() {
			s.Endpoints = prev.Endpoints
			d.stale = e.drafts[name] != nil && e.drafts[name].stale
		}
	} else {
		s.Dataplanes = e.members(s.selector())
	}
	e.drafts[name] = d
	e.putService(name, s)
}

// members finds the proxies that a selector chooses.
func (e *edit) members(sel *resource.ServiceSelector) []*Dataplane {
	var out []*Dataplane
	switch {
	case sel == nil:
	case sel.DataplaneRef != nil:
		if d := e.mesh.Dataplane(sel.DataplaneRef.Name); d != nil {
			out = append(out, d)
		}
	case len(sel.DataplaneTags) > 0:
		for d := range e.carrying(sel.DataplaneTags) {
			if selects(sel, d) {
				out = append(out, d)
			}
		}
		slices.SortFunc(out, func(a, b *Dataplane) int { return strings.Compare(a.Name, b.Name) })
	}
	return out
}

// tokenSecrets are checked by the control plane and reach no proxy (contract controlplane.md §4).
const tokenSecrets = "dataplane-token-"

func (e *edit) secret(name string, next *resource.Resource) {
	if !e.owned.secrets {
		e.mesh.Secrets, e.owned.secrets = maps.Clone(e.mesh.Secrets), true
	}
	if next == nil {
		delete(e.mesh.Secrets, name)
	} else {
		e.mesh.Secrets[name] = next
	}
	// Any other secret may be a certificate authority: a provided one has the name that the user gave.
	if !strings.HasPrefix(name, tokenSecrets) {
		e.all = true
	}
}

func (e *edit) policy(key resource.Key, prev, next *resource.Resource) {
	if !e.owned.policies {
		e.mesh.Policies, e.owned.policies = maps.Clone(e.mesh.Policies), true
	}
	if !e.kinds[key.Kind] {
		e.mesh.Policies[key.Kind], e.kinds[key.Kind] = slices.Clone(e.mesh.Policies[key.Kind]), true
	}
	list := e.mesh.Policies[key.Kind]
	i, found := slices.BinarySearchFunc(list, key.Name, func(r *resource.Resource, n string) int { return strings.Compare(r.Name, n) })
	switch {
	case found && next != nil:
		list[i] = next
	case found:
		list = slices.Delete(list, i, i+1)
	case next != nil:
		list = slices.Insert(list, i, next)
	}
	e.mesh.Policies[key.Kind] = list
	if len(list) == 0 {
		delete(e.mesh.Policies, key.Kind)
		delete(e.kinds, key.Kind)
	}
	e.ix.routes.set(key, next)
	for _, r := range []*resource.Resource{prev, next} {
		if r != nil {
			e.policies = append(e.policies, r)
		}
	}
}
