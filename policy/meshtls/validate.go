package meshtls

import (
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

var _ policy.Targeted = (*Spec)(nil)

// CheckSchema implements resource.SchemaChecker.
func (s *Spec) CheckSchema() []resource.Violation {
	return policy.CheckSchema(s, func(f *resource.Faults, p resource.Path, c *Conf) {
		f.OneOf(p.Field("mode"), c.Mode, Permissive, Strict)
		for i, name := range c.TLSCiphers {
			// OneOf lets an empty value pass, which stands for an absent one elsewhere.
			if !slices.Contains(Ciphers(), name) {
				f.Add(p.Field("tlsCiphers").Index(i), "in body should be one of ["+strings.Join(Ciphers(), " ")+"]")
			}
		}
		if v := c.TLSVersion; v != nil {
			f.OneOf(p.Field("tlsVersion").Field("max"), v.Max, Versions()...)
			f.OneOf(p.Field("tlsVersion").Field("min"), v.Min, Versions()...)
		}
	})
}

// Validate implements resource.Spec (contract policies.md §3.1, §5).
func (s *Spec) Validate(meta *resource.Meta) []resource.Violation {
	grammar := policy.Grammar{
		Top:      []string{policy.Mesh, policy.MeshSubset},
		From:     func(policy.TargetRef) []string { return []string{policy.Mesh} },
		Optional: true,
	}
	wholeMesh := s.Target().Kind == policy.Mesh
	return policy.Validate(s, meta, grammar, func(f *resource.Faults, p resource.Path, c *Conf) {
		if !wholeMesh && c.TLSCiphers != nil {
			f.Add(p.Field("tlsCiphers"), "tlsCiphers can only be defined with top level targetRef kind: Mesh")
		}
		if !wholeMesh && c.TLSVersion != nil {
			f.Add(p.Field("tlsVersion"), "tlsVersion can only be defined with top level targetRef kind: Mesh")
		}
		if c.TLSVersion != nil && c.TLSVersion.reversed() {
			f.Add(p.Field("tlsVersion").Field("min"), "min version must be lower than max")
		}
	})
}

// reversed tells whether both ends are given and the lower is above the upper; equal ones mean a single version.
func (v *Version) reversed() bool {
	low, high := slices.Index(Versions(), v.Min), slices.Index(Versions(), v.Max)
	return low > 0 && high > 0 && low > high
}
