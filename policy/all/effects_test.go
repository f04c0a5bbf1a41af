package all_test

import (
	"slices"
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/policy/effect"
)

// A kind that is known and changes nothing would be a promise that is not kept.
func TestEveryKindHasAnEffect(t *testing.T) {
	for _, k := range all.Kinds() {
		if !slices.ContainsFunc(all.Effects(), func(e effect.Kind) bool { return e.Kind == k.Descriptor.Kind }) {
			t.Errorf("%s has no effect", k.Descriptor.Kind)
		}
	}
}
