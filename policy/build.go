package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
)

// ToRules are the parts of Rules that depend only on the matched policies and the services, not on the proxy.
type ToRules struct {
	To []SubsetRule
	// Tagged tells that there are items for outbounds made from tags, also when To was not asked for.
	Tagged      bool
	ToResources []ResourceRule

	// How the rules were made, for BuildToAfter: the matched policies, and their items in ascending precedence with the
	// places that each means to the index.
	entries []*entry
	items   []*toItem
	places  [][]place
	index   *Index
	tagged  map[string]madeTagged
	// pairs are the merged confs of two items each, while rules are made: most services have the same two in both lists.
	pairs map[[2]any][]any
	// confs is room for those of one rule.
	confs []any
}

// Build returns what the matched policies of one kind, as Matched returns them, mean for dp. It is BuildTo and BuildFrom
// together. The error wraps ErrTooManySubsets when the tags of items are too many; when they are those of `from` items, the
// rules are returned all the same, as BuildFrom does.
func Build(kind Kind, dp *resource.Resource, matched []*Match, resolver Resolver) (*Rules, error) {
	to, err := BuildTo(kind, matched, resolver)
	if err != nil {
		return nil, err
	}
	rules, err := BuildFrom(kind, dp, matched)
	if rules != nil {
		rules.SetTo(to)
	}
	return rules, err
}

// BuildTo returns the rules of `to` items. They are the same for every proxy with the same matched policies, as long as
// the mesh has the same services, so that a caller can keep them; they must not be changed.
func BuildTo(kind Kind, matched []*Match, resolver Resolver) (*ToRules, error) {
	return BuildToAfter(nil, kind, matched, resolver, true)
}

// BuildToAfter is BuildTo that takes over what it can from earlier rules of the kind, which may be nil; the result is the
// same. Without byTags it leaves out the rules for outbounds made from tags, for which nobody asks in mode Exclusive.
func BuildToAfter(earlier *ToRules, kind Kind, matched []*Match, resolver Resolver, byTags bool) (*ToRules, error) {
	out := &ToRules{entries: make([]*entry, len(matched)), pairs: map[[2]any][]any{}}
	defer func() { out.pairs, out.confs = nil, nil }()
	if earlier == nil {
		earlier = &ToRules{}
	}
	n := 0
	for i, m := range matched {
		out.entries[i] = m.entry
		n += len(m.entry.tagged)
	}
	out.Tagged = n > 0
	if byTags {
		tagged := make([]*tagItem, 0, n)
		for _, m := range matched {
			tagged = append(tagged, m.entry.tagged...)
		}
		if err := out.addTagged(kind, tagged, earlier); err != nil {
			return nil, fmt.Errorf("build to rules of %s: %w", kind.Descriptor.Kind, err)
		}
	}
	if len(matched) == 0 {
		return out, nil
	}
	out.index = indexOf(matched[0].Policy.Mesh, resolver)
	if err := out.addResources(kind, earlier); err != nil {
		return nil, fmt.Errorf("build resource rules of %s: %w", kind.Descriptor.Kind, err)
	}
	return out, nil
}

// BuildFrom returns the rules of `from` items for each selected inbound and of the kind's own default; To and ToResources
// are left empty. An error that wraps ErrTooManySubsets comes with rules: those of an inbound for which they are too many
// are missing, or only Exact are, which then let nobody in. With other errors there are no rules.
func BuildFrom(kind Kind, dp *resource.Resource, matched []*Match) (*Rules, error) {
	rules := &Rules{Kind: kind.Descriptor.Kind}
	var many error
	if spec, ok := dp.Spec.(*resource.Dataplane); ok && spec.Networking != nil {
		b := fromBuilder{kind: kind, matched: matched, from: map[string]clientRules{}, to: map[string][]SubsetRule{}}
		if err := b.inbounds(rules, spec.Networking); err != nil {
			return nil, fmt.Errorf("build from rules of %s for %s: %w", kind.Descriptor.Kind, dp.Key, err)
		}
		if err := b.listeners(rules); err != nil {
			return nil, fmt.Errorf("build rules of %s for the listeners of %s: %w", kind.Descriptor.Kind, dp.Key, err)
		}
		if b.many != nil {
			many = fmt.Errorf("build from rules of %s for %s: %w", kind.Descriptor.Kind, dp.Key, b.many)
		}
	}
	var single SingleRule
	var confs []any
	for _, m := range matched {
		if conf := m.entry.single; conf != nil {
			confs = append(confs, conf)
			single.Origin = append(single.Origin, m.Policy)
		}
	}
	if len(confs) > 0 {
		conf, err := mergeOne(kind, confs)
		if err != nil {
			return nil, fmt.Errorf("build rule of %s for %s: %w", kind.Descriptor.Kind, dp.Key, err)
		}
		single.Conf = conf
		rules.Single = &single
	}
	return rules, many
}

