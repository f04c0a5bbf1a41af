package policy

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/resource"
)

func TestForTags(t *testing.T) {
	service := func(v string, not bool) Matcher { return Matcher{Key: resource.TagService, Value: v, Not: not} }
	hash := Matcher{Key: "__rule-matches-hash__", Value: "h"}
	notHash := hash
	notHash.Not = true
	rules := &Rules{To: []SubsetRule{
		{Matchers: []Matcher{service("a", false), hash}, Conf: "a on route h"},
		{Matchers: []Matcher{service("a", false), notHash}, Conf: "a"},
		{Matchers: []Matcher{service("b", false)}, Conf: "b"},
		{Matchers: []Matcher{service("a", true), service("c", true)}, Conf: "neither a nor c"},
		{Matchers: []Matcher{}, Conf: "all"},
	}}
	for _, tt := range []struct {
		name string
		tags map[string]string
		want any
	}{
		{"service", map[string]string{resource.TagService: "a"}, "a"},
		{"service on a route", map[string]string{resource.TagService: "a", hash.Key: "h"}, "a on route h"},
		{"on another route", map[string]string{resource.TagService: "a", hash.Key: "g"}, "a"},
		{"first of two", map[string]string{resource.TagService: "b"}, "b"},
		{"negated", map[string]string{resource.TagService: "x"}, "neither a nor c"},
		{"negated absent", nil, "neither a nor c"},
		{"everything", map[string]string{resource.TagService: "c"}, "all"},
	} {
		if got := rules.ForTags(tt.tags); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
	if got := rules.ForLegacyService("b"); got != "b" {
		t.Errorf("service b: got %v", got)
	}
	var none *Rules
	if got := none.ForLegacyService("b"); got != nil {
		t.Errorf("no rules: got %v", got)
	}
	if got := (&Rules{To: rules.To[:3]}).ForLegacyService("x"); got != nil {
		t.Errorf("no rule: got %v", got)
	}
}
