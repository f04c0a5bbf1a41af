package policy

import (
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/resource"
)

// Rules are what the policies of one kind mean for one proxy (contract policies.md §4, the answer of `_rules`).
// Confs are pointers to the kind's conf struct, as Kind.NewConf makes them.
type Rules struct {
	Kind resource.Kind
	// From holds, for every inbound that a policy selects, the rules by client; an inbound that is absent here is not
	// selected by any policy of the kind, one with no rules is selected but says nothing.
	From []InboundRules
	// Listeners holds the same for the selected listeners of a builtin gateway, by port and hostname.
	Listeners []ListenerRules
	// To are the older rules by tags, for outbounds made from kuma.io/service.
	To []SubsetRule
	// Tagged tells that policies have items for such outbounds, also where To is left out: nobody asks for it in mode
	// Exclusive.
	Tagged bool
	// ToResources are the rules for outbounds made from real services.
	ToResources []ResourceRule
	// Single is the result of a kind without to and from; nil when no policy applies.
	Single *SingleRule
	// Warnings are about policies that name what does not exist.
	Warnings []string
	// Policies are those that the rules come from, in ascending precedence; nil unless somebody asked for them.
	Policies []*Match

	// sorted tells that ToResources are in the order of compareRules, as SetTo leaves them.
	sorted bool
	// plain tells that no rule of To names what could be the cluster of a service object.
	plain bool
}

// SetTo sets To, Tagged and ToResources.
func (r *Rules) SetTo(to *ToRules) {
	r.To, r.Tagged, r.ToResources, r.sorted = to.To, to.Tagged, to.ToResources, true
	r.plain = !slices.ContainsFunc(to.To, func(rule SubsetRule) bool {
		return len(rule.Matchers) == 0 || slices.ContainsFunc(rule.Matchers, func(m Matcher) bool {
			return m.Not || m.Key != resource.TagService || strings.Contains(m.Value, "svc_")
		})
	})
}

// InboundRules are the from rules of one inbound, first match wins.
type InboundRules struct {
	Inbound *resource.Inbound
	// Rules are those of contract policies.md §4.5 to the letter. A client that has tags of two disjoint groups of items
	// may meet a rule that forgets an item which selects it.
	Rules []SubsetRule
	// Exact, which only a Kind that Permits has, are the rules to enforce where Rules forget something: the first that
	// matches a client is always the merge of all items that select the client. It is nil where Rules are exact, and empty
	// where the rules are too many: then nobody may be let in.
	Exact []SubsetRule

	// others are the inbounds before it on the same address and port.
	others []*resource.Inbound
}

// Of tells whether the rules are those of an inbound.
func (r *InboundRules) Of(in *resource.Inbound) bool {
	return r.Inbound == in || slices.Contains(r.others, in)
}

// ListenerRules are those of one listener of a builtin gateway.
type ListenerRules struct {
	Listener *resource.GatewayListener
	// From are the rules by client, the same for all listeners of a port; first match wins.
	From []SubsetRule
	// To are the rules by tags of the policies that select this listener.
	To []SubsetRule
}

// Matcher is one tag of a subset of clients or services.
type Matcher struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	Not   bool   `json:"not"`
}

// SubsetRule is a conf for everything that has all matchers; no matchers means everything.
type SubsetRule struct {
	Matchers []Matcher
	Conf     any
	Origin   []*resource.Resource
}

// ResourceRule is a conf for one service, one of its sections, or (Target nil section "") a whole mesh.
type ResourceRule struct {
	// Target is the Mesh or the service object.
	Target  resource.Key
	Section string
	// Conf has one element but for kinds that group by hostname.
	Conf   []any
	Origin []RuleOrigin

	// items are what Conf was merged from.
	items []*toItem
}

// RuleOrigin names the policy and the index of the `to` item that a rule came from.
type RuleOrigin struct {
	Policy *resource.Resource
	Index  int
}

// SingleRule is the merged default of a kind without to and from.
type SingleRule struct {
	Conf   any
	Origin []*resource.Resource
}

// ForInbound returns the rules of in and whether any policy selects it.
func (r *Rules) ForInbound(in *resource.Inbound) ([]SubsetRule, bool) {
	if r == nil {
		return nil, false
	}
	for _, f := range r.From {
		if f.Of(in) {
			return f.Rules, true
		}
	}
	return nil, false
}

// Enforced returns the rules that decide who may call in: Exact where there are such, else Rules.
func (r *Rules) Enforced(in *resource.Inbound) []SubsetRule {
	if r == nil {
		return nil
	}
	for _, f := range r.From {
		switch {
		case !f.Of(in):
		case f.Exact != nil:
			return f.Exact
		default:
			return f.Rules
		}
	}
	return nil
}

// ForService returns the conf of RuleForService, nil when no policy says anything.
func (r *Rules) ForService(service resource.Key, section string) []any {
	if rule := r.RuleForService(service, section); rule != nil {
		return rule.Conf
	}
	return nil
}

// RuleForService looks up the rule of an outbound made from a real service: the section, then the service, then the mesh
// (contract policies.md §4.6 step 3). It returns nil when no policy says anything. Section is the port's name, or its
// decimal number when it has none.
func (r *Rules) RuleForService(service resource.Key, section string) *ResourceRule {
	if r == nil {
		return nil
	}
	if r.sorted {
		for _, p := range []place{
			{service, section}, {key: service}, {key: resource.Key{Kind: resource.KindMesh, Name: service.Mesh}},
		} {
			if i, ok := findPlace(r.ToResources, p); ok {
				return &r.ToResources[i]
			}
		}
		return nil
	}
	var whole, mesh *ResourceRule
	for i := range r.ToResources {
		rule := &r.ToResources[i]
		switch {
		case rule.Target == service && rule.Section == section && section != "":
			return rule
		case rule.Target == service && rule.Section == "":
			whole = rule
		case rule.Target.Kind == resource.KindMesh:
			mesh = rule
		}
	}
	if whole != nil {
		return whole
	}
	return mesh
}
