package xds

import (
	"fmt"
	"runtime"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/internal/bigmesh"
	"github.com/kuma-dp/kuma-dp/policy/all"
)

// onCores runs f with so many cores.
func onCores(n int, f func()) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(n))
	f()
}

// TestSharesMakeTheSame makes a large proxy on one core and on several, which divide the work in different ways.
func TestSharesMakeTheSame(t *testing.T) {
	size := bigmesh.Size{Zone: "zone-1", Services: 120, Replicas: 1, Reach: 1}
	documents := bigmesh.Documents(size)
	for _, p := range bigmesh.Policies(mixPolicies, size) {
		documents = append(documents, p.Document(0))
	}
	// A warning of each.
	for _, n := range []int{3, 60, 110} {
		documents = append(documents, fmt.Sprintf(`
type: MeshRetry
mesh: default
name: broken-%[1]d
spec: {to: [{targetRef: {kind: MeshService, labels: {kuma.io/display-name: s-%[1]d}}, default: {http: {numRetries: 1, retriableRequestHeaders: [{type: RegularExpression, name: x, value: "a(?=%[1]d)"}]}}}]}
`, n))
	}
	w := topology.Build(size.Zone, decodeAll(t, size.Zone, documents)...)
	make := func() *Snapshot {
		snap, err := NewGenerator(all.Effects()).Generate(mixInput(t, w, newRulebook(all.Kinds(), size.Zone)))
		if err != nil {
			t.Fatal(err)
		}
		return snap
	}
	var one *Snapshot
	onCores(1, func() { one = make() })
	if n := len(one.Warnings()); n != 3 {
		t.Errorf("warnings are %v", one.Warnings())
	}
	for range 3 {
		onCores(4, func() {
			many := make()
			if diff := gocmp.Diff(one.Warnings(), many.Warnings()); diff != "" {
				t.Errorf("warnings (-one core +four):\n%s", diff)
			}
			for _, typeURL := range one.Types() {
				if one.get(typeURL).version != many.get(typeURL).version {
					t.Errorf("%s differs", typeURL)
				}
			}
		})
	}
}
