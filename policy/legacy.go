package policy

import "github.com/kuma-dp/kuma-dp/resource"

// ForTags looks up the conf of an outbound made from kuma.io/service among the rules by tags: the first that everything
// with these tags meets (contract policies.md §4.5). It returns nil when no policy says anything.
func (r *Rules) ForTags(tags map[string]string) any {
	if r == nil {
		return nil
	}
	for _, rule := range r.To {
		if meets(tags, rule.Matchers) {
			return rule.Conf
		}
	}
	return nil
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
