package xds

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/meshtrafficpermission"
	"github.com/kuma-dp/kuma-dp/resource"
)

// A part of a snapshot is remembered by what the rules say of it: whatever an effect reads must be in the key, also the
// rules that are enforced and not shown.
func TestInboundFingerprints(t *testing.T) {
	in := &resource.Inbound{Port: 80}
	rule := func(action, client string) []policy.SubsetRule {
		return []policy.SubsetRule{{
			Matchers: []policy.Matcher{{Key: resource.TagService, Value: client}}, Conf: &meshtrafficpermission.Conf{Action: action},
		}}
	}
	allow, deny := rule(meshtrafficpermission.Allow, "a"), rule(meshtrafficpermission.Deny, "a")
	printOf := func(r *policy.Rules) string {
		return newFingerprints(all.Effects(), effect.Env{}, map[resource.Kind]*policy.Rules{meshtrafficpermission.Name: r}).inbound(in)
	}
	if printOf(nil) != printOf(&policy.Rules{From: []policy.InboundRules{{Inbound: &resource.Inbound{Port: 81}, Rules: allow}}}) {
		t.Error("rules of another inbound are in the print of this one")
	}
	seen := map[string]int{}
	for i, r := range []*policy.Rules{
		nil,
		{From: []policy.InboundRules{{Inbound: in}}},
		{From: []policy.InboundRules{{Inbound: in, Rules: allow}}},
		{From: []policy.InboundRules{{Inbound: in, Rules: deny}}},
		{From: []policy.InboundRules{{Inbound: in, Rules: rule(meshtrafficpermission.Allow, "b")}}},
		{From: []policy.InboundRules{{Inbound: in, Rules: allow, Exact: []policy.SubsetRule{}}}},
		{From: []policy.InboundRules{{Inbound: in, Rules: allow, Exact: allow}}},
		{From: []policy.InboundRules{{Inbound: in, Rules: allow, Exact: deny}}},
		{From: []policy.InboundRules{{Inbound: in, Rules: append(allow[:1:1], deny...)}}},
	} {
		print := printOf(r)
		if other, ok := seen[print]; ok {
			t.Errorf("rules %d and %d are not told apart", other, i)
		}
		seen[print] = i
	}
}
