package xds

import (
	"errors"
	"slices"
	"sync"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/meshhttproute"
	"github.com/kuma-dp/kuma-dp/policy/meshtcproute"
	"github.com/kuma-dp/kuma-dp/policy/older"
	"github.com/kuma-dp/kuma-dp/resource"
)

// rulebook computes the rules of proxies. It remembers, for each mesh, the policies in their order; for each set of
// matched policies, the rules for services; and for each proxy, its rules, as long as nothing changes that they depend on.
// What has changed is made from what was, so that one policy costs what it touches.
type rulebook struct {
	kinds []policy.Kind
	zone  string
	// routes is the kind whose resources may be named as a top-level targetRef.
	routes resource.Kind

	mu   sync.Mutex
	mesh map[string]*meshBook

	to   *partCache[string, toRules]
	last *partCache[lastKey, *lastRules]
}

// meshBook is what the rules of all proxies of a mesh share.
type meshBook struct {
	sets  map[resource.Kind]*policy.Set
	index *policy.Index
	// older is nil in a mesh without policies from before target references.
	older *older.Set
}

type toRules struct {
	index *policy.Index
	*policy.ToRules
}

// lastRules are the newest rules of a proxy with what they were made from.
type (
	lastKey struct {
		id     topology.ProxyID
		kind   resource.Kind
		shadow bool
	}
	lastRules struct {
		dp       *resource.Resource
		byTags   bool
		gateways []*resource.Resource
		set      *policy.Set
		older    *older.Set
		index    *policy.Index
		rules    *policy.Rules // nil when no policy matches
		to       *policy.ToRules
		err      error // policy.ErrTooManySubsets: to find it out again takes as long
	}
)

// Limits of what a rulebook remembers, in sets of policies and in kinds of proxies.
const (
	maxToRules   = 4 << 10
	maxLastRules = 64 << 10
)

func newRulebook(kinds []policy.Kind, zone string) *rulebook {
	b := &rulebook{
		kinds: kinds, zone: zone, mesh: map[string]*meshBook{},
		to: newPartCache[string, toRules](maxToRules), last: newPartCache[lastKey, *lastRules](maxLastRules),
	}
	for _, k := range kinds {
		if _, ok := k.Descriptor.NewSpec().(policy.Routed); ok {
			b.routes = k.Descriptor.Kind
		}
	}
	return b
}

// rules returns the rules of dp by kind. Kinds of which no policy matches are absent. When the tags of a kind's `from`
// items are too many to enumerate, rules of inbounds are missing, which for permissions means that nobody is let in; the
// error says so, and the map is good all the same.
func (b *rulebook) rules(w *topology.World, mesh *topology.Mesh, dp *topology.Dataplane, shadow bool) (map[resource.Kind]*policy.Rules, error) {
	book := b.book(w, mesh)
	out := map[resource.Kind]*policy.Rules{}
	var faults []error
	// In mode Exclusive what is reached by tags has been written by hand, or a route leads there. Routes themselves may be to
	// the name of a cluster (contract effects-routing.md §3).
	byTags := mesh.Spec.ServicesMode() != resource.MeshServicesExclusive || len(mesh.LegacyOutbounds(dp)) > 0
	for _, k := range b.kinds {
		r, err := b.ofKind(book, mesh, dp, k, byTags || routes(k), shadow)
		if err != nil {
			faults = append(faults, err)
		}
		if r != nil {
			out[k.Descriptor.Kind] = r
			byTags = byTags || slices.ContainsFunc(r.Policies, (*policy.Match).LeadsByTags)
		}
	}
	if book.older != nil {
		if r := b.ofOlder(book.older, mesh, dp); r != nil {
			out[older.Name] = r
		}
	}
	return out, errors.Join(faults...)
}

// ofOlder returns the rules of policies from before target references.
func (b *rulebook) ofOlder(set *older.Set, mesh *topology.Mesh, dp *topology.Dataplane) *policy.Rules {
	key := lastKey{id: topology.ProxyID{Mesh: mesh.Name, Name: dp.Name}, kind: older.Name}
	if last, known := b.last.lookup(key); known && last.dp == dp.Resource && last.older == set {
		return last.rules
	}
	next := &lastRules{dp: dp.Resource, older: set, rules: set.Rules(dp.Resource)}
	b.last.store(key, next)
	return next.rules
}

