package meshtrafficpermission

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

var _ policy.Targeted = (*Spec)(nil)

// CheckSchema implements resource.SchemaChecker.
func (s *Spec) CheckSchema() []resource.Violation {
	return policy.CheckSchema(s, func(f *resource.Faults, p resource.Path, c *Conf) {
		f.OneOf(p.Field("action"), c.Action, Allow, Deny, AllowWithShadowDeny)
	})
}

// Validate implements resource.Spec (contract policies.md §3.1, §3.3).
func (s *Spec) Validate(meta *resource.Meta) []resource.Violation {
	clients := []string{policy.Mesh, policy.MeshSubset, policy.MeshService, policy.MeshServiceSubset}
	grammar := policy.Grammar{
		Top:  policy.AnyTop(),
		From: func(policy.TargetRef) []string { return clients },
	}
	return policy.Validate(s, meta, grammar, func(f *resource.Faults, p resource.Path, c *Conf) {
		if c.Action == "" {
			f.Add(p.Field("action"), "must be defined")
		}
	})
}
