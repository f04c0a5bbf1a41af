package meshhttproute

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Hash names the routes of a rule: standard base64 of SHA-256 of the JSON of its matches (contract policies.md §4.6,
// controlplane.md §3.2). Equal matches have equal names in Kuma and here.
func Hash(matches []Match) string {
	// Structs of strings always encode.
	raw, _ := json.Marshal(matches)
	sum := sha256.Sum256(raw)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Route is one match of a rule.
type Route struct {
	// Name is the Hash of all matches of the rule: the routes of a rule share it.
	Name string
	// Match always has a path.
	Match Match
	// Rule is nil for the route that takes what no rule takes; it goes to the destination.
	Rule *Rule
}

// CatchAll is the match that takes every request.
func CatchAll() Match { return Match{Path: &PathMatch{Type: PathPrefix, Value: "/"}} }

// Routes returns the routes of a destination in the order in which they are to be tried, first match wins (contract
// policies.md §4.7). They refer to the rules.
func Routes(rules []Rule) []Route {
	var out []Route
	complete := false
	for i := range rules {
		name := Hash(rules[i].Matches)
		for _, m := range rules[i].Matches {
			complete = complete || m.catchesAll()
			out = append(out, Route{Name: name, Match: m, Rule: &rules[i]})
		}
	}
	slices.SortStableFunc(out, func(a, b Route) int { return a.Match.compare(b.Match) })
	if !complete {
		out = append(out, Route{Name: Hash([]Match{CatchAll()}), Match: CatchAll()})
	}
	for i := range out {
		if out[i].Match.Path == nil {
			out[i].Match.Path = CatchAll().Path
		}
	}
	return out
}

func (m Match) catchesAll() bool {
	return m.Path != nil && *m.Path == *CatchAll().Path && m.Method == "" && len(m.QueryParams) == 0 && len(m.Headers) == 0
}

// compare puts the more specific match first.
func (m Match) compare(other Match) int {
	return cmp.Or(
		m.Path.compare(other.Path),
		first(m.Method != "", other.Method != ""),
		cmp.Compare(len(other.Headers), len(m.Headers)),
		cmp.Compare(len(other.QueryParams), len(m.QueryParams)),
	)
}

func (p *PathMatch) compare(other *PathMatch) int {
	if p == nil || other == nil {
		return first(p != nil, other != nil)
	}
	order := []string{Exact, PathPrefix, RegularExpression}
	byType := cmp.Compare(slices.Index(order, p.Type), slices.Index(order, other.Type))
	if byType != 0 || p.Type == Exact {
		return byType
	}
	return cmp.Compare(len(other.Value), len(p.Value))
}

func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}

// Writer returns the policy whose backendRefs a merged rule has, nil when it has none: references by name mean services as
// seen from that policy (contract policies.md §4.7). Origin is that of the rule's conf, from low to high precedence, and
// hostname the conf's, "" when it has none.
func Writer(origin []policy.RuleOrigin, hostname string, rule *Rule) *resource.Resource {
	if rule == nil || rule.Default.BackendRefs == nil {
		return nil
	}
	return writer(origin, hostname, rule, func(c RuleConf) bool { return c.BackendRefs != nil })
}

// writer returns the policy with the highest precedence whose rule of these matches has something.
func writer(origin []policy.RuleOrigin, hostname string, rule *Rule, has func(RuleConf) bool) *resource.Resource {
	name := Hash(rule.Matches)
	for _, o := range slices.Backward(origin) {
		s, ok := o.Policy.Spec.(*Spec)
		if !ok || o.Index >= len(s.To) {
			continue
		}
		to := s.To[o.Index]
		if !slices.Contains(to.Hostnames, hostname) && (hostname != "" || len(to.Hostnames) > 0) {
			continue
		}
		if slices.ContainsFunc(to.Rules, func(r Rule) bool { return has(r.Default) && Hash(r.Matches) == name }) {
			return o.Policy
		}
	}
	return nil
}
