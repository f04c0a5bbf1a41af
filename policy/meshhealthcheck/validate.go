package meshhealthcheck

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

var _ policy.Targeted = (*Spec)(nil)

// CheckSchema implements resource.SchemaChecker.
func (s *Spec) CheckSchema() []resource.Violation {
	return policy.CheckSchema(s, func(f *resource.Faults, p resource.Path, c *Conf) {
		if c.HTTP != nil {
			c.HTTP.RequestHeadersToAdd.CheckSchema(f, p.Field("http").Field("requestHeadersToAdd"))
		}
	})
}

// Validate implements resource.Spec (contract policies.md §3.1, §3.10).
func (s *Spec) Validate(meta *resource.Meta) []resource.Violation {
	services := []string{policy.Mesh, policy.MeshService, policy.MeshMultiZoneService}
	grammar := policy.Grammar{
		Top:         append(policy.AnyTop(), policy.MeshGateway),
		To:          func(policy.TargetRef) []string { return services },
		GatewayTags: true,
	}
	return policy.Validate(s, meta, grammar, validateConf)
}

func validateConf(f *resource.Faults, p resource.Path, c *Conf) {
	f.AboveZero(p.Field("interval"), c.Interval)
	f.AboveZero(p.Field("timeout"), c.Timeout)
	f.Count(p.Field("unhealthyThreshold"), c.UnhealthyThreshold)
	f.Count(p.Field("healthyThreshold"), c.HealthyThreshold)
	f.AboveZero(p.Field("initialJitter"), c.InitialJitter)
	f.AboveZero(p.Field("intervalJitter"), c.IntervalJitter)
	f.Percent(p.Field("intervalJitterPercent"), c.IntervalJitterPercent)
	policy.CheckDecimalPercent(f, p.Field("healthyPanicThreshold"), c.HealthyPanicThreshold)
	f.AboveZero(p.Field("noTrafficInterval"), c.NoTrafficInterval)
	if c.HTTP != nil {
		for i, status := range c.HTTP.ExpectedStatuses {
			if status < 100 || status > 599 {
				f.Add(p.Field("http").Field("expectedStatuses").Index(i), "must be in inclusive range [100, 599]")
			}
		}
	}
	if c.HTTP == nil && c.TCP == nil && c.GRPC == nil {
		f.Add(p, "must have at least one defined: http, tcp, grpc")
	}
}
