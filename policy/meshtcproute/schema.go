// Package meshtcproute sends connections to other services than they were made for (contract policies.md §3.8).
package meshtcproute

import "github.com/kuma-dp/kuma-dp/policy"

// Spec is the body of a MeshTCPRoute.
type Spec struct {
	// TargetRef is the proxies whose connections are routed, the whole mesh when absent.
	TargetRef *policy.TargetRef `json:"targetRef,omitempty"`
	// To is rules by destination.
	To []To `json:"to,omitempty"`
}

// To is a destination with its rule, at most one.
type To struct {
	// TargetRef is the destination that the connections were made for.
	TargetRef policy.TargetRef `json:"targetRef" schema:"required"`
	// Rules are at most one; without it connections go to the destination.
	Rules []Rule `json:"rules,omitzero"`
}

// Conf is what an item says, and what the items of several policies are merged into. It has one rule: rules without
// matches are all equal, so the one of the highest precedence stays.
type Conf struct {
	Rules []Rule `json:"rules,omitempty"`
}

// Rule takes all connections.
type Rule struct {
	// Default is what happens to connections.
	Default RuleConf `json:"default" schema:"required"`
}

// RuleConf says where connections go.
type RuleConf struct {
	// BackendRefs are where connections go, by their shares.
	BackendRefs []policy.BackendRef `json:"backendRefs,omitzero"`
}

// BackendRefs returns where connections go.
func (c *Conf) BackendRefs() []policy.BackendRef {
	if len(c.Rules) == 0 {
		return nil
	}
	return c.Rules[0].Default.BackendRefs
}

// Target implements policy.Targeted.
func (s *Spec) Target() policy.TargetRef { return policy.TargetOrMesh(s.TargetRef) }

// ToItems implements policy.Targeted. An item without rules is a route to its own targetRef: a MeshService without a port,
// which means the older service of that name.
func (s *Spec) ToItems() []policy.Item {
	out := make([]policy.Item, 0, len(s.To))
	for _, to := range s.To {
		rules := to.Rules
		if len(rules) == 0 {
			weight := uint32(1)
			own := policy.BackendRef{TargetRef: to.TargetRef, Weight: &weight}
			rules = []Rule{{Default: RuleConf{BackendRefs: []policy.BackendRef{own}}}}
		}
		out = append(out, policy.Item{TargetRef: to.TargetRef, Conf: &Conf{Rules: rules}})
	}
	return out
}

// FromItems implements policy.Targeted.
func (*Spec) FromItems() []policy.Item { return nil }

// Default implements policy.Targeted.
func (*Spec) Default() any { return nil }
