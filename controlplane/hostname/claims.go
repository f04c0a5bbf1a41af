package hostname

import (
	"cmp"
	"slices"
	"strings"
)

// claims are the services of a mesh that a generator gives one name. Who has it does not depend on other names, so that a
// change of one service touches the names of that service alone: the first generator gives it to the oldest service, and
// later ones to the same (contract dns.md §1.5).
type claims struct {
	by map[*entry]bool
	// winner is nil only between a change and settle.
	winner *entry
}

func (r *result) name() string { return strings.ToLower(r.host) }

// names calls f with each name that the service claims, which may be the same ones.
func (e *entry) names(f func(name string)) {
	for _, r := range e.results {
		if r != nil && r.err == nil {
			f(r.name())
		}
	}
}

// precedence is the place among the generators of the first that gives the service the name.
func (e *entry) precedence(name string) int {
	return slices.IndexFunc(e.results, func(r *result) bool { return r != nil && r.err == nil && r.name() == name })
}

// beats tells whether e gets a name that other claims too.
func (e *entry) beats(other *entry, name string) bool {
	return cmp.Or(cmp.Compare(e.precedence(name), other.precedence(name)), older(e.Resource, other.Resource)) < 0
}

// claim adds a service to the claimants of its names.
func (m *meshPlan) claim(e *entry) {
	e.names(func(name string) {
		c := m.claims[name]
		if c == nil {
			c = &claims{by: map[*entry]bool{}, winner: e}
			m.claims[name] = c
		}
		c.by[e] = true
		if c.winner == nil || c.winner != e && e.beats(c.winner, name) {
			m.contested[name] = true
		}
	})
}

// withdraw takes a service from the claimants of its names.
func (m *meshPlan) withdraw(e *entry) {
	e.names(func(name string) {
		c := m.claims[name]
		if c == nil {
			return // it had the name twice
		}
		delete(c.by, e)
		switch {
		case len(c.by) == 0:
			delete(m.claims, name)
			delete(m.contested, name)
		case c.winner == e:
			c.winner = nil
			m.contested[name] = true
		}
	})
}

// settle finds the winners of names again, and returns all that claim these names: what they are told changes.
func (m *meshPlan) settle() (concerned []*entry) {
	for name := range m.contested {
		c := m.claims[name]
		c.winner = nil
		for e := range c.by {
			concerned = append(concerned, e)
			if c.winner == nil || e.beats(c.winner, name) {
				c.winner = e
			}
		}
	}
	clear(m.contested)
	return concerned
}
