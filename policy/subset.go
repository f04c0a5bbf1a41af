package policy

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/kuma-dp/kuma-dp/resource"
)

// ErrTooManySubsets is wrapped by the error of Build when the tags of a policy's items combine in too many ways to list.
var ErrTooManySubsets = errors.New("the tags of the items combine in too many ways: use fewer distinct tags")

// maxSubsets bounds the rules of one inbound: 2^14 is far beyond what Envoy evaluates in reasonable time.
const maxSubsets = 1 << 14

// tagItem is an item as a subset of clients or services.
type tagItem struct {
	// tags are in the order of keys; none means everything.
	tags   []Matcher
	conf   any
	policy *resource.Resource
}

func newTagItem(tags map[string]string, conf any, policy *resource.Resource) *tagItem {
	t := &tagItem{conf: conf, policy: policy}
	for k, v := range tags {
		t.tags = append(t.tags, Matcher{Key: k, Value: v})
	}
	slices.SortFunc(t.tags, func(a, b Matcher) int { return cmp.Compare(a.Key, b.Key) })
	return t
}

// tagItemOf returns false for kinds that are no subset (contract policies.md §4.5).
func tagItemOf(item Item, policy *resource.Resource) (*tagItem, bool) {
	var tags map[string]string
	switch item.TargetRef.Kind {
	case Mesh:
	case MeshSubset:
		tags = item.TargetRef.Tags
	case MeshService:
		tags = map[string]string{resource.TagService: item.TargetRef.Name}
	case MeshServiceSubset:
		tags = maps.Clone(item.TargetRef.Tags)
		if tags == nil {
			tags = map[string]string{}
		}
		tags[resource.TagService] = item.TargetRef.Name
	default:
		return nil, false
	}
	return newTagItem(tags, item.Conf, policy), true
}

// intersects tells whether something can belong to both subsets.
func (t *tagItem) intersects(other *tagItem) bool {
	a, b := t.tags, other.tags
	for len(a) > 0 && len(b) > 0 {
		switch c := cmp.Compare(a[0].Key, b[0].Key); {
		case c < 0:
			a = a[1:]
		case c > 0:
			b = b[1:]
		case a[0].Value != b[0].Value:
			return false
		default:
			a, b = a[1:], b[1:]
		}
	}
	return true
}

// contains tells whether everything that has the matchers belongs to t.
func (t *tagItem) contains(ms []Matcher) bool {
	for _, own := range t.tags {
		if !slices.Contains(ms, own) {
			return false
		}
	}
	return true
}

// meets tells whether something that has the matchers can belong to t.
func (t *tagItem) meets(ms []Matcher) bool {
	for _, own := range t.tags {
		for _, m := range ms {
			if own.Key == m.Key && (own.Value == m.Value) == m.Not {
				return false
			}
		}
	}
	return true
}

// subsets makes rules from items in ascending precedence.
type subsets struct {
	kind  Kind
	items []*tagItem
	// merged remembers confs by the set of items that made them.
	merged map[string]*mergedConf
}

// clientRules are rules by client with, as InboundRules explains, what to enforce in their place.
type clientRules struct {
	rules, exact []SubsetRule
}

// fromRules is contract policies.md §4.5 with negations. The clique rules of Kuma leave some clients with a rule that
// forgets an item which selects them: a client that has tags of two disjoint groups meets the rule of one. For a kind that
// permits, where that would change what such a client is told, the rules of connected components are the exact ones.
// With the error, which may wrap ErrTooManySubsets, come the rules that are left: without those to enforce everybody is
// denied.
func fromRules(kind Kind, items []*tagItem) (clientRules, error) {
	var out clientRules
	deny := func(err error) (clientRules, error) {
		if kind.Permits {
			out.exact = []SubsetRule{}
		}
		return out, err
	}
	s := &subsets{kind: kind, items: items, merged: map[string]*mergedConf{}}
	groups, err := s.groups()
	if err != nil {
		return deny(err)
	}
	rules, err := s.rules(groups)
	if err != nil {
		return deny(err)
	}
	out.rules = plain(rules)
	// With one key, as when all items name services, the rule of a value comes before all that exclude one.
	if !kind.Permits || kind.Components || countKeys(items) < 2 {
		return out, nil
	}
	exact, err := s.exact(rules)
	if err != nil {
		return deny(err)
	}
	if !exact {
		if rules, err = s.rules(s.components()); err != nil {
			return deny(err)
		}
		out.exact = plain(rules)
	}
	return out, nil
}

