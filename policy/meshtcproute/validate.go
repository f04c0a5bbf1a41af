package meshtcproute

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

var _ policy.Targeted = (*Spec)(nil)

// CheckSchema implements resource.SchemaChecker.
func (s *Spec) CheckSchema() []resource.Violation {
	i := -1
	return policy.CheckSchemaItems(s, func(f *resource.Faults, p resource.Path, _ policy.Item) {
		// The conf of an item without rules is made up.
		i++
		p = p.Field("rules")
		if len(s.To[i].Rules) > 1 {
			f.Add(p, "in body should have at most 1 items")
		}
		for j, rule := range s.To[i].Rules {
			p := p.Index(j).Field("default").Field("backendRefs")
			switch refs := rule.Default.BackendRefs; {
			case refs == nil:
				f.Add(p, "in body is required")
			case len(refs) == 0:
				f.Add(p, "in body should have at least 1 items")
			}
			for k, ref := range rule.Default.BackendRefs {
				ref.CheckSchema(f, p.Index(k))
			}
		}
	})
}

// Validate implements resource.Spec (contract policies.md §3.1, §3.8).
func (s *Spec) Validate(meta *resource.Meta) []resource.Violation {
	grammar := policy.Grammar{
		Top:         policy.AnyTop(),
		TopSystem:   []string{policy.MeshGateway},
		To:          policy.RouteDestinations,
		GatewayTags: true,
	}
	i := -1
	return policy.ValidateItems(s, meta, grammar, func(f *resource.Faults, p resource.Path, _ policy.Item) {
		i++
		for j, rule := range s.To[i].Rules {
			for k, ref := range rule.Default.BackendRefs {
				ref.Validate(f, p.Field("rules").Index(j).Field("default").Field("backendRefs").Index(k))
			}
		}
	})
}
