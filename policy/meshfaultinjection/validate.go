package meshfaultinjection

import (
	"fmt"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

var _ policy.Targeted = (*Spec)(nil)

// CheckSchema implements resource.SchemaChecker.
func (s *Spec) CheckSchema() []resource.Violation {
	return policy.CheckSchema[Conf](s, nil)
}

// Validate implements resource.Spec (contract policies.md §3.1, §3.15).
func (s *Spec) Validate(meta *resource.Meta) []resource.Violation {
	grammar := policy.Grammar{
		Top:         policy.AnyTop(),
		TopSystem:   []string{policy.MeshGateway},
		To:          policy.MeshIfGateways,
		From:        policy.UnlessGateways(policy.Mesh, policy.MeshSubset, policy.MeshService, policy.MeshServiceSubset),
		GatewayTags: true,
	}
	return policy.Validate(s, meta, grammar, func(f *resource.Faults, p resource.Path, c *Conf) {
		for i := range c.HTTP {
			c.HTTP[i].validate(f, p.Field("http").Index(i))
		}
	})
}

// Advice implements policy.Advised.
func (s *Spec) Advice() []resource.Violation {
	return policy.Advise(s, func(f *resource.Faults, p resource.Path, c *Conf) {
		for i := range c.HTTP {
			c.HTTP[i].advise(f, p.Field("http").Index(i))
		}
	})
}

func (t *Fault) advise(f *resource.Faults, p resource.Path) {
	if t.Abort != nil && !t.Abort.possible() {
		f.Add(p.Field("abort").Field("httpStatus"), fmt.Sprintf("Envoy answers with no status below 200, the abort with %d is left out", t.Abort.HTTPStatus))
	}
	if t.Delay != nil && t.Delay.Value.Duration <= 0 {
		f.Add(p.Field("delay").Field("value"), "Envoy refuses the listener with a delay of zero: remove the delay")
	}
	if b := t.ResponseBandwidth; b != nil {
		if _, ok := b.kbps(); !ok {
			f.Add(p.Field("responseBandwidth").Field("limit"), "it is less than 1kbps and left out")
		}
	}
}

func (t *Fault) validate(f *resource.Faults, p resource.Path) {
	if a := t.Abort; a != nil {
		p := p.Field("abort")
		if a.HTTPStatus < 100 || a.HTTPStatus > 599 {
			f.Add(p.Field("httpStatus"), "must be in inclusive range [100, 599]")
		}
		policy.CheckDecimalPercent(f, p.Field("percentage"), &a.Percentage)
	}
	if d := t.Delay; d != nil {
		p := p.Field("delay")
		f.NotNegative(p.Field("value"), &d.Value)
		policy.CheckDecimalPercent(f, p.Field("percentage"), &d.Percentage)
	}
	if b := t.ResponseBandwidth; b != nil {
		p := p.Field("responseBandwidth")
		if _, err := resource.ParseBandwidth(b.Limit); err != nil {
			f.Add(p.Field("limit"), "must be in kbps/Mbps/Gbps units")
		}
		policy.CheckDecimalPercent(f, p.Field("percentage"), &b.Percentage)
	}
}
