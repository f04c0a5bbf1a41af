package meshtimeout

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

var _ policy.Targeted = (*Spec)(nil)

// CheckSchema implements resource.SchemaChecker.
func (s *Spec) CheckSchema() []resource.Violation {
	return policy.CheckSchema[Conf](s, nil)
}

// Validate implements resource.Spec (contract policies.md §3.1, §3.4).
func (s *Spec) Validate(meta *resource.Meta) []resource.Violation {
	grammar := policy.Grammar{
		Top:       policy.AnyTop(),
		TopSystem: []string{policy.MeshGateway, policy.MeshHTTPRoute},
		To:        policy.ServicesUnlessGatewayOrRoute,
		From: func(top policy.TargetRef) []string {
			if top.Kind == policy.MeshGateway || top.Kind == policy.MeshHTTPRoute {
				return nil
			}
			return []string{policy.Mesh}
		},
		GatewayTags: true,
	}
	onRoute := s.Target().Kind == policy.MeshHTTPRoute
	return policy.Validate(s, meta, grammar, func(f *resource.Faults, p resource.Path, c *Conf) {
		c.validate(f, p, onRoute)
	})
}

func (c *Conf) validate(f *resource.Faults, p resource.Path, onRoute bool) {
	if onRoute {
		refuse := func(p resource.Path, d *resource.Duration) {
			if d != nil {
				f.Add(p, "can't be specified when top-level TargetRef is referencing MeshHTTPRoute")
			}
		}
		refuse(p.Field("connectionTimeout"), c.ConnectionTimeout)
		refuse(p.Field("idleTimeout"), c.IdleTimeout)
		if c.HTTP != nil {
			refuse(p.Field("http").Field("maxStreamDuration"), c.HTTP.MaxStreamDuration)
			refuse(p.Field("http").Field("maxConnectionDuration"), c.HTTP.MaxConnectionDuration)
		}
	}
	if *c == (Conf{}) {
		f.Add(p, "at least one timeout should be configured")
	}
	f.AboveZero(p.Field("connectionTimeout"), c.ConnectionTimeout)
	f.NotNegative(p.Field("idleTimeout"), c.IdleTimeout)
	if c.HTTP != nil {
		c.HTTP.validate(f, p.Field("http"))
	}
}

func (h *HTTP) validate(f *resource.Faults, p resource.Path) {
	// requestHeadersTimeout alone is not enough in Kuma either (contract policies.md §3.4).
	if h.RequestTimeout == nil && h.StreamIdleTimeout == nil && h.MaxStreamDuration == nil && h.MaxConnectionDuration == nil {
		f.Add(p, "at least one timeout in this section should be configured")
	}
	f.NotNegative(p.Field("requestTimeout"), h.RequestTimeout)
	f.NotNegative(p.Field("streamIdleTimeout"), h.StreamIdleTimeout)
	f.NotNegative(p.Field("maxStreamDuration"), h.MaxStreamDuration)
	f.NotNegative(p.Field("maxConnectionDuration"), h.MaxConnectionDuration)
	f.NotNegative(p.Field("requestHeadersTimeout"), h.RequestHeadersTimeout)
}
