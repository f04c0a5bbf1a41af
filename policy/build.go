package policy

import (
	"fmt"
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
)

// ToRules are the parts of Rules that depend only on the matched policies and the services, not on the proxy.
type ToRules struct {
	To          []SubsetRule
	ToResources []ResourceRule
}

// Build returns what the matched policies of one kind, as Matched returns them, mean for dp. It is BuildTo and BuildFrom
// together. The error wraps ErrTooManySubsets when the tags of `from` items are too many; rules of permissions must then
// be taken to deny.
func Build(kind Kind, dp *resource.Resource, matched []*Match, resolver Resolver) (*Rules, error) {
	to, err := BuildTo(kind, matched, resolver)
	if err != nil {
		return nil, err
	}
	rules, err := BuildFrom(kind, dp, matched)
	if err != nil {
		return nil, err
	}
	rules.To, rules.ToResources = to.To, to.ToResources
	return rules, nil
}

// BuildTo returns the rules of `to` items. They are the same for every proxy with the same matched policies, as long as
// the mesh has the same services, so that a caller can keep them; they must not be changed. Rules for outbounds made from
// tags are computed for every mode of the mesh; in mode Exclusive nobody asks for them.
func BuildTo(kind Kind, matched []*Match, resolver Resolver) (*ToRules, error) {
	var legacy []tagItem
	var items []toItem
	var found *services
	for _, m := range matched {
		for i, item := range m.spec.ToItems() {
			if found == nil {
				found = newServices(m.Policy.Mesh, resolver)
			}
			if t, ok := tagItemOf(item, m.Policy); ok {
				legacy = append(legacy, t)
			}
			items = append(items, toItem{
				ranked: m.rank, ref: item.TargetRef, conf: item.Conf, index: i, places: found.resolve(item.TargetRef, m.Policy),
			})
		}
	}
	slices.SortStableFunc(items, func(a, b toItem) int { return a.compareItem(b.ranked, a.ref, b.ref) })
	to, err := toRules(kind, legacy)
	if err != nil {
		return nil, fmt.Errorf("build to rules of %s: %w", kind.Descriptor.Kind, err)
	}
	resources, err := resourceRules(kind, items)
	if err != nil {
		return nil, fmt.Errorf("build resource rules of %s: %w", kind.Descriptor.Kind, err)
	}
	return &ToRules{To: to, ToResources: resources}, nil
}

// BuildFrom returns the rules of `from` items for each selected inbound and of the kind's own default; To and ToResources
// are left empty. Errors as Build.
func BuildFrom(kind Kind, dp *resource.Resource, matched []*Match) (*Rules, error) {
	rules := &Rules{Kind: kind.Descriptor.Kind}
	if spec, ok := dp.Spec.(*resource.Dataplane); ok && spec.Networking != nil {
		if err := rules.addInbounds(kind, spec.Networking.Inbound, matched); err != nil {
			return nil, fmt.Errorf("build from rules of %s for %s: %w", kind.Descriptor.Kind, dp.Key, err)
		}
	}
	var single SingleRule
	var confs []any
	for _, m := range matched {
		if conf := m.spec.Default(); conf != nil {
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
	return rules, nil
}

// addInbounds gives every selected inbound its rules; inbounds that the same policies select share them.
func (r *Rules) addInbounds(kind Kind, inbounds []*resource.Inbound, matched []*Match) error {
	done := map[string][]SubsetRule{}
	for _, in := range inbounds {
		var by []int
		var items []tagItem
		for i, m := range matched {
			if !slices.Contains(m.Inbounds, in) {
				continue
			}
			by = append(by, i)
			for _, item := range m.spec.FromItems() {
				if t, ok := tagItemOf(item, m.Policy); ok {
					items = append(items, t)
				}
			}
		}
		if len(by) == 0 {
			continue
		}
		key := join(by)
		rules, ok := done[key]
		if !ok {
			var err error
			if rules, err = fromRules(kind, items); err != nil {
				return err
			}
			done[key] = rules
		}
		r.From = append(r.From, InboundRules{Inbound: in, Rules: rules})
	}
	return nil
}
