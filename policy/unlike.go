package policy

import (
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
)

// Unlike names the services of which the rules of one kind for one proxy may say something else than others, those of an
// earlier moment; all says that it may be any service. Rules may be nil. It compares by identity, so that it finds too
// many rather than too few.
func (r *Rules) Unlike(other *Rules) (services map[resource.Key]bool, all bool) {
	a, b := r.resourceRules(), other.resourceRules()
	if len(a) > 0 && len(a) == len(b) && &a[0] == &b[0] {
		return nil, false
	}
	services = map[resource.Key]bool{}
	differs := func(rule *ResourceRule) {
		services[rule.Target] = true
		all = all || rule.Target.Kind == resource.KindMesh
	}
	for len(a) > 0 && len(b) > 0 {
		order := 0
		if a[0].Target != b[0].Target || a[0].Section != b[0].Section {
			order = comparePlaces(place{a[0].Target, a[0].Section}, place{b[0].Target, b[0].Section})
		} else if !slices.Equal(a[0].Conf, b[0].Conf) {
			differs(&a[0])
		}
		if order <= 0 {
			if order < 0 {
				differs(&a[0])
			}
			a = a[1:]
		}
		if order >= 0 {
			if order > 0 {
				differs(&b[0])
			}
			b = b[1:]
		}
	}
	for _, rest := range [][]ResourceRule{a, b} {
		for i := range rest {
			differs(&rest[i])
		}
	}
	return services, all || r.unsorted() || other.unsorted()
}

func (r *Rules) resourceRules() []ResourceRule {
	if r == nil {
		return nil
	}
	return r.ToResources
}

func (r *Rules) unsorted() bool { return r != nil && len(r.ToResources) > 0 && !r.sorted }

// Plain tells whether no rule by tags could be for a service object by the name of its cluster, as those of routes can.
func (r *Rules) Plain() bool { return r == nil || r.plain || len(r.To) == 0 }

// SameFrom tells whether rules say the same of inbounds as others, by identity: with false they may yet.
func (r *Rules) SameFrom(other *Rules) bool {
	var a, b []InboundRules
	if r != nil {
		a = r.From
	}
	if other != nil {
		b = other.From
	}
	subset := func(x, y SubsetRule) bool { return x.Conf == y.Conf && slices.Equal(x.Matchers, y.Matchers) }
	return slices.EqualFunc(a, b, func(x, y InboundRules) bool {
		return x.Inbound == y.Inbound && slices.EqualFunc(x.Rules, y.Rules, subset) && slices.EqualFunc(x.Exact, y.Exact, subset) &&
			(x.Exact == nil) == (y.Exact == nil)
	})
}
