package xds

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// refusals remembers what of its configuration an Envoy does not take, until it has taken something else in its place. It
// is safe for concurrent use.
type refusals struct {
	mu     sync.Mutex
	byType map[string][]*refusal
}

type refusal struct {
	names  []string // sorted
	reason string
	since  time.Time
	// blanket: Envoy did not say which of the names it means.
	blanket bool
}

// settle takes the answer to a response that held the named resources, with whole all of its type; a reason refuses it.
//
// Envoy takes clusters and listeners one by one, so a refusal is about those only that its text names. And an agent that
// still holds what its Envoy refused says so again with each answer: a text about resources that are refused already, and
// about none of this response, refuses none of it.
func (r *refusals) settle(typeURL string, names []string, whole bool, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.byType[typeURL]
	if whole {
		old = nil // all of it has been judged again
	}
	var next *refusal
	if reason != "" {
		next = &refusal{names: mentioned(names, reason), reason: reason, since: time.Now()}
		if len(next.names) == 0 {
			if slices.ContainsFunc(old, func(o *refusal) bool { return o.blanket && o.reason == reason || len(mentioned(o.names, reason)) > 0 }) {
				next = nil
			} else {
				next.names, next.blanket = slices.Sorted(slices.Values(names)), true
			}
		}
	}
	judged := make(map[string]bool, len(names))
	for _, n := range names {
		judged[n] = true
	}
	var list []*refusal
	for _, o := range old {
		rest := slices.DeleteFunc(slices.Clone(o.names), func(n string) bool { return judged[n] })
		switch {
		case len(rest) == len(o.names):
			list = append(list, o)
		case o.blanket && reason == "" || len(rest) == 0:
			// Which one it was is not known: one of them has been repaired.
		default:
			list = append(list, &refusal{names: rest, reason: o.reason, since: o.since, blanket: o.blanket})
		}
	}
	if next != nil {
		list = append(list, next)
	}
	if r.byType == nil {
		r.byType = map[string][]*refusal{}
	}
	r.byType[typeURL] = list
}

// any tells whether something of a type is refused now.
func (r *refusals) any(typeURL string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.byType[typeURL]) > 0
}

// list returns what is refused now, in the order of types and times.
func (r *refusals) list() []Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Refusal
	for _, typeURL := range slices.Sorted(maps.Keys(r.byType)) {
		for _, o := range r.byType[typeURL] {
			out = append(out, Refusal{Type: typeURL, Resources: o.names, Reason: o.reason, Since: o.since})
		}
	}
	return out
}

// mentioned returns, sorted, the names that a text has as whole words.
func mentioned(names []string, text string) []string {
	var out []string
	for _, n := range names {
		for rest := text; n != ""; {
			before, after, found := strings.Cut(rest, n)
			if !found {
				break
			}
			if !inWord(before[max(len(before)-1, 0):]) && !inWord(after[:min(len(after), 1)]) {
				out = append(out, n)
				break
			}
			rest = after
		}
	}
	slices.Sort(out)
	return out
}

// inWord tells whether a byte beside a name makes it another one. A colon does not: Envoy puts one behind a name.
func inWord(b string) bool {
	if b == "" {
		return false
	}
	c := b[0]
	return c == '_' || c == '-' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}
