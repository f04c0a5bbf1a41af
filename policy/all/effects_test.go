package all_test

import (
	"slices"
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/older"
	"github.com/kuma-dp/kuma-dp/resource"
)

// A kind that is known and changes nothing would be a promise that is not kept.
func TestEveryKindHasAnEffect(t *testing.T) {
	for _, k := range all.Kinds() {
		if !slices.ContainsFunc(all.Effects(), func(e effect.Kind) bool { return e.Kind == k.Descriptor.Kind }) {
			t.Errorf("%s has no effect", k.Descriptor.Kind)
		}
	}
	var olderKinds []resource.Kind
	for _, d := range all.Descriptors() {
		if _, ok := d.NewSpec().(resource.OlderPolicy); ok {
			olderKinds = append(olderKinds, d.Kind)
		}
	}
	if kinds := resource.OlderPolicies(); !slices.Equal(olderKinds, kinds[:]) {
		t.Errorf("older policies are %v, %v of them have an effect", olderKinds, kinds)
	}
	if !slices.ContainsFunc(all.Effects(), func(e effect.Kind) bool { return e.Kind == older.Name }) {
		t.Error("older policies have no effect")
	}
}
