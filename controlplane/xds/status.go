package xds

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Status is how a proxy gets on with its configuration.
type Status struct {
	// Connected: it has a stream to this control plane. All else is empty without one.
	Connected bool
	// Refusals is what its Envoy does not take; it has all the rest.
	Refusals []Refusal
	// Failure says why there is no configuration; the proxy keeps what it has. "" when there is one.
	Failure string
	// Suspects are the policies without which there would be a configuration; of a Failure only.
	Suspects []*resource.Resource
	// Warnings say which parts of policies have no effect on the proxy.
	Warnings []string
}

// Refusal is one or more resources of a type that an Envoy refuses: in their place it keeps what it has, or nothing.
type Refusal struct {
	Type string // the type URL
	// Resources are their names, sorted. When Envoy does not say which it means, they are all that it was sent with them.
	Resources []string
	// Reason is what Envoy says.
	Reason string
	Since  time.Time
	// Policies are those that may be to blame, of each kind from low to high precedence: without them the resources would be
	// others. Policies of the kinds that patch, which can make anything, are named alone when there are any.
	Policies []*resource.Resource
}

// Kind is the last word of the type, such as Listener.
func (r *Refusal) Kind() string { return r.Type[strings.LastIndexByte(r.Type, '.')+1:] }

// Status returns how a Dataplane gets on. With a key only that policy is looked for among those to blame, which takes less
// time: one configuration is made for each suspect. The error is ErrUnknownProxy.
func (s *Server) Status(mesh, name string, only *resource.Key) (*Status, error) {
	w, m, dp, err := s.find(mesh, name)
	if err != nil {
		return nil, err
	}
	out, meta := s.status(topology.ProxyID{Mesh: mesh, Name: name})
	if len(out.Refusals) == 0 && out.Failure == "" {
		return out, nil
	}
	b := &blame{s: s, world: w, mesh: m, dp: dp, meta: meta, book: newRulebook(s.cfg.Kinds, s.cfg.Zone)}
	b.find(out, only)
	return out, nil
}

// ZoneStatus returns how a ZoneIngress or ZoneEgress gets on; nobody is blamed. The error is ErrUnknownProxy.
func (s *Server) ZoneStatus(kind resource.Kind, name string) (*Status, error) {
	zones := s.cfg.Topology.Current().Zones
	if kind == resource.KindZoneIngress && zones.Ingress(name) == nil || kind == resource.KindZoneEgress && zones.Egress(name) == nil {
		return nil, fmt.Errorf("inspect %s %s: %w", kind, name, ErrUnknownProxy)
	}
	out, meta := s.status(topology.ProxyID{Name: name})
	if meta.ProxyType != proxyTypeOf(kind) {
		return &Status{}, nil
	}
	return out, nil
}

func (s *Server) status(id topology.ProxyID) (*Status, Meta) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.proxies[id]
	if p == nil {
		return &Status{}, Meta{}
	}
	out := &Status{Connected: true, Failure: p.failure}
	for st := range p.streams {
		out.Refusals = append(out.Refusals, st.refused.list()...)
	}
	slices.SortStableFunc(out.Refusals, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), a.Since.Compare(b.Since))
	})
	if snap := p.snap.Load(); snap != nil {
		out.Warnings = snap.Warnings()
	}
	return out, p.meta
}

// blame makes the configuration of a proxy again without one policy or another.
type blame struct {
	s     *Server
	world *topology.World
	mesh  *topology.Mesh
	dp    *topology.Dataplane
	meta  Meta
	book  *rulebook
}

// find completes a Status: first with the policies that patch, then, where that is nobody, with the others.
func (b *blame) find(out *Status, only *resource.Key) {
	rules, now, err := b.make(b.mesh)
	for _, patches := range []bool{true, false} {
		var open []*Refusal
		for i := range out.Refusals {
			if r := &out.Refusals[i]; len(r.Policies) == 0 {
				open = append(open, r)
			}
		}
		failed := out.Failure != "" && err != nil && len(out.Suspects) == 0
		if len(open) == 0 && !failed {
			return
		}
		for _, p := range b.candidates(rules, patches) {
			if !patches && only != nil && p.Key != *only {
				continue
			}
			_, without, withoutErr := b.make(b.without(p))
			for _, r := range open {
				if r.shaped(now, without) {
					r.Policies = append(r.Policies, p)
				}
			}
			if failed && withoutErr == nil {
				out.Suspects = append(out.Suspects, p)
			}
		}
	}
}

// candidates are the policies in force of the kinds that patch, or of the others.
func (b *blame) candidates(rules map[resource.Kind]*policy.Rules, patches bool) []*resource.Resource {
	var out []*resource.Resource
	for _, e := range b.s.generator.effects {
		if (e.Patch != nil) == patches && effect.Effective(rules[e.Kind]) {
			for _, m := range rules[e.Kind].Policies {
				out = append(out, m.Policy)
			}
		}
	}
	return out
}

// without is the mesh as if there were no such policy.
func (b *blame) without(p *resource.Resource) *topology.Mesh {
	m := *b.mesh
	m.Policies = maps.Clone(m.Policies)
	m.Policies[p.Kind] = slices.DeleteFunc(slices.Clone(m.Policies[p.Kind]), func(o *resource.Resource) bool { return o.Key == p.Key })
	return &m
}

// make is what the server makes, but for secrets. The snapshot is nil when there is an error.
func (b *blame) make(m *topology.Mesh) (map[resource.Kind]*policy.Rules, *Snapshot, error) {
	// Rules that are too many to enumerate are missing before and after.
	rules, _ := b.book.rules(b.world, m, b.dp, false)
	in := inspected(m, b.dp, b.s.cfg.Zone, rules)
	in.Domain, in.Meta, in.Admin = b.s.cfg.Domain, b.meta, &AdminTLS{KeyPair: *in.Identity, ClientCA: in.TrustBundle}
	snap, _, err := b.s.guard(func() (*Snapshot, time.Time, error) {
		snap, err := b.s.generator.Generate(in)
		return snap, time.Time{}, err
	})
	return rules, snap, err
}

// shaped tells whether a refused resource is another one, or not there, without something.
func (r *Refusal) shaped(with, without *Snapshot) bool {
	if with == nil || without == nil {
		return false
	}
	return slices.ContainsFunc(r.Resources, func(name string) bool {
		a, b := with.Resources(r.Type)[name], without.Resources(r.Type)[name]
		if a == nil || b == nil {
			return a != b
		}
		return a.Version != b.Version
	})
}
