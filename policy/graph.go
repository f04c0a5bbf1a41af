package policy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
)

// sorted puts groups into the order of contract policies.md §4.5: descending by their joined node ids.
func sorted(groups [][]int) [][]int {
	slices.SortFunc(groups, func(a, b []int) int { return cmp.Compare(join(b), join(a)) })
	return groups
}

// groups returns the sets of items whose tags are combined.
func (s *subsets) groups() ([][]int, error) {
	if s.kind.Components {
		return s.components(), nil
	}
	return s.cliques()
}

// cliques returns the maximal sets of items that all intersect each other (Bron and Kerbosch, with a pivot).
func (s *subsets) cliques() ([][]int, error) {
	n := len(s.items)
	next := make([][]bool, n)
	for i := range next {
		next[i] = make([]bool, n)
		for j := range i {
			meets := s.items[i].intersects(s.items[j])
			next[i][j], next[j][i] = meets, meets
		}
	}
	var out [][]int
	neighbours := func(of int, among []int) []int {
		var near []int
		for _, i := range among {
			if next[of][i] {
				near = append(near, i)
			}
		}
		return near
	}
	var extend func(clique, candidates, done []int) error
	extend = func(clique, candidates, done []int) error {
		if len(candidates) == 0 && len(done) == 0 {
			if out = append(out, slices.Sorted(slices.Values(clique))); len(out) > maxSubsets {
				return ErrTooManySubsets
			}
			return nil
		}
		pivot, most := -1, -1
		for _, i := range slices.Concat(candidates, done) {
			if near := len(neighbours(i, candidates)); near > most {
				pivot, most = i, near
			}
		}
		for _, i := range slices.Clone(candidates) {
			if next[pivot][i] {
				continue
			}
			if err := extend(append(slices.Clone(clique), i), neighbours(i, candidates), neighbours(i, done)); err != nil {
				return err
			}
			candidates = slices.DeleteFunc(slices.Clone(candidates), func(c int) bool { return c == i })
			done = append(slices.Clone(done), i)
		}
		return nil
	}
	if n == 0 {
		return nil, nil
	}
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	if err := extend(nil, all, nil); err != nil {
		return nil, err
	}
	return sorted(out), nil
}

// components returns the sets of items that are connected by intersections.
func (s *subsets) components() [][]int {
	group := make([]int, len(s.items))
	for i := range group {
		group[i] = i
	}
	for i := range s.items {
		for j := range i {
			if group[i] != group[j] && s.items[i].intersects(s.items[j]) {
				from, to := group[i], group[j]
				for k := range group {
					if group[k] == from {
						group[k] = to
					}
				}
			}
		}
	}
	byGroup := map[int][]int{}
	for i, g := range group {
		byGroup[g] = append(byGroup[g], i)
	}
	var out [][]int
	for _, members := range byGroup {
		out = append(out, members)
	}
	return sorted(out)
}

// sameConf compares confs by what they say on the wire.
func sameConf(a, b any) bool {
	if a == b {
		return true
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
