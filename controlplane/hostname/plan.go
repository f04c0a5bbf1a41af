package hostname

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
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
	pool *pool
	// generators are in order of precedence.
	generators []*generator
	meshes     map[string]map[string]*entry
	// dirty are the meshes whose hostnames must be worked out again.
	dirty map[string]bool
	// starved are services that got no address; they ask again with the next change.
	starved map[resource.Key]bool
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
	// labels of the service or the generators change.
	results []*result
	want    want
}

type result struct {
	host string
	err  error
}

// newPlan makes a plan of nothing. Zone is the `.Zone` of services that say nothing about theirs.
func newPlan(of *serviceKind, zone string, pool *pool) *plan {
	return &plan{of: of, zone: zone, pool: pool, meshes: map[string]map[string]*entry{}, dirty: map[string]bool{}, starved: map[resource.Key]bool{}}
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
	for mesh, entries := range p.meshes {
		p.dirty[mesh] = true
		for _, e := range entries {
			e.results = nil
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
		e := p.entry(r)
		e.vips = p.reserve(r)
	}
	for _, r := range services {
		p.setService(r)
	}
}

func (p *plan) entry(r *resource.Resource) *entry {
	m := p.meshes[r.Mesh]
	if m == nil {
		m = map[string]*entry{}
		p.meshes[r.Mesh] = m
	}
	e := m[r.Name]
	if e == nil {
		e = &entry{Resource: r}
		m[r.Name] = e
	}
	p.dirty[r.Mesh] = true
	return e
}

// setService adds or replaces a service.
func (p *plan) setService(r *resource.Resource) {
	if e := p.meshes[r.Mesh][r.Name]; e != nil && e.results != nil && e.CreationTime.Equal(r.CreationTime) && maps.Equal(e.Labels, r.Labels) && e.want.in(r) {
		e.Resource = r // it says what it should: most often our own write, or one that counted proxies
		return
	}
	e := p.entry(r)
	e.Resource, e.results = r, nil
	if stored := p.reserve(r); len(stored) > 0 {
		p.release(r.Key, e.vips, stored)
		e.vips = stored
	}
	// A status without addresses is one that was lost, by a PUT that replaced it: the service keeps what it had.
	p.allocate(e)
}

// reserve returns the addresses of a stored status that the service may keep.
func (p *plan) reserve(r *resource.Resource) []resource.VIP {
	var out []resource.VIP
	for _, vip := range p.of.read(r.Status).VIPs {
		addr, err := netip.ParseAddr(vip.IP)
		if err == nil && p.pool.reserve(addr, r.Key) {
			out = append(out, vip)
		}
	}
	return out
}

// release frees what a service had and does not keep.
func (p *plan) release(key resource.Key, had, keeps []resource.VIP) {
	for _, vip := range had {
		if addr, err := netip.ParseAddr(vip.IP); err == nil && !slices.Contains(keeps, vip) {
			p.pool.release(addr, key)
		}
	}
}

func (p *plan) allocate(e *entry) {
	if len(e.vips) > 0 {
		delete(p.starved, e.Key)
		return
	}
	addr, err := p.pool.next(e.Key)
	if err != nil {
		p.starved[e.Key] = true
		return
	}
	delete(p.starved, e.Key)
	e.vips = []resource.VIP{{IP: addr.String()}}
}

// removeService forgets a service and releases its addresses.
func (p *plan) removeService(key resource.Key) {
	e := p.meshes[key.Mesh][key.Name]
	if e == nil {
		return
	}
	delete(p.meshes[key.Mesh], key.Name)
	delete(p.starved, key)
	p.dirty[key.Mesh] = true // a hostname may be free for another service
	p.release(key, e.vips, nil)
	if len(p.meshes[key.Mesh]) == 0 {
		delete(p.meshes, key.Mesh)
	}
}

// work returns what the services of all meshes in which something changed should have, for those whose stored status
// says something else.
func (p *plan) work() map[resource.Key]want {
	for _, k := range slices.SortedFunc(maps.Keys(p.starved), compare) {
		p.allocate(p.meshes[k.Mesh][k.Name])
		p.dirty[k.Mesh] = true
	}
	out := map[resource.Key]want{}
	for mesh := range p.dirty {
		entries := slices.SortedFunc(maps.Values(p.meshes[mesh]), func(a, b *entry) int { return older(a.Resource, b.Resource) })
		p.assign(entries)
		for _, e := range entries {
			e.want.VIPs = e.vips
			if !e.want.in(e.Resource) {
				out[e.Key] = e.want
			}
		}
	}
	clear(p.dirty)
	return out
}

// assign gives hostnames to the services of one mesh, in order of age, generator by generator (contract dns.md §1.5).
func (p *plan) assign(entries []*entry) {
	for _, e := range entries {
		e.want = want{of: p.of, created: e.CreationTime}
		p.evaluate(e)
	}
	taken := map[string]*entry{} // by names without case, which DNS does not tell apart
	for i, g := range p.generators {
		for _, e := range entries {
			r := e.results[i]
			if r == nil {
				continue
			}
			ref := resource.GeneratorRef{CoreName: g.Name}
			condition := resource.Condition{Type: "Generated", Status: "True", Reason: "Generated"}
			name := strings.ToLower(r.host)
			switch winner := taken[name]; {
			case r.err != nil:
				condition.Status, condition.Reason, condition.Message = "False", "TemplateError", r.err.Error()
			case winner != nil && winner != e:
				condition.Status, condition.Reason = "False", "Collision"
				condition.Message = fmt.Sprintf("Hostname collision with %s: %s", winner.Kind, winner.Name)
			default:
				taken[name] = e
				e.want.Addresses = append(e.want.Addresses, resource.ServiceAddress{
					Hostname: r.host, Origin: resource.OriginGenerator, HostnameGeneratorRef: &ref,
				})
			}
			e.want.Generators = append(e.want.Generators, resource.GeneratorStatus{
				HostnameGeneratorRef: ref, Conditions: []resource.Condition{condition},
			})
		}
	}
	for _, e := range entries {
		slices.SortFunc(e.want.Addresses, func(a, b resource.ServiceAddress) int {
			return strings.Compare(a.HostnameGeneratorRef.CoreName, b.HostnameGeneratorRef.CoreName)
		})
		slices.SortFunc(e.want.Generators, func(a, b resource.GeneratorStatus) int {
			return strings.Compare(a.HostnameGeneratorRef.CoreName, b.HostnameGeneratorRef.CoreName)
		})
	}
}

func (p *plan) evaluate(e *entry) {
	if e.results != nil {
		return
	}
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