// book returns the current book of a mesh. It is immutable.
func (b *rulebook) book(w *topology.World, mesh *topology.Mesh) *meshBook {
	routes := mesh.Policies[b.routes]
	b.mu.Lock()
	old := b.mesh[mesh.Name]
	b.mu.Unlock()
	next := &meshBook{sets: make(map[resource.Kind]*policy.Set, len(b.kinds))}
	changed := old == nil
	for _, k := range b.kinds {
		kind := k.Descriptor.Kind
		var earlier *policy.Set
		if old != nil {
			earlier = old.sets[kind]
		}
		if len(mesh.Policies[kind]) == 0 {
			changed = changed || earlier != nil
			continue
		}
		next.sets[kind] = policy.NewSet(k, mesh.Policies[kind], routes, earlier)
		changed = changed || next.sets[kind] != earlier
	}
	next.index = mesh.Index()
	var earlier *older.Set
	if old != nil {
		earlier = old.older
	}
	next.older = older.NewSet(mesh.Spec, mesh.Policies, b.zone, earlier)
	changed = changed || next.index != old.index || next.older != old.older
	if !changed {
		return old
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mesh[mesh.Name] = next
	for name := range b.mesh {
		if w.Meshes[name] == nil {
			delete(b.mesh, name)
		}
	}
	return next
}

// routes tells whether a kind is one of routes; these come before all others.
func routes(k policy.Kind) bool {
	return k.Descriptor.Kind == meshhttproute.Name || k.Descriptor.Kind == meshtcproute.Name
}

func (b *rulebook) ofKind(book *meshBook, mesh *topology.Mesh, dp *topology.Dataplane, k policy.Kind, byTags, shadow bool) (*policy.Rules, error) {
	kind := k.Descriptor.Kind
	set := book.sets[kind]
	if set == nil {
		return nil, nil
	}
	key := lastKey{topology.ProxyID{Mesh: mesh.Name, Name: dp.Name}, kind, shadow}
	last, known := b.last.lookup(key)
	if known && last.byTags == byTags && last.dp == dp.Resource && last.set == set && last.index == book.index && sameSlice(last.gateways, mesh.Gateways) {
		return last.rules, last.err
	}
	next := &lastRules{dp: dp.Resource, byTags: byTags, gateways: mesh.Gateways, set: set, index: book.index}
	if known {
		next.to = last.to
	}
	err := b.make(next, book, k, policy.View{Zone: b.zone, Shadow: shadow, Gateways: mesh.Gateways})
	if err == nil || errors.Is(err, policy.ErrTooManySubsets) {
		next.err = err
		b.last.store(key, next)
	}
	return next.rules, err
}

// make fills in the rules of next, whose to may be those of before. It leaves them nil when no policy matches.
func (b *rulebook) make(next *lastRules, book *meshBook, k policy.Kind, view policy.View) error {
	matched, warnings := next.set.Matched(next.dp, view)
	if len(matched) == 0 {
		return nil
	}
	r, err := policy.BuildFrom(k, next.dp, matched)
	if r == nil {
		r = &policy.Rules{Kind: k.Descriptor.Kind}
	}
	if err != nil {
		warnings = append(warnings, err.Error())
	}
	r.Warnings, r.Policies = warnings, matched
	next.rules = r
	to, toErr := b.toRules(book, k, matched, next.to, next.byTags)
	if toErr == nil {
		r.SetTo(to)
		next.to = to
	} else {
		r.Warnings = append(r.Warnings, toErr.Error())
	}
	return errors.Join(err, toErr)
}

// gatewayRules returns the rules of a MeshGateway, in the order of the kinds: those of a builtin gateway with the tags of
// its first selector.
func (b *rulebook) gatewayRules(w *topology.World, mesh *topology.Mesh, gateway *resource.Resource) ([]*policy.Rules, error) {
	spec := resource.SpecOf[*resource.MeshGateway](gateway)
	section := &resource.Gateway{Type: resource.GatewayBuiltin}
	if len(spec.Selectors) > 0 {
		section.Tags = spec.Selectors[0].Match
	}
	dp := &resource.Resource{Meta: gateway.Meta, Spec: &resource.Dataplane{Networking: &resource.Networking{Gateway: section}}}
	dp.Kind = resource.KindDataplane
	book := b.book(w, mesh)
	var out []*policy.Rules
	var faults []error
	for _, k := range b.kinds {
		set := book.sets[k.Descriptor.Kind]
		if set == nil {
			continue
		}
		next := &lastRules{dp: dp, byTags: mesh.Spec.ServicesMode() != resource.MeshServicesExclusive, set: set}
		if err := b.make(next, book, k, policy.View{Zone: b.zone, Gateways: []*resource.Resource{gateway}}); err != nil {
			faults = append(faults, err)
		}
		if next.rules != nil {
			out = append(out, next.rules)
		}
	}
	return out, errors.Join(faults...)
}

func (b *rulebook) toRules(book *meshBook, k policy.Kind, matched []*policy.Match, earlier *policy.ToRules, byTags bool) (*policy.ToRules, error) {
	key := bit(byTags) + policy.KeyOf(matched)
	if known, ok := b.to.lookup(key); ok && known.index == book.index {
		return known.ToRules, nil
	}
	r, err := policy.BuildToAfter(earlier, k, matched, book.index, byTags)
	if err != nil {
		return nil, err
	}
	b.to.store(key, toRules{book.index, r})
	return r, nil
}

// sameSlice tells whether two slices are one. The topology shares them between pictures with equal contents.
func sameSlice(a, b []*resource.Resource) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
