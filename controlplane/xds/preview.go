package xds

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Preview is what a change of resources would mean to proxies.
type Preview struct {
	// Proxies are those of which rules or configuration would change, sorted by mesh and name.
	Proxies []ProxyPreview
	// ZoneProxies are the ingresses and egresses that would get another configuration, by name.
	ZoneProxies []string
	// Matched counts the proxies that each policy of the changed kinds applies to after the change.
	Matched map[resource.Key]int
	// Overridden tells which policies of the changed kinds take effect from others, sorted.
	Overridden []Override
}

// ProxyPreview is one proxy before and after a change, as `_config` shows it: without what only the metadata of a connected
// proxy tells.
type ProxyPreview struct {
	topology.ProxyID
	// ByTags says that the mesh after the change has outbounds by tags.
	ByTags bool
	// Before and After are the resources that differ by type URL and name. Types that both sides have are in both.
	Before, After map[string]map[string]json.RawMessage
	// Rules of the kinds that differ, in the order of kinds; nil where no policy applies.
	Rules []RulesChange
	// Warnings are about the configuration after.
	Warnings []string
	// Err says why there is no configuration after; the proxy would keep what it has.
	Err error
}

// RulesChange are the rules of one kind.
type RulesChange struct{ Before, After *policy.Rules }

// picture is one proxy at one moment.
type picture struct {
	rules map[resource.Kind]*policy.Rules
	snap  *Snapshot // nil when the proxy is not there
	err   error
}

// Preview computes what a Change of topology.Preview means. It runs the code that serves, with the same cache of parts, but
// no proxy is told. It is safe for concurrent use and takes about as long as telling all touched proxies.
func (s *Server) Preview(before *topology.World, c topology.Change) *Preview {
	out := &Preview{Matched: map[resource.Key]int{}}
	book := newRulebook(s.cfg.Kinds, s.cfg.Zone)
	ids := touched(before, c)
	old := make([]picture, len(ids))
	for i, id := range ids {
		if id.Mesh == "" {
			out.ZoneProxies = append(out.ZoneProxies, id.Name)
			continue
		}
		old[i] = s.picture(book, before, id, nil)
	}
	shadows := newOverrides(s.cfg.Kinds, before, c.World)
	for i, id := range ids {
		if id.Mesh == "" {
			continue
		}
		next := s.picture(book, c.World, id, old[i].snap)
		p := ProxyPreview{ProxyID: id, Err: next.err}
		if m := c.World.Meshes[id.Mesh]; m != nil {
			p.ByTags = m.Spec.ServicesMode() != resource.MeshServicesExclusive
			if dp := m.Dataplane(id.Name); dp != nil {
				shadows.look(book.book(c.World, m), m, dp, next.rules)
			}
		}
		p.Rules = s.rulesChanges(old[i].rules, next.rules)
		if next.err == nil {
			s.differences(&p, old[i].snap, next.snap)
		}
		if len(p.Rules) > 0 || p.Err != nil || !same(old[i].snap, next.snap) {
			out.Proxies = append(out.Proxies, p)
		}
	}
	out.Matched, out.Overridden = shadows.matched, shadows.list()
	return out
}

// touched lists whom a change concerns, sorted.
func touched(before *topology.World, c topology.Change) []topology.ProxyID {
	ids := map[topology.ProxyID]bool{}
	for id := range c.Proxies {
		ids[id] = true
	}
	for mesh := range c.All {
		for _, w := range []*topology.World{before, c.World} {
			if m := w.Meshes[mesh]; m != nil {
				for _, dp := range m.Dataplanes {
					ids[topology.ProxyID{Mesh: mesh, Name: dp.Name}] = true
				}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(ids), func(a, b topology.ProxyID) int {
		return cmp.Or(cmp.Compare(a.Mesh, b.Mesh), cmp.Compare(a.Name, b.Name))
	})
}

// picture makes the rules and the configuration of a proxy of a World; before is what it had, or nil.
func (s *Server) picture(book *rulebook, w *topology.World, id topology.ProxyID, before *Snapshot) (p picture) {
	m := w.Meshes[id.Mesh]
	if m == nil {
		return p
	}
	dp := m.Dataplane(id.Name)
	if dp == nil {
		return p
	}
	defer func() {
		if r := recover(); r != nil {
			p.err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	var err error
	// What is missing of rules that are too many is told in their warnings.
	if p.rules, err = book.rules(w, m, dp, false); err != nil && !errors.Is(err, policy.ErrTooManySubsets) {
		p.err = err
		return p
	}
	in := inspected(m, dp, s.cfg.Zone, p.rules)
	in.Before = before
	p.snap, p.err = s.generator.Generate(in)
	return p
}

// inspected is the input of a configuration that is shown.
func inspected(m *topology.Mesh, dp *topology.Dataplane, zone string, rules map[resource.Kind]*policy.Rules) Input {
	return Input{
		Mesh: m, Dataplane: dp, Zone: zone, Rules: rules, TrustBundle: []byte("CA"),
		Identity: &KeyPair{Cert: []byte("CERT"), Key: []byte("KEY")},
	}
}

func (s *Server) rulesChanges(before, after map[resource.Kind]*policy.Rules) []RulesChange {
	var out []RulesChange
	for _, k := range s.cfg.Kinds {
		kind := k.Descriptor.Kind
		if before[kind] != after[kind] {
			out = append(out, RulesChange{before[kind], after[kind]})
		}
	}
	return out
}

func same(a, b *Snapshot) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.Equal(a.Types(), b.Types()) && !slices.ContainsFunc(a.Types(), func(t string) bool { return a.get(t).version != b.get(t).version })
}

// differences renders the resources that differ.
func (s *Server) differences(p *ProxyPreview, before, after *Snapshot) {
	p.Before, p.After = map[string]map[string]json.RawMessage{}, map[string]map[string]json.RawMessage{}
	render := func(in, other *Snapshot, out map[string]map[string]json.RawMessage) error {
		if in == nil {
			return nil
		}
		for _, typeURL := range in.Types() {
			out[typeURL] = map[string]json.RawMessage{}
			for name, r := range in.Resources(typeURL) {
				if other != nil {
					if o := other.Resources(typeURL)[name]; o != nil && o.Version == r.Version {
						continue
					}
				}
				b, err := s.shown.get(r, r.indented)
				if err != nil {
					return err
				}
				out[typeURL][name] = b
			}
		}
		return nil
	}
	p.Err = errors.Join(render(before, after, p.Before), render(after, before, p.After))
	if after != nil {
		p.Warnings = after.Warnings()
	}
}
