package policy

import "slices"

// maxPairs bounds the pairs of a rule and an item to look at; beyond it the rules count as inexact too. Whoever may write a
// policy must not be able to keep the control plane busy.
const maxPairs = 1 << 17

// maxCoverSteps bounds the search for earlier rules that cover a region; beyond it the rules count as inexact, which is
// safe.
const maxCoverSteps = 1 << 20

// exact tells whether for every client the first matching rule is the merge of all items that select the client.
//
// A rule of one group can only forget an item of another one. That matters where clients of the item reach the rule,
// because no earlier rule takes them, and where the item would change the conf. Items can be tried one by one: if several
// together change a field, the last of them to write it changes it alone.
func (s *subsets) exact(rules []groupRule) (bool, error) {
	if len(rules)*len(s.items) > maxPairs {
		return false, nil
	}
	c := newCover(rules)
	for n, rule := range rules {
		for i, item := range s.items {
			if slices.Contains(rule.group, i) || !item.meets(rule.Matchers) {
				continue
			}
			region := item.within(rule.Matchers)
			if c.byOne(region, n) {
				continue
			}
			with := slices.Sorted(slices.Values(append(slices.Clone(rule.chosen), i)))
			full, err := s.merge(with)
			if err != nil {
				return false, err
			}
			if !sameConf(full.confs[0], rule.Conf) && !c.byMany(region, c.rules[:n]) {
				return false, nil
			}
		}
	}
	return true, nil
}

// within returns the matchers of what has ms and belongs to t.
func (t *tagItem) within(ms []Matcher) []Matcher {
	out := slices.Clone(ms)
	for _, own := range t.tags {
		if !slices.Contains(out, own) {
			out = append(out, own)
		}
	}
	return out
}

// cover answers whether everything in a region matches one of the rules before the nth.
type cover struct {
	rules []groupRule
	// byTag finds rules by their first positive matcher.
	byTag map[Matcher][]int
	steps int
}

func newCover(rules []groupRule) *cover {
	c := &cover{rules: rules, byTag: map[Matcher][]int{}}
	for n, r := range rules {
		if i := slices.IndexFunc(r.Matchers, func(m Matcher) bool { return !m.Not }); i >= 0 {
			c.byTag[r.Matchers[i]] = append(c.byTag[r.Matchers[i]], n)
		}
	}
	return c
}

// byOne looks for a single rule with a positive matcher: the usual case, and quick.
func (c *cover) byOne(region []Matcher, n int) bool {
	for _, m := range region {
		for _, i := range c.byTag[m] {
			if i >= n {
				break
			}
			if !slices.ContainsFunc(c.rules[i].Matchers, func(m Matcher) bool { return !implied(region, m) }) {
				return true
			}
		}
	}
	return false
}

// byMany looks whether several rules together cover the region, by splitting it where a rule takes a part.
func (c *cover) byMany(region []Matcher, rules []groupRule) bool {
	for i, r := range rules {
		if c.steps++; c.steps > maxCoverSteps {
			return false
		}
		undecided, out := -1, false
		for j, m := range r.Matchers {
			switch {
			case implied(region, m):
			case implied(region, not(m)):
				out = true
			case undecided < 0:
				undecided = j
			}
		}
		switch {
		case out:
		case undecided < 0:
			return true
		default:
			m := r.Matchers[undecided]
			return c.byMany(append(slices.Clone(region), m), rules[i:]) &&
				c.byMany(append(slices.Clone(region), not(m)), rules[i+1:])
		}
	}
	return false
}

func not(m Matcher) Matcher {
	m.Not = !m.Not
	return m
}

// implied tells whether everything in the region has m. A tag has one value: another value implies that it is not this.
func implied(region []Matcher, m Matcher) bool {
	return slices.ContainsFunc(region, func(r Matcher) bool {
		return r == m || m.Not && !r.Not && r.Key == m.Key && r.Value != m.Value
	})
}
