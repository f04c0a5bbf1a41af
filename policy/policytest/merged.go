package policytest

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Merged returns, as JSON, what policies of ascending precedence mean together: their default, or without one the conf of
// the only `from` rule of an inbound. Specs are written as for Case.
func Merged(t *testing.T, kind policy.Kind, specs ...string) string {
	t.Helper()
	registry := resource.NewRegistry(append(resource.Core(), kind.Descriptor)...)
	decode := func(doc string) *resource.Resource {
		r, err := registry.DecodeYAML([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		if faults := resource.Validate(r); len(faults) > 0 {
			t.Fatalf("%s: %v", doc, faults)
		}
		return r
	}
	dp := decode("{type: Dataplane, mesh: m, name: d, networking: {address: 10.0.0.1, inbound: [{port: 80, tags: {kuma.io/service: s}}]}}")
	policies := make([]*resource.Resource, len(specs))
	for i, spec := range specs {
		// The smaller name wins.
		policies[i] = decode(fmt.Sprintf("{type: %s, mesh: m, name: p%03d, spec: {%s}}", kind.Descriptor.Kind, len(specs)-i, spec))
	}
	rules, err := policy.BuildFrom(kind, dp, policy.Matched(kind, dp, policies, "zone-a", false))
	if err != nil {
		t.Fatal(err)
	}
	var conf any
	switch {
	case rules.Single != nil:
		conf = rules.Single.Conf
	case len(rules.From) == 1 && len(rules.From[0].Rules) == 1:
		conf = rules.From[0].Rules[0].Conf
	default:
		t.Fatalf("want one rule, got %+v", rules)
	}
	out, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
