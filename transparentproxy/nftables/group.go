//go:build linux

package nftables

import (
	"slices"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// merge makes one list of the rules of two families. What both have is there once; each family keeps its order, and a
// packet is of one family.
func merge(a, b []rule) []rule {
	place := map[string]int{}
	for i, r := range b {
		place[r.ids[0]] = i
	}
	var out []rule
	done := 0 // how much of b is out
	for _, r := range a {
		if at, ok := place[r.ids[0]]; ok && at >= done && r.sameBut(b[at]) {
			out = append(out, b[done:at]...)
			done = at + 1
			r.family = 0
		}
		out = append(out, r)
	}
	return append(out, b[done:]...)
}

// sameBut reports whether two rules are the same but for the family.
func (r rule) sameBut(o rule) bool {
	return r.verdict == o.verdict && r.protocol == o.protocol && slices.EqualFunc(r.conditions, o.conditions, condition.equal)
}

// group joins rules of equal verdict that follow each other and differ in one value: lists of ports, addresses and users
// become a set, which is looked up at once however long it is. The order among rules of equal verdict does not matter,
// since each is the last that a packet meets or does nothing a second time; a log is neither.
func group(rules []rule) []rule {
	for {
		var out []rule
		run := 0 // where rules of the last verdict begin
		for _, r := range rules {
			if len(out) > 0 && out[run].verdict != r.verdict {
				run = len(out)
			}
			if !joinAny(out[run:], r) {
				out = append(out, r.clone())
			}
		}
		for i := range out {
			out[i].tidy()
		}
		if len(out) == len(rules) {
			return out
		}
		rules = out // what was joined may now join others
	}
}

func (r rule) clone() rule {
	r.ids, r.conditions = slices.Clone(r.ids), slices.Clone(r.conditions)
	for i := range r.conditions {
		r.conditions[i].spans = slices.Clone(r.conditions[i].spans)
	}
	return r
}

// tidy joins what touches in sets, and drops a set of all addresses.
func (r *rule) tidy() {
	for i := range r.conditions {
		r.conditions[i].spans = joined(r.conditions[i].spans)
	}
	r.conditions = slices.DeleteFunc(r.conditions, func(c condition) bool { return c.isAddress() && !c.not && c.all() })
}

func joinAny(run []rule, r rule) bool {
	if _, log := r.verdict.(tp.Log); log {
		return false
	}
	for i := range run {
		if run[i].join(r) {
			return true
		}
	}
	return false
}

// join takes another rule of the same verdict in, if the two differ at most in the values of one condition.
func (r *rule) join(o rule) bool {
	if r.family != o.family || r.protocol != o.protocol || len(r.conditions) != len(o.conditions) {
		return false
	}
	differ := -1
	for i, c := range r.conditions {
		d := o.conditions[i]
		switch {
		case c.equal(d):
		case differ >= 0, c.field != d.field, c.not, d.not, c.name != d.name:
			return false
		default:
			differ = i
		}
	}
	if differ >= 0 {
		c := &r.conditions[differ]
		c.spans = append(c.spans, o.conditions[differ].spans...)
	}
	r.ids = append(r.ids, o.ids...)
	return true
}
