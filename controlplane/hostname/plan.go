package hostname

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/resource"
	naming "github.com/kuma-dp/kuma-dp/resource/hostname"
)

// plan knows every service of one kind and the HostnameGenerators for it, and says which VIP and hostnames each service
// should have. Kinds do not collide: their addresses come from different ranges, and two services of different kinds may
// publish one hostname (contract dns.md §1.5). It is told of changes one by one and works out again only what they concern. It is pure: no store, no clock. It is not safe
// for concurrent use.
type plan struct {
	of   *serviceKind
	zone string
	// pools are where VIPs come from: one, or one of each family of addresses.
	pools []*pool
	// generators are in order of precedence.
	generators []*generator
	meshes     map[string]*meshPlan
	// dirty are the services of which must be worked out again what they should have.
	dirty map[resource.Key]*entry
	// starved are services that got no address; they ask again with the next change.
	starved map[resource.Key]bool
}

// meshPlan is what the plan knows of one mesh.
type meshPlan struct {
	entries map[string]*entry
	// claims are by names without case, which DNS does not tell apart.
	claims map[string]*claims
	// contested are those whose winner must be found again.
	contested map[string]bool
}

type generator struct {
	*resource.Resource
	spec     *resource.HostnameGenerator
	template *naming.Template
	err      error // of compile
}

// entry is one service.
type entry struct {
	*resource.Resource
	vips []resource.VIP
	// results by generator, in the order of plan.generators; nil where the generator does not match. They hold until the
	// labels of the service or the generators change, and as long the service claims their names.
	results []*result
	want    want
}

type result struct {
	host string
	err  error
}

// newPlan makes a plan of nothing. Zone is the `.Zone` of services that say nothing about theirs.
func newPlan(of *serviceKind, zone string, pools ...*pool) *plan {
	return &plan{of: of, zone: zone, pools: pools, meshes: map[string]*meshPlan{}, dirty: map[resource.Key]*entry{}, starved: map[resource.Key]bool{}}
}

// setGenerator adds or replaces a HostnameGenerator; one for another kind is as none.
func (p *plan) setGenerator(r *resource.Resource) {
	spec := r.Spec.(*resource.HostnameGenerator)
	if p.of.selector(&spec.Selector) == nil {
		p.removeGenerator(r.Name)
		return
	}
	p.drop(r.Name)
	g := &generator{Resource: r, spec: spec}
	g.template, g.err = compile(spec.Template)
	p.generators = append(p.generators, g)
	slices.SortFunc(p.generators, func(a, b *generator) int {
		return cmp.Or(cmp.Compare(rank(a.Resource), rank(b.Resource)), older(a.Resource, b.Resource))
	})
	p.forget()
}

// removeGenerator forgets a HostnameGenerator.
func (p *plan) removeGenerator(name string) {
	if p.drop(name) {
		p.forget()
	}
}

func (p *plan) drop(name string) (had bool) {
	before := len(p.generators)
	p.generators = slices.DeleteFunc(p.generators, func(g *generator) bool { return g.Name == name })
	return len(p.generators) < before
}

// forget makes all hostnames to be evaluated again.
func (p *plan) forget() {
	for _, m := range p.meshes {
		clear(m.claims)
		clear(m.contested)
		for _, e := range m.entries {
			e.results = nil
			p.dirty[e.Key] = e
		}
	}
}

// rank puts generators of this zone before those that were synchronised (contract dns.md §1.5).
func rank(r *resource.Resource) int {
	if r.Labels[resource.LabelOrigin] == resource.OriginZone {
		return 0
	}
	return 1
}

func compare(a, b resource.Key) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Mesh, b.Mesh), strings.Compare(a.Name, b.Name))
}

func older(a, b *resource.Resource) int {
	return cmp.Or(a.CreationTime.Compare(b.CreationTime), strings.Compare(a.Name, b.Name))
}

// load takes the services of a store that was not followed before. Unlike setService it lets the older one keep an
// address that two claim.
func (p *plan) load(services []*resource.Resource) {
	services = slices.Clone(services)
	slices.SortStableFunc(services, older)
	// All that is stored is reserved before anything is handed out.
	for _, r := range services {
		p.entry(r).vips = p.reserve(r)
	}
	for _, r := range services {
		p.setService(r)
	}
}

func (p *plan) find(key resource.Key) *entry {
	if m := p.meshes[key.Mesh]; m != nil {
		return m.entries[key.Name]
	}
	return nil
}

