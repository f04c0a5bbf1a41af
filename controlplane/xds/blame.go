package xds

import (
	"maps"
	"slices"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Blame is Status with the policies without which something would not be so; with a kind only those of that kind are looked
// for. It makes a configuration for each of them, unless there is nothing to blame anybody for. The error is
// ErrUnknownProxy.
func (s *Server) Blame(mesh, name string, kind resource.Kind) (*Status, error) {
	w, m, dp, err := s.find(mesh, name)
	if err != nil {
		return nil, err
	}
	out, meta := s.statusOf(w, m, dp)
	b := &blame{s: s, world: w, mesh: m, dp: dp, meta: meta, book: newRulebook(s.cfg.Kinds, s.cfg.Zone), status: out, only: kind}
	if b.lost(); b.needed() {
		b.find()
	}
	return out, nil
}

// blame makes the configuration of a proxy again without one policy or another.
type blame struct {
	s     *Server
	world *topology.World
	mesh  *topology.Mesh
	dp    *topology.Dataplane
	meta  Meta
	book  *rulebook

	status *Status
	// only is the kind whose policies are looked for, "" for any.
	only resource.Kind
	// now is what is made with all policies.
	now attempt
	// open are the refusals that no policy which patches has a hand in; failed says the same of the failure.
	open   []*Refusal
	failed bool
	// broken are the refusals of what breaks a rule of Envoy's fields.
	broken map[*Refusal]bool
}

// attempt is a configuration, or why there is none.
type attempt struct {
	rules    map[resource.Kind]*policy.Rules
	snap     *Snapshot // nil when err is not
	err      error
	warnings []string
}

// lost names the policies that no rules come from because they are for a route that does not exist.
func (b *blame) lost() {
	view := policy.View{Zone: b.s.cfg.Zone, Gateways: b.mesh.Gateways}
	for _, k := range b.s.cfg.Kinds {
		kind := k.Descriptor.Kind
		warnings := b.warningsAbout(kind)
		if len(warnings) == 0 || !b.wants(kind) {
			continue
		}
		for _, p := range b.mesh.Policies[kind] {
			if spec, ok := p.Spec.(policy.Targeted); !ok || spec.Target().Kind != policy.MeshHTTPRoute {
				continue
			}
			_, texts := policy.NewSet(k, []*resource.Resource{p}, b.mesh.Policies[b.book.routes], nil).Matched(b.dp.Resource, view)
			for _, w := range warnings {
				if slices.ContainsFunc(texts, func(text string) bool { return w.Text == ruleWarning(kind, text) }) {
					w.Policies = append(w.Policies, p)
				}
			}
		}
	}
}

func (b *blame) needed() bool {
	return len(b.status.Refusals) > 0 || b.status.Failure != "" || len(b.warningsAbout(b.only)) > 0
}

// find completes the Status: first with the policies that patch, then, where that is nobody, with the others.
func (b *blame) find() {
	b.now = b.make(b.mesh)
	b.failed = b.status.Failure != "" && b.now.err != nil
	b.broken = map[*Refusal]bool{}
	for i := range b.status.Refusals {
		r := &b.status.Refusals[i]
		b.open, b.broken[r] = append(b.open, r), r.broken(b.now.snap)
	}
	for _, patches := range []bool{true, false} {
		var involved []*Refusal
		cured := false
		for _, e := range b.s.generator.effects {
			if rules := b.now.rules[e.Kind]; (e.Patch != nil) == patches && rules != nil && (patches || b.wants(e.Kind)) {
				more, ended := b.kind(e.Kind, rules)
				involved, cured = append(involved, more...), cured || ended
			}
		}
		b.open = slices.DeleteFunc(b.open, func(r *Refusal) bool { return slices.Contains(involved, r) })
		b.failed = b.failed && !cured
	}
}

func (b *blame) wants(kind resource.Kind) bool { return b.only == "" || b.only == kind }

// kind looks at the policies of one kind: together, and where that makes a difference one by one. It returns the refusals
// that they have a hand in, and whether the failure is theirs.
func (b *blame) kind(kind resource.Kind, rules *policy.Rules) (involved []*Refusal, cured bool) {
	var warnings []*Warning
	if b.wants(kind) {
		warnings = b.warningsAbout(kind)
	}
	if len(b.open) == 0 && !b.failed && len(warnings) == 0 {
		return nil, false
	}
	none := b.make(withoutPolicy(b.mesh, kind, nil))
	for _, r := range b.open {
		if b.guilty(r, none) {
			involved = append(involved, r)
		}
	}
	cured = b.failed && none.err == nil
	warnings = slices.DeleteFunc(warnings, func(w *Warning) bool { return slices.Contains(none.warnings, w.Text) })
	if !b.wants(kind) || len(involved) == 0 && !cured && len(warnings) == 0 {
		return involved, cured
	}
	var all []*resource.Resource
	without := map[*resource.Resource]attempt{}
	for _, m := range rules.Policies {
		all = append(all, m.Policy)
		if without[m.Policy] = none; len(rules.Policies) > 1 {
			without[m.Policy] = b.make(withoutPolicy(b.mesh, kind, m.Policy))
		}
	}
	// Where each does what another does too, all are named.
	culprits := func(guilty func(attempt) bool) []*resource.Resource {
		found := slices.DeleteFunc(slices.Clone(all), func(p *resource.Resource) bool { return !guilty(without[p]) })
		if len(found) == 0 {
			return all
		}
		return found
	}
	for _, r := range involved {
		r.Policies = append(r.Policies, culprits(func(one attempt) bool { return b.guilty(r, one) })...)
	}
	for _, w := range warnings {
		w.Policies = culprits(func(one attempt) bool { return !slices.Contains(one.warnings, w.Text) })
	}
	if cured {
		b.status.Suspects = append(b.status.Suspects, culprits(func(one attempt) bool { return one.err == nil })...)
	}
	return involved, cured
}

// guilty tells whether policies have a hand in a refusal, by what is made without them: another resource, and where it is
// known what is wrong with it, one that is right.
func (b *blame) guilty(r *Refusal, without attempt) bool {
	return r.shaped(b.now.snap, without.snap) && (!b.broken[r] || !r.broken(without.snap))
}

// warningsAbout are those about a kind, "" for all, whose author is not known yet.
func (b *blame) warningsAbout(kind resource.Kind) []*Warning {
	var out []*Warning
	for i := range b.status.Warnings {
		if w := &b.status.Warnings[i]; len(w.Policies) == 0 && (kind == "" || w.About(kind)) {
			out = append(out, w)
		}
	}
	return out
}

// withoutPolicy is the mesh as if there were no such policy, or none of the kind when it is nil.
func withoutPolicy(m *topology.Mesh, kind resource.Kind, p *resource.Resource) *topology.Mesh {
	next := *m
	next.Policies = maps.Clone(m.Policies)
	if p == nil {
		delete(next.Policies, kind)
		return &next
	}
	next.Policies[kind] = slices.DeleteFunc(slices.Clone(m.Policies[kind]), func(o *resource.Resource) bool { return o.Key == p.Key })
	return &next
}

func (b *blame) make(m *topology.Mesh) attempt { return b.s.remake(b.book, b.world, m, b.dp, b.meta) }

// remake makes what the server makes for a connected proxy, but for secrets.
func (s *Server) remake(book *rulebook, w *topology.World, m *topology.Mesh, dp *topology.Dataplane, meta Meta) (out attempt) {
	// Rules that are too many to enumerate are missing before and after.
	out.rules, _ = book.rules(w, m, dp, false)
	in := inspected(m, dp, s.cfg.Zone, out.rules)
	in.Domain, in.Meta, in.Admin = s.cfg.Domain, meta, &AdminTLS{KeyPair: *in.Identity, ClientCA: in.TrustBundle}
	out.snap, _, out.err = s.guard(func() (*Snapshot, time.Time, error) {
		snap, err := s.generator.Generate(in)
		return snap, time.Time{}, err
	})
	out.warnings = s.warningsOf(out.rules, out.snap)
	return out
}

// warningsOf are the warnings of a configuration, which may be nil, and of the rules behind it.
func (s *Server) warningsOf(rules map[resource.Kind]*policy.Rules, snap *Snapshot) []string {
	var out []string
	if snap != nil {
		out = append(out, snap.Warnings()...)
	}
	for _, k := range s.cfg.Kinds {
		if r := rules[k.Descriptor.Kind]; r != nil {
			for _, text := range r.Warnings {
				out = append(out, ruleWarning(k.Descriptor.Kind, text))
			}
		}
	}
	return out
}

func ruleWarning(kind resource.Kind, text string) string { return string(kind) + ": " + text }

// broken tells whether a refused resource breaks a rule of Envoy's fields.
func (r *Refusal) broken(s *Snapshot) bool {
	return s != nil && slices.ContainsFunc(r.Resources, func(name string) bool {
		one := s.Resources(r.Type)[name]
		return one != nil && one.check() != nil
	})
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
