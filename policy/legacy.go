package policy

import (
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
)

// ForTags looks up the conf of an outbound made from kuma.io/service among the rules by tags: the first that everything
// with these tags meets (contract policies.md §4.5). It returns nil when no policy says anything.
func (r *Rules) ForTags(tags map[string]string) any {
	if rule := r.ruleForTags(tags); rule != nil {
		return rule.Conf
	}
	return nil
}

func (r *Rules) ruleForTags(tags map[string]string) *SubsetRule {
	if r == nil {
		return nil
	}
	for i := range r.To {
		if meets(tags, r.To[i].Matchers) {
			return &r.To[i]
		}
	}
	return nil
}

// RouteScoped tells whether there are rules for single routes: from policies for a MeshHTTPRoute.
func (r *Rules) RouteScoped() bool {
	return r != nil && slices.ContainsFunc(r.To, func(rule SubsetRule) bool {
		return slices.ContainsFunc(rule.Matchers, func(m Matcher) bool { return m.Key == RuleMatchesHash })
	})
}

// RoutesByCluster is RoutesByName for the name of the cluster of a service object.
func (r *Rules) RoutesByCluster(cluster string) (confs []any, origin []RuleOrigin) {
	if r == nil || r.plain {
		return nil, nil
	}
	return r.RoutesByName(cluster)
}

// RoutesByName looks up the conf of a kind of routes for a kuma.io/service, and the items that it was merged from, in
// ascending precedence. Confs are nil when no policy says anything.
func (r *Rules) RoutesByName(service string) (confs []any, origin []RuleOrigin) {
	rule := r.ruleForTags(map[string]string{resource.TagService: service})
	if rule == nil {
		return nil, nil
	}
	for _, p := range rule.Origin {
		spec, ok := p.Spec.(Targeted)
		if !ok {
			continue
		}
		for i, item := range spec.ToItems() {
			if item.TargetRef.Kind == Mesh || item.TargetRef.Kind == MeshService && item.TargetRef.Name == service {
				origin = append(origin, RuleOrigin{Policy: p, Index: i})
			}
		}
	}
	return []any{rule.Conf}, origin
}

// ForLegacyService is ForTags of a kuma.io/service.
func (r *Rules) ForLegacyService(name string) any {
	return r.ForTags(map[string]string{resource.TagService: name})
}

func meets(tags map[string]string, ms []Matcher) bool {
	for _, m := range ms {
		if v, ok := tags[m.Key]; m.Not == (ok && v == m.Value) {
			return false
		}
	}
	return true
}

// ForOutside merges what the policies say about a kuma.io/service that no outbound has, such as that of traffic that passes
// by: the items that everything with these tags meets. Unlike ForTags it does so in every mode of the mesh (contract
// effects-security.md §5). It returns nil when no policy says anything, and needs Policies.
func (r *Rules) ForOutside(kind Kind, tags map[string]string) (any, error) {
	var confs []any
	for _, m := range r.Policies {
		for _, item := range m.entry.tagged {
			if !slices.ContainsFunc(item.tags, func(own Matcher) bool { return tags[own.Key] != own.Value }) {
				confs = append(confs, item.conf)
			}
		}
	}
	if len(confs) == 0 {
		return nil, nil
	}
	return mergeOne(kind, confs)
}
