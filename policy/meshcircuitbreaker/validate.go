package meshcircuitbreaker

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

var _ policy.Targeted = (*Spec)(nil)

// CheckSchema implements resource.SchemaChecker.
func (s *Spec) CheckSchema() []resource.Violation {
	return policy.CheckSchema[Conf](s, nil)
}

// Validate implements resource.Spec (contract policies.md §3.1, §3.6).
func (s *Spec) Validate(meta *resource.Meta) []resource.Violation {
	services := []string{policy.Mesh, policy.MeshService, policy.MeshMultiZoneService}
	grammar := policy.Grammar{
		Top:         append(policy.AnyTop(), policy.MeshGateway),
		To:          func(policy.TargetRef) []string { return services },
		From:        func(policy.TargetRef) []string { return []string{policy.Mesh} },
		GatewayTags: true,
	}
	return policy.Validate(s, meta, grammar, validateConf)
}

func validateConf(f *resource.Faults, p resource.Path, c *Conf) {
	if c.ConnectionLimits == nil && c.OutlierDetection == nil {
		f.Add(p, "at least one of: 'connectionLimits' or 'outlierDetection' should be configured")
	}
	if l := c.ConnectionLimits; l != nil {
		p := p.Field("connectionLimits")
		f.Count(p.Field("maxConnections"), l.MaxConnections)
		f.Count(p.Field("maxConnectionPools"), l.MaxConnectionPools)
		f.Count(p.Field("maxPendingRequests"), l.MaxPendingRequests)
		f.Count(p.Field("maxRetries"), l.MaxRetries)
		f.Count(p.Field("maxRequests"), l.MaxRequests)
	}
	if o := c.OutlierDetection; o != nil {
		p := p.Field("outlierDetection")
		f.AboveZero(p.Field("interval"), o.Interval)
		f.AboveZero(p.Field("baseEjectionTime"), o.BaseEjectionTime)
		f.Percent(p.Field("maxEjectionPercent"), o.MaxEjectionPercent)
		o.Detectors.validate(f, p.Field("detectors"))
	}
}

func (d *Detectors) validate(f *resource.Faults, p resource.Path) {
	switch {
	case d == nil:
		f.Add(p, "must be defined")
		return
	case *d == (Detectors{}):
		f.Add(p, "must have at least one defined: totalFailures, gatewayFailures, localOriginFailures, successRate, failurePercentage")
		return
	}
	d.TotalFailures.validate(f, p.Field("totalFailures"))
	d.GatewayFailures.validate(f, p.Field("gatewayFailures"))
	d.LocalOriginFailures.validate(f, p.Field("localOriginFailures"))
	if s := d.SuccessRate; s != nil {
		p := p.Field("successRate")
		f.Count(p.Field("minimumHosts"), s.MinimumHosts)
		f.Count(p.Field("requestVolume"), s.RequestVolume)
		if s.StandardDeviationFactor != nil {
			p := p.Field("standardDeviationFactor")
			switch v, ok := policy.Decimal(*s.StandardDeviationFactor); {
			case !ok:
				f.Add(p, "string must be a valid number")
			case v < 0:
				f.Add(p, "must be greater or equal then: 0")
			}
		}
	}
	if s := d.FailurePercentage; s != nil {
		p := p.Field("failurePercentage")
		f.Count(p.Field("minimumHosts"), s.MinimumHosts)
		f.Count(p.Field("requestVolume"), s.RequestVolume)
		f.Percent(p.Field("threshold"), s.Threshold)
	}
}

func (c *Consecutive) validate(f *resource.Faults, p resource.Path) {
	if c != nil {
		f.Count(p.Field("consecutive"), c.Consecutive)
	}
}
