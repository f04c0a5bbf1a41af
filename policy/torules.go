package policy

import (
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
)

// madeTagged are the rules of one subset with the items that made them.
type madeTagged struct {
	items []*tagItem
	rules []SubsetRule
}

// addTagged is contract policies.md §4.5 for outbounds made from tags: without negations when all items together have at
// most one key, else as the groups give it. What is looked up by these rules is a service, alone or with a rule of a
// route, so that no item can be forgotten there (unlike in fromRules).
func (r *ToRules) addTagged(kind Kind, items []*tagItem, earlier *ToRules) error {
	if countKeys(items) > 1 {
		s := &subsets{kind: kind, items: items, merged: map[string]*mergedConf{}}
		groups, err := s.groups()
		if err != nil {
			return err
		}
		rules, err := s.rules(groups)
		if err != nil {
			return err
		}
		r.To = plain(rules)
		return nil
	}
	// An item has no tag, or one of the only key: everything, or one value.
	type group struct {
		tag   Matcher
		items []*tagItem
	}
	var groups []*group
	var everything *group
	byValue := map[string]*group{}
	var all []*tagItem // items without a tag so far, for a value that comes later
	for _, item := range items {
		if len(item.tags) == 0 {
			if everything == nil {
				everything = &group{}
			}
			all = append(all, item)
			everything.items = append(everything.items, item)
			for _, g := range groups {
				g.items = append(g.items, item)
			}
			continue
		}
		own := item.tags[0]
		g := byValue[own.Value]
		if g == nil {
			g = &group{tag: own, items: slices.Clone(all)}
			byValue[own.Value] = g
			groups = append(groups, g)
		}
		g.items = append(g.items, item)
	}
	if everything != nil {
		groups = append(groups, everything)
	}
	r.tagged = make(map[string]madeTagged, len(groups))
	for _, g := range groups {
		key, matchers := g.tag.Key+"\x00"+g.tag.Value, []Matcher{}
		if g != everything {
			matchers = append(matchers, g.tag)
		}
		made := earlier.tagged[key]
		if made.rules == nil || !slices.Equal(made.items, g.items) {
			merged, err := mergeTagged(kind, g.items)
			if err != nil {
				return err
			}
			made = madeTagged{g.items, merged.rules(matchers)}
			if len(g.items) == 2 && r.pairs != nil {
				r.pairs[[2]any{g.items[0].conf, g.items[1].conf}] = merged.confs
			}
		}
		r.tagged[key] = made
		r.To = append(r.To, made.rules...)
	}
	return nil
}

// mergedConf is what items mean together: confs, several only for kinds that group by hostname, and who said so.
type mergedConf struct {
	confs  []any
	origin []*resource.Resource
}

func mergeTagged(kind Kind, items []*tagItem) (*mergedConf, error) {
	out := &mergedConf{}
	confs := make([]any, len(items))
	for i, item := range items {
		confs[i] = item.conf
		if !slices.Contains(out.origin, item.policy) {
			out.origin = append(out.origin, item.policy)
		}
	}
	var err error
	out.confs, err = merge(kind, confs)
	return out, err
}

// rules gives every conf its rule for the subset.
func (m *mergedConf) rules(matchers []Matcher) []SubsetRule {
	out := make([]SubsetRule, len(m.confs))
	for i, conf := range m.confs {
		out[i] = SubsetRule{Matchers: matchers, Conf: conf, Origin: m.origin}
	}
	return out
}
