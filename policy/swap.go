package policy

import "slices"

// swapItems makes the items from earlier ones when the difference is one policy that says something else of the same places
// with the same precedence. It returns the items by those whose place they take; nil when the difference is another one.
func (r *ToRules) swapItems(earlier *ToRules) map[*toItem]*toItem {
	if earlier.index != r.index {
		return nil
	}
	old, now := unlike(earlier.entries, r.entries)
	if len(old) != 1 || len(now) != 1 || len(old[0].to) != len(now[0].to) {
		return nil
	}
	swapped := make(map[*toItem]*toItem, len(now[0].to))
	for i, was := range old[0].to {
		item := now[0].to[i]
		if compareItems(was, item) != 0 || !slices.Equal(r.index.resolve(was.ref, was.policy), r.index.resolve(item.ref, item.policy)) {
			return nil
		}
		swapped[was] = item
	}
	r.items, r.places = slices.Clone(earlier.items), earlier.places
	for i, item := range r.items {
		if next := swapped[item]; next != nil {
			r.items[i] = next
		}
	}
	return swapped
}

// swapRules makes again the rules that have one of the items: all, if that is for the whole mesh.
func (r *ToRules) swapRules(kind Kind, earlier *ToRules, swapped map[*toItem]*toItem) error {
	r.ToResources = slices.Clone(earlier.ToResources)
	var stale []*ResourceRule
	n := 0
	for i := range r.ToResources {
		rule := &r.ToResources[i]
		if slices.ContainsFunc(rule.items, func(item *toItem) bool { return swapped[item] != nil }) {
			stale = append(stale, rule)
			n += len(rule.items)
		}
	}
	items, origins := make([]*toItem, 0, n), make([]RuleOrigin, 0, n) // of all of them
	for _, rule := range stale {
		first := len(items)
		for k, item := range rule.items {
			origin := rule.Origin[k]
			if next := swapped[item]; next != nil {
				item, origin = next, RuleOrigin{Policy: next.policy, Index: next.index}
			}
			items, origins = append(items, item), append(origins, origin)
		}
		rule.items, rule.Origin = slices.Clip(items[first:]), slices.Clip(origins[first:])
		if err := r.merge(kind, rule); err != nil {
			return err
		}
	}
	return nil
}
