package meshloadbalancingstrategy

import (
	"strings"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

var _ policy.Targeted = (*Spec)(nil)

// Bounds of sizes; Envoy refuses others.
const (
	maxRingSize  = 8_000_000
	maxTableSize = 5_000_011
	maxNumber    = 1<<32 - 1
)

// CheckSchema implements resource.SchemaChecker.
func (s *Spec) CheckSchema() []resource.Violation {
	return policy.CheckSchema(s, func(f *resource.Faults, p resource.Path, c *Conf) {
		if c.LoadBalancer != nil {
			c.LoadBalancer.checkSchema(f, p.Field("loadBalancer"))
		}
		if a := c.LocalityAwareness; a != nil && a.CrossZone != nil {
			for i, rule := range a.CrossZone.Failover {
				p := p.Field("localityAwareness").Field("crossZone").Field("failover").Index(i)
				f.OneOf(p.Field("to").Field("type"), rule.To.Type, ToNone, ToOnly, ToAny, ToAnyExcept)
			}
		}
	})
}

func (b *LoadBalancer) checkSchema(f *resource.Faults, p resource.Path) {
	policy.NeedOneOf(f, p.Field("type"), b.Type, RoundRobin, LeastRequestType, RingHashType, Random, MaglevType)
	if b.LeastRequest != nil {
		policy.CheckBounds(f, p.Field("leastRequest").Field("choiceCount"), b.LeastRequest.ChoiceCount, 2, maxNumber)
	}
	if r := b.RingHash; r != nil {
		p := p.Field("ringHash")
		f.OneOf(p.Field("hashFunction"), r.HashFunction, XXHash, MurmurHash2)
		policy.CheckBounds(f, p.Field("minRingSize"), r.MinRingSize, 1, maxRingSize)
		policy.CheckBounds(f, p.Field("maxRingSize"), r.MaxRingSize, 1, maxRingSize)
		checkHashSchema(f, p.Field("hashPolicies"), r.HashPolicies)
	}
	if m := b.Maglev; m != nil {
		p := p.Field("maglev")
		policy.CheckBounds(f, p.Field("tableSize"), m.TableSize, 1, maxTableSize)
		checkHashSchema(f, p.Field("hashPolicies"), m.HashPolicies)
	}
}

func checkHashSchema(f *resource.Faults, p resource.Path, policies []HashPolicy) {
	for i, h := range policies {
		p := p.Index(i)
		// Connection is not listed: Kuma's schema has the older name only (contract policies.md §3.9).
		policy.NeedOneOf(f, p.Field("type"), h.Type, HashHeader, HashCookie, HashSourceIP, HashQueryParameter, HashFilterState)
		if h.Header != nil {
			policy.NeedText(f, p.Field("header").Field("name"), h.Header.Name)
		}
		if h.Cookie != nil {
			policy.NeedText(f, p.Field("cookie").Field("name"), h.Cookie.Name)
		}
		if h.QueryParameter != nil {
			policy.NeedText(f, p.Field("queryParameter").Field("name"), h.QueryParameter.Name)
		}
		if h.FilterState != nil {
			policy.NeedText(f, p.Field("filterState").Field("key"), h.FilterState.Key)
		}
	}
}

// Validate implements resource.Spec (contract policies.md §3.1, §3.9).
func (s *Spec) Validate(meta *resource.Meta) []resource.Violation {
	destinations := []string{policy.Mesh, policy.MeshService, policy.MeshMultiZoneService}
	grammar := policy.Grammar{
		Top:         append(policy.AnyTop(), policy.MeshGateway),
		To:          func(policy.TargetRef) []string { return destinations },
		GatewayTags: true,
	}
	onGateway := s.Target().Kind == policy.MeshGateway
	return policy.ValidateItems(s, meta, grammar, func(f *resource.Faults, p resource.Path, item policy.Item) {
		c, ok := item.Conf.(*Conf)
		if !ok {
			return
		}
		if kind := item.TargetRef.Kind; onGateway && c.LoadBalancer != nil && kind != policy.Mesh {
			f.Add(p.Field("targetRef").Field("kind"), "value is not supported, only Mesh is allowed if loadBalancer is set")
		}
		p = p.Field("default")
		if c.LocalityAwareness != nil {
			c.LocalityAwareness.validate(f, p.Field("localityAwareness"), item.TargetRef)
		}
		if c.LoadBalancer != nil {
			c.LoadBalancer.validate(f, p.Field("loadBalancer"))
		}
	})
}

func (a *LocalityAwareness) validate(f *resource.Faults, p resource.Path, to policy.TargetRef) {
	if a.LocalZone != nil {
		a.LocalZone.validate(f, p.Field("localZone"))
	}
	if a.CrossZone == nil {
		return
	}
	p = p.Field("crossZone")
	if to.Kind == policy.MeshService && (to.SectionName != "" || len(to.Labels) > 0) {
		f.Add(p, "must not be set: MeshService traffic is local")
	}
	for i, rule := range a.CrossZone.Failover {
		rule.To.validate(f, p.Field("failover").Index(i).Field("to"))
	}
	if t := a.CrossZone.FailoverThreshold; t != nil {
		p := p.Field("failoverThreshold").Field("percentage")
		if n, ok := policy.Decimal(t.Percentage); ok && n == 0 {
			f.Add(p, "must be greater than 0")
		} else {
			policy.CheckDecimalPercent(f, p, &t.Percentage)
		}
	}
}

func (z *LocalZone) validate(f *resource.Faults, p resource.Path) {
	p = p.Field("affinityTags")
	weighted := 0
	for i, tag := range z.AffinityTags {
		if tag.Key == "" {
			f.Add(p.Index(i).Field("key"), "must not be empty")
		}
		if tag.Weight != nil {
			weighted++
		}
		f.Count(p.Index(i).Field("weight"), tag.Weight)
	}
	if weighted > 0 && weighted < len(z.AffinityTags) {
		f.Add(p, "all or none affinity tags should have weight")
	}
}

func (z ToZone) validate(f *resource.Faults, p resource.Path) {
	switch z.Type {
	case ToAny, ToNone:
		if len(z.Zones) > 0 {
			f.Add(p.Field("zones"), "must be empty when type is "+z.Type)
		}
	case ToOnly, ToAnyExcept:
		if len(z.Zones) == 0 {
			f.Add(p.Field("zones"), "must not be empty when type is "+z.Type)
		}
	default:
		f.Add(p.Field("type"), "unrecognized type")
	}
}

func (b *LoadBalancer) validate(f *resource.Faults, p resource.Path) {
	if l := b.LeastRequest; l != nil && l.ActiveRequestBias != nil {
		p := p.Field("leastRequest").Field("activeRequestBias")
		switch n, ok := policy.Decimal(*l.ActiveRequestBias); {
		case !ok:
			f.Add(p, "string must be a valid number")
		case n < 0:
			f.Add(p, "must be greater or equal then: 0")
		}
	}
	if b.RingHash != nil {
		validateHash(f, p.Field("ringHash").Field("hashPolicies"), b.RingHash.HashPolicies)
	}
	if b.Maglev != nil {
		validateHash(f, p.Field("maglev").Field("hashPolicies"), b.Maglev.HashPolicies)
	}
}

func validateHash(f *resource.Faults, p resource.Path, policies []HashPolicy) {
	for i, h := range policies {
		p := p.Index(i)
		need := func(field string, given bool) {
			if !given {
				f.Add(p.Field(field), "must be defined")
			}
		}
		switch h.Type {
		case HashHeader:
			need("header", h.Header != nil)
		case HashCookie:
			need("cookie", h.Cookie != nil)
			if h.Cookie != nil && h.Cookie.Path != "" && !strings.HasPrefix(h.Cookie.Path, "/") {
				f.Add(p.Field("cookie").Field("path"), "must be an absolute path")
			}
		case HashQueryParameter:
			need("queryParameter", h.QueryParameter != nil)
		case HashFilterState:
			need("filterState", h.FilterState != nil)
		}
	}
}