func plain(rules []groupRule) []SubsetRule {
	out := make([]SubsetRule, len(rules))
	for i, r := range rules {
		out[i] = r.SubsetRule
	}
	return out
}

// countKeys counts the distinct keys of items, up to two.
func countKeys(items []*tagItem) int {
	n, only := 0, ""
	for _, item := range items {
		for _, own := range item.tags {
			switch {
			case n == 0:
				n, only = 1, own.Key
			case own.Key != only:
				return 2
			}
		}
	}
	return n
}

// containing returns those of a group's items that contain the matchers, in order. No item of another group can contain
// matchers that the group's tags make: it would intersect the items which those come from.
func (s *subsets) containing(group []int, ms []Matcher) []int {
	var out []int
	for _, i := range group {
		if s.items[i].contains(ms) {
			out = append(out, i)
		}
	}
	return out
}

// groupRule is a rule with the items that made it and the group whose tags it lists.
type groupRule struct {
	SubsetRule
	chosen, group []int
}

// rules lists the rules of all groups, those with more positive matchers first.
func (s *subsets) rules(groups [][]int) ([]groupRule, error) {
	var out []groupRule
	for _, group := range groups {
		subsets, err := s.enumerate(group)
		if err != nil {
			return nil, err
		}
		for _, ms := range subsets {
			chosen := s.containing(group, ms)
			if len(chosen) == 0 {
				continue
			}
			merged, err := s.merge(chosen)
			if err != nil {
				return nil, err
			}
			for _, rule := range merged.rules(ms) {
				out = append(out, groupRule{rule, chosen, group})
			}
			if len(out) > maxSubsets {
				return nil, ErrTooManySubsets
			}
		}
	}
	slices.SortStableFunc(out, func(a, b groupRule) int { return cmp.Compare(positive(b.Matchers), positive(a.Matchers)) })
	return out, nil
}

// merge makes the conf of the items with the given indices.
func (s *subsets) merge(chosen []int) (*mergedConf, error) {
	key := join(chosen)
	if done := s.merged[key]; done != nil {
		return done, nil
	}
	items := make([]*tagItem, len(chosen))
	for i, c := range chosen {
		items[i] = s.items[c]
	}
	done, err := mergeTagged(s.kind, items)
	if err != nil {
		return nil, err
	}
	s.merged[key] = done
	return done, nil
}

// enumerate lists the subsets that the tags of a group's items make: for every key each of its values, or none of them
// (contract policies.md §4.5).
func (s *subsets) enumerate(group []int) ([][]Matcher, error) {
	values := map[string]map[string]bool{}
	for _, i := range group {
		for _, own := range s.items[i].tags {
			if values[own.Key] == nil {
				values[own.Key] = map[string]bool{}
			}
			values[own.Key][own.Value] = true
		}
	}
	// Choices of each key, in the order of enumeration; the first key runs fastest.
	var choices [][][]Matcher
	total := 1
	for _, k := range slices.Sorted(maps.Keys(values)) {
		sorted := slices.Sorted(maps.Keys(values[k]))
		var own [][]Matcher
		var none []Matcher
		for _, v := range sorted {
			none = append(none, Matcher{Key: k, Value: v, Not: true})
		}
		for _, v := range slices.Backward(sorted) {
			own = append(own, []Matcher{{Key: k, Value: v}})
		}
		choices = append(choices, append(own, none))
		if total *= len(own) + 1; total > maxSubsets {
			return nil, ErrTooManySubsets
		}
	}
	out := make([][]Matcher, total)
	for n := range total {
		ms := []Matcher{}
		rest := n
		for _, own := range choices {
			ms = append(ms, own[rest%len(own)]...)
			rest /= len(own)
		}
		out[n] = ms
	}
	return out, nil
}

func positive(ms []Matcher) int {
	n := 0
	for _, m := range ms {
		if !m.Not {
			n++
		}
	}
	return n
}

func join(ids []int) string {
	parts := make([]string, len(ids))
	for i, id := range ids {
		parts[i] = strconv.Itoa(id)
	}
	return strings.Join(parts, ":")
}