// entry returns that of a service, new or with its results forgotten, to be filled with what is known now.
func (p *plan) entry(r *resource.Resource) *entry {
	m := p.meshes[r.Mesh]
	if m == nil {
		m = &meshPlan{entries: map[string]*entry{}, claims: map[string]*claims{}, contested: map[string]bool{}}
		p.meshes[r.Mesh] = m
	}
	e := m.entries[r.Name]
	if e == nil {
		e = &entry{}
		m.entries[r.Name] = e
	}
	m.withdraw(e)
	e.Resource, e.results = r, nil
	p.dirty[r.Key] = e
	return e
}

// setService adds or replaces a service.
func (p *plan) setService(r *resource.Resource) {
	if e := p.find(r.Key); e != nil && e.results != nil && e.CreationTime.Equal(r.CreationTime) && maps.Equal(e.Labels, r.Labels) && e.want.in(r) {
		e.Resource = r // it says what it should: most often our own write, or one that counted proxies
		return
	}
	e := p.entry(r)
	if stored := p.reserve(r); len(stored) > 0 {
		p.release(r.Key, e.vips, stored)
		e.vips = stored
	}
	// A status without addresses is one that was lost, by a PUT that replaced it: the service keeps what it had.
	p.allocate(e)
}

// removeService forgets a service and releases its addresses and hostnames.
func (p *plan) removeService(key resource.Key) {
	e := p.find(key)
	if e == nil {
		return
	}
	m := p.meshes[key.Mesh]
	m.withdraw(e)
	delete(m.entries, key.Name)
	delete(p.starved, key)
	delete(p.dirty, key)
	p.release(key, e.vips, nil)
	if len(m.entries) == 0 {
		delete(p.meshes, key.Mesh)
	}
}

// work returns what services should have whose stored status says something else, as far as something changed for them.
func (p *plan) work() map[resource.Key]want {
	for _, k := range slices.SortedFunc(maps.Keys(p.starved), compare) {
		e := p.find(k)
		p.allocate(e)
		p.dirty[k] = e
	}
	for _, e := range p.dirty {
		if e.results == nil {
			p.evaluate(e)
			p.meshes[e.Mesh].claim(e)
		}
	}
	for _, m := range p.meshes {
		for _, e := range m.settle() {
			p.dirty[e.Key] = e
		}
	}
	out := map[resource.Key]want{}
	for k, e := range p.dirty {
		if e.want = p.wanted(e); !e.want.in(e.Resource) {
			out[k] = e.want
		}
	}
	clear(p.dirty)
	return out
}

// wanted says what a service should have, the lists in the order of the names of generators (contract dns.md §1.6).
func (p *plan) wanted(e *entry) want {
	w := want{of: p.of, created: e.CreationTime}
	w.VIPs = e.vips
	for i, g := range p.generators {
		r := e.results[i]
		if r == nil {
			continue
		}
		ref := resource.GeneratorRef{CoreName: g.Name}
		condition := resource.Condition{Type: "Generated", Status: "True", Reason: "Generated"}
		if r.err != nil {
			condition.Status, condition.Reason, condition.Message = "False", "TemplateError", r.err.Error()
		} else if winner := p.meshes[e.Mesh].claims[r.name()].winner; winner != e {
			condition.Status, condition.Reason = "False", "Collision"
			condition.Message = fmt.Sprintf("Hostname collision with %s: %s", winner.Kind, winner.Name)
		} else {
			w.Addresses = append(w.Addresses, resource.ServiceAddress{
				Hostname: r.host, Origin: resource.OriginGenerator, HostnameGeneratorRef: &ref,
			})
		}
		w.Generators = append(w.Generators, resource.GeneratorStatus{
			HostnameGeneratorRef: ref, Conditions: []resource.Condition{condition},
		})
	}
	slices.SortFunc(w.Addresses, func(a, b resource.ServiceAddress) int {
		return strings.Compare(a.HostnameGeneratorRef.CoreName, b.HostnameGeneratorRef.CoreName)
	})
	slices.SortFunc(w.Generators, func(a, b resource.GeneratorStatus) int {
		return strings.Compare(a.HostnameGeneratorRef.CoreName, b.HostnameGeneratorRef.CoreName)
	})
	return w
}

func (p *plan) evaluate(e *entry) {
	e.results = make([]*result, len(p.generators))
	for i, g := range p.generators {
		sel := p.of.selector(&g.spec.Selector)
		if sel == nil || !matches(e.Labels, sel.MatchLabels) {
			continue
		}
		r := &result{err: g.err}
		if r.err == nil {
			r.host, r.err = evaluate(g.template, e.Resource, p.zone)
		}
		e.results[i] = r
	}
}

func matches(labels, want map[string]string) bool {
	for k, v := range want {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}