// fromBuilder makes the rules of inbounds and listeners; those that the same policies select share them.
type fromBuilder struct {
	kind    Kind
	matched []*Match
	from    map[string]clientRules
	to      map[string][]SubsetRule
	// many is the newest error that leaves rules.
	many error
}

// inbounds gives every listener of the sidecar its rules. Inbounds on one address and port are one listener, on which a
// policy acts that selects any of them.
func (b *fromBuilder) inbounds(r *Rules, n *resource.Networking) error {
	var places [][]*resource.Inbound
	for _, in := range n.Inbound {
		same := func(p []*resource.Inbound) bool {
			return p[0].Port == in.Port && cmp.Or(p[0].Address, n.Address) == cmp.Or(in.Address, n.Address)
		}
		if i := slices.IndexFunc(places, same); i >= 0 {
			places[i] = append(places[i], in)
		} else {
			places = append(places, []*resource.Inbound{in})
		}
	}
	for _, place := range places {
		by := b.selecting(func(m *Match) bool {
			return slices.ContainsFunc(m.Inbounds, func(in *resource.Inbound) bool { return slices.Contains(place, in) })
		})
		if len(by) == 0 {
			continue
		}
		rules, err := b.fromRules(by)
		if err != nil {
			return err
		}
		last := len(place) - 1 // whose listener it is (contract effects-security.md §1.2)
		r.From = append(r.From, InboundRules{Inbound: place[last], Rules: rules.rules, Exact: rules.exact, others: place[:last]})
	}
	return nil
}

// listeners gives every selected listener its rules. Clients are told apart by port: a policy that selects one listener of
// a port acts on all of it.
func (b *fromBuilder) listeners(r *Rules) error {
	var all []*resource.GatewayListener
	for _, m := range b.matched {
		for _, l := range m.Listeners {
			if !slices.Contains(all, l) {
				all = append(all, l)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *resource.GatewayListener) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Hostname, b.Hostname))
	})
	for _, l := range all {
		from, err := b.fromRules(b.selecting(func(m *Match) bool {
			return slices.ContainsFunc(m.Listeners, func(o *resource.GatewayListener) bool { return o.Port == l.Port })
		}))
		if err != nil {
			return err
		}
		to, err := b.toRules(b.selecting(func(m *Match) bool { return slices.Contains(m.Listeners, l) }))
		if err != nil {
			return err
		}
		r.Listeners = append(r.Listeners, ListenerRules{Listener: l, From: from.rules, To: to})
	}
	return nil
}

// selecting returns the indices of the matched policies that select a place.
func (b *fromBuilder) selecting(selects func(*Match) bool) []int {
	var by []int
	for i, m := range b.matched {
		if selects(m) {
			by = append(by, i)
		}
	}
	return by
}

func (b *fromBuilder) fromRules(by []int) (clientRules, error) {
	var items []*tagItem
	var with []int
	for _, i := range by {
		if own := b.matched[i].entry.from; len(own) > 0 {
			items, with = append(items, own...), append(with, i)
		}
	}
	return once(b.from, with, func() (clientRules, error) {
		rules, err := fromRules(b.kind, items)
		if errors.Is(err, ErrTooManySubsets) {
			b.many, err = err, nil
		}
		return rules, err
	})
}

func (b *fromBuilder) toRules(by []int) ([]SubsetRule, error) {
	return once(b.to, by, func() ([]SubsetRule, error) {
		var items []*tagItem
		for _, i := range by {
			items = append(items, b.matched[i].entry.tagged...)
		}
		var out ToRules
		err := out.addTagged(b.kind, items, &ToRules{})
		return out.To, err
	})
}

func once[R any](done map[string]R, by []int, build func() (R, error)) (R, error) {
	key := join(by)
	if rules, ok := done[key]; ok {
		return rules, nil
	}
	rules, err := build()
	done[key] = rules
	return rules, err
}
