package meshratelimit

import (
	"fmt"
	"time"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// MinInterval is what every Rate.Interval must exceed.
const MinInterval = 50 * time.Millisecond

var _ policy.Targeted = (*Spec)(nil)

// CheckSchema implements resource.SchemaChecker.
func (s *Spec) CheckSchema() []resource.Violation {
	return policy.CheckSchema(s, func(f *resource.Faults, p resource.Path, c *Conf) {
		if l := c.Local; l != nil && l.HTTP != nil && l.HTTP.OnRateLimit != nil {
			l.HTTP.OnRateLimit.Headers.CheckSchema(f, p.Field("local").Field("http").Field("onRateLimit").Field("headers"))
		}
	})
}

// Validate implements resource.Spec (contract policies.md §3.1, §3.14).
func (s *Spec) Validate(meta *resource.Meta) []resource.Violation {
	grammar := policy.Grammar{
		Top:         policy.AnyTop(),
		TopSystem:   []string{policy.MeshGateway, policy.MeshHTTPRoute},
		To:          policy.MeshIfGateways,
		From:        policy.UnlessGateways(policy.Mesh),
		GatewayTags: true,
	}
	return policy.Validate(s, meta, grammar, func(f *resource.Faults, p resource.Path, c *Conf) {
		p = p.Field("local")
		switch {
		case c.Local == nil:
			f.Add(p, "must be defined")
		case *c.Local == (Local{}):
			f.Add(p, "must have at least one defined: tcp, http")
		default:
			c.Local.validate(f, p)
		}
	})
}

// Advice implements policy.Advised. The rate may come from another policy, so that a status counts without one.
func (s *Spec) Advice() []resource.Violation {
	return policy.Advise(s, func(f *resource.Faults, p resource.Path, c *Conf) {
		if c.Local == nil || c.Local.HTTP == nil || c.Local.HTTP.OnRateLimit.accepted() {
			return
		}
		on := c.Local.HTTP.OnRateLimit
		f.Add(p.Field("local").Field("http").Field("onRateLimit").Field("status"), fmt.Sprintf("Envoy knows no status %d and refuses the listener: choose another", *on.Status))
	})
}

func (l *Local) validate(f *resource.Faults, p resource.Path) {
	if l.HTTP != nil {
		l.HTTP.RequestRate.validate(f, p.Field("http").Field("requestRate"))
	}
	if l.TCP != nil {
		l.TCP.ConnectionRate.validate(f, p.Field("tcp").Field("connectionRate"))
	}
}

func (r *Rate) validate(f *resource.Faults, p resource.Path) {
	if r == nil {
		return
	}
	f.Count(p.Field("num"), &r.Num)
	if r.Interval.Duration <= MinInterval {
		f.Add(p.Field("interval"), "must be greater than: "+MinInterval.String())
	}
}
