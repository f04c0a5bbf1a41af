package policy

import (
	"cmp"
	"slices"
	"sort"

	"github.com/kuma-dp/kuma-dp/resource"
)

// maxPatched bounds the policies that may differ from earlier rules for these to be patched rather than made anew.
const maxPatched = 16

// addResources is contract policies.md §4.6 step 2. Rules are in the order of comparePlaces.
func (r *ToRules) addResources(kind Kind, earlier *ToRules) error {
	if swapped := r.swapItems(earlier); swapped != nil {
		return r.swapRules(kind, earlier, swapped)
	}
	if changed, ok := r.patchItems(earlier); ok {
		done, err := r.patchRules(kind, earlier, changed)
		if done || err != nil {
			return err
		}
	} else {
		r.allItems()
	}
	return r.allRules(kind)
}

// allItems brings the items of all entries into the order of contract policies.md §4.3 and resolves them.
func (r *ToRules) allItems() {
	for _, e := range r.entries {
		r.items = append(r.items, e.to...)
	}
	slices.SortStableFunc(r.items, compareItems)
	r.places = make([][]place, len(r.items))
	for i, item := range r.items {
		r.places[i] = r.index.resolve(item.ref, item.policy)
	}
}

// patchItems makes the items from earlier ones, and returns the places of those that went or came. It is not ok when too
// much is different.
func (r *ToRules) patchItems(earlier *ToRules) (changed []place, ok bool) {
	if earlier.index != r.index || len(earlier.entries) == 0 {
		return nil, false
	}
	old, now := unlike(earlier.entries, r.entries)
	if len(old)+len(now) > maxPatched {
		return nil, false
	}
	r.items, r.places = slices.Clone(earlier.items), slices.Clone(earlier.places)
	for _, e := range old {
		for _, item := range e.to {
			i := slices.Index(r.items, item)
			changed = append(changed, r.places[i]...)
			r.items, r.places = slices.Delete(r.items, i, i+1), slices.Delete(r.places, i, i+1)
		}
	}
	for _, e := range now {
		for _, item := range e.to {
			// After all that are not greater: items of one policy keep their order.
			at, _ := slices.BinarySearchFunc(r.items, item, func(a, b *toItem) int {
				if compareItems(a, b) <= 0 {
					return -1
				}
				return 1
			})
			places := r.index.resolve(item.ref, item.policy)
			r.items, r.places = slices.Insert(r.items, at, item), slices.Insert(r.places, at, places)
			changed = append(changed, places...)
		}
	}
	return changed, true
}

// patchRules makes again the rules of the changed places and of their sections. It is not done when the whole mesh is one
// of them, which concerns every rule.
func (r *ToRules) patchRules(kind Kind, earlier *ToRules, changed []place) (done bool, err error) {
	stale := map[place]bool{}
	whole := map[resource.Key]bool{}
	for _, p := range changed {
		if p.key.Kind == resource.KindMesh {
			return false, nil
		}
		stale[p] = true
		whole[p.key] = whole[p.key] || p.section == ""
	}
	r.ToResources = append(make([]ResourceRule, 0, len(earlier.ToResources)+len(stale)), earlier.ToResources...)
	for key, all := range whole {
		// The rules of a service stand together.
		first, _ := findPlace(r.ToResources, place{key: key})
		end := first
		for end < len(r.ToResources) && r.ToResources[end].Target == key {
			if all {
				stale[place{key, r.ToResources[end].Section}] = true
			}
			end++
		}
		kept := slices.DeleteFunc(slices.Clone(r.ToResources[first:end]), func(rule ResourceRule) bool {
			return stale[place{key, rule.Section}]
		})
		r.ToResources = slices.Replace(r.ToResources, first, end, kept...)
	}
	var positions []int
	for p := range stale {
		positions = positions[:0]
		named := false
		for i, places := range r.places {
			covers := false
			for _, q := range places {
				covers = covers || q.covers(p)
				named = named || q == p
			}
			if covers {
				positions = append(positions, i)
			}
		}
		if !named {
			continue
		}
		rule, err := r.rule(kind, p, positions)
		if err != nil {
			return false, err
		}
		at, _ := findPlace(r.ToResources, p)
		r.ToResources = slices.Insert(r.ToResources, at, rule)
	}
	return true, nil
}

// allRules makes the rule of every place that an item names.
func (r *ToRules) allRules(kind Kind) error {
	at := make(map[place][]int, len(r.items)) // positions of the items that name a place
	var mesh []int                            // positions of items on the mesh
	var order []place
	for i, places := range r.places {
		for _, p := range places {
			if p.key.Kind == resource.KindMesh {
				mesh = append(mesh, i)
			}
			if at[p] == nil {
				order = append(order, p)
			}
			at[p] = append(at[p], i)
		}
	}
	slices.SortFunc(order, comparePlaces)
	r.ToResources = make([]ResourceRule, 0, len(order))
	var all []int
	for _, p := range order {
		all = append(all[:0], at[p]...)
		if p.key.Kind != resource.KindMesh {
			all = append(all, mesh...)
			if p.section != "" {
				all = append(all, at[place{key: p.key}]...)
			}
			slices.Sort(all)
			all = slices.Compact(all)
		}
		rule, err := r.rule(kind, p, all)
		if err != nil {
			return err
		}
		r.ToResources = append(r.ToResources, rule)
	}
	return nil
}

// rule makes the rule of a place from the items at the given positions.
func (r *ToRules) rule(kind Kind, p place, positions []int) (ResourceRule, error) {
	rule := ResourceRule{
		Target: p.key, Section: p.section, Origin: make([]RuleOrigin, len(positions)), items: make([]*toItem, len(positions)),
	}
	for i, pos := range positions {
		item := r.items[pos]
		rule.items[i], rule.Origin[i] = item, RuleOrigin{Policy: item.policy, Index: item.index}
	}
	return rule, r.merge(kind, &rule)
}

// merge sets the conf of a rule to what its items say together.
func (r *ToRules) merge(kind Kind, rule *ResourceRule) (err error) {
	if len(rule.items) == 1 {
		rule.Conf, err = merge(kind, []any{rule.items[0].conf})
		return err
	}
	r.confs = r.confs[:0]
	for _, item := range rule.items {
		r.confs = append(r.confs, item.conf)
	}
	if len(r.confs) == 2 {
		if known := r.pairs[[2]any{r.confs[0], r.confs[1]}]; known != nil {
			rule.Conf = known
			return nil
		}
	}
	rule.Conf, err = merge(kind, r.confs)
	return err
}

// covers tells whether what is said of p holds for target too.
func (p place) covers(target place) bool {
	return p.key == target.key && (p.section == "" || p.section == target.section) || p.key.Kind == resource.KindMesh
}

// comparePlaces orders by name, kind and section; the mesh comes last.
func comparePlaces(a, b place) int {
	if aMesh, bMesh := a.key.Kind == resource.KindMesh, b.key.Kind == resource.KindMesh; aMesh != bMesh {
		if aMesh {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(a.key.Name, b.key.Name), cmp.Compare(a.key.Kind, b.key.Kind), cmp.Compare(a.section, b.section))
}

// findPlace finds the rule of a place among sorted ones, or where it would be.
func findPlace(rules []ResourceRule, p place) (at int, found bool) {
	at = sort.Search(len(rules), func(i int) bool { return comparePlaces(place{rules[i].Target, rules[i].Section}, p) >= 0 })
	return at, at < len(rules) && rules[at].Target == p.key && rules[at].Section == p.section
}
