package alltest_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/policy/all/alltest"
	"github.com/kuma-dp/kuma-dp/resource"
)

// A kind that is never drawn would be proven to have every property.
func TestEveryKindIsDrawn(t *testing.T) {
	kinds := map[resource.Kind]int{}
	seed := 0
	for policies := rapid.Custom(alltest.Policy); seed < 1000; seed++ {
		kinds[policies.Example(seed).Kind]++
	}
	older := resource.OlderPolicies()
	want := older[:]
	for _, k := range all.Kinds() {
		want = append(want, k.Descriptor.Kind)
	}
	for _, k := range want {
		if kinds[k] < 10 {
			t.Errorf("%s is drawn %d times in %d", k, kinds[k], seed)
		}
	}
}

func TestMeshesAreDrawn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		alltest.MeshIn(t, "")
		alltest.World(t)
		alltest.More(t)
	})
}
