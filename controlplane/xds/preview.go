package xds

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/internal/crew"
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
	// ByTags says that the mesh after the change has outbounds by tags, ByTagsBefore that of before.
	ByTags, ByTagsBefore bool
	// Before and After are nil where the proxy is not there, and After when there is no configuration. What is the same on both
	// sides is one *Resource mostly, also of different proxies.
	Before, After *Snapshot
	// Rules of the kinds that differ, or may look different, in the order of kinds; nil where no policy applies.
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
	all, bystanders := touched(before, c)
	var ids []topology.ProxyID
	for _, id := range all {
		if id.Mesh == "" {
			out.ZoneProxies = append(out.ZoneProxies, id.Name)
		} else {
			ids = append(ids, id)
		}
	}
	pictures := make([]pair, len(ids))
	each := func(f func(id topology.ProxyID, p *pair)) {
		_ = crew.Each(len(ids), func(i int) error { f(ids[i], &pictures[i]); return nil })
	}
	each(func(id topology.ProxyID, p *pair) { p.before = s.picture(book, before, id, nil, bystanders[id]) })
	each(func(id topology.ProxyID, p *pair) {
		p.after = s.picture(book, c.World, id, p.before.snap, bystanders[id])
	})
	relabelled := relabelledMeshes(before, c.World)
	each(func(id topology.ProxyID, p *pair) {
		p.ProxyID, p.ByTagsBefore, p.ByTags = id, byTags(before, id.Mesh), byTags(c.World, id.Mesh)
		s.compare(p, relabelled[id.Mesh])
	})
	shadows := newOverrides(s.cfg.Kinds, before, c.World)
	for i, id := range ids {
		p := &pictures[i]
		if m := c.World.Meshes[id.Mesh]; m != nil {
			if dp := m.Dataplane(id.Name); dp != nil {
				shadows.look(book.book(c.World, m), m, dp, p.after.rules)
			}
		}
		if len(p.Rules) > 0 || p.Err != nil || !same(p.before.snap, p.after.snap) {
			out.Proxies = append(out.Proxies, p.ProxyPreview)
		}
	}
	out.Matched, out.Overridden = shadows.matched, shadows.list()
	return out
}

// pair is one proxy at two moments, and what differs.
type pair struct {
	before, after picture
	ProxyPreview
}

func (s *Server) compare(p *pair, relabelled bool) {
	p.Err = p.after.err
	p.Rules = s.rulesChanges(&p.before, &p.after, p.ByTags != p.ByTagsBefore || relabelled)
	if p.after.err == nil {
		p.Before, p.After = p.before.snap, p.after.snap
		if p.After != nil {
			p.Warnings = p.After.Warnings()
		}
	}
}

// touched lists whom a change concerns, sorted. Bystanders among them get the same configuration as before, but their rules
// may be others: they are about what such a proxy does not reach.
func touched(before *topology.World, c topology.Change) (list []topology.ProxyID, bystanders map[topology.ProxyID]bool) {
	ids := map[topology.ProxyID]bool{}
	for id := range c.Proxies {
		ids[id] = true
	}
	bystanders = map[topology.ProxyID]bool{}
	for _, w := range []*topology.World{before, c.World} {
		for mesh, m := range w.Meshes {
			if !c.All[mesh] && !otherRules(before.Meshes[mesh], c.World.Meshes[mesh]) {
				continue
			}
			for _, dp := range m.Dataplanes {
				if id := (topology.ProxyID{Mesh: mesh, Name: dp.Name}); !ids[id] {
					ids[id], bystanders[id] = true, !c.All[mesh]
				}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(ids), func(a, b topology.ProxyID) int {
		return cmp.Or(cmp.Compare(a.Mesh, b.Mesh), cmp.Compare(a.Name, b.Name))
	}), bystanders
}

// picture makes the rules and, unless only those are asked for, the configuration of a proxy of a World; before is what it
// had, or nil.
func (s *Server) picture(book *rulebook, w *topology.World, id topology.ProxyID, before *Snapshot, rulesOnly bool) (p picture) {
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
	if rulesOnly {
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
		Mesh: m, Dataplane: dp, Zone: zone, Shown: true, Rules: rules, TrustBundle: []byte("CA"),
		Identity: &KeyPair{Cert: []byte("CERT"), Key: []byte("KEY")},
	}
}

func same(a, b *Snapshot) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.Equal(a.Types(), b.Types()) && !slices.ContainsFunc(a.Types(), func(t string) bool { return a.get(t).version != b.get(t).version })
}
