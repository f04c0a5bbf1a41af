package meshhttproute

import "github.com/kuma-dp/kuma-dp/policy"

var _ policy.Routed = (*Spec)(nil)

// RouteRules implements policy.Routed.
func (s *Spec) RouteRules() []policy.RouteRule {
	var out []policy.RouteRule
	for _, to := range s.To {
		for _, rule := range to.Rules {
			out = append(out, policy.RouteRule{To: to.TargetRef, Hash: Hash(rule.Matches), Matches: rule.Matches})
		}
	}
	return out
}
