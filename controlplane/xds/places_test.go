package xds

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/all"
)

// TestPolicyOnSharedPort: two inbounds on one address and port are one listener. A policy that selects only the one whose
// listener it is not acts on it nevertheless.
func TestPolicyOnSharedPort(t *testing.T) {
	const world = `type: Mesh
name: m
meshServices: {mode: Exclusive}
---
type: Dataplane
mesh: m
name: d1
networking:
  address: 10.2.0.1
  inbound:
  - {port: 7002, tags: {kuma.io/service: s1, kuma.io/protocol: tcp}}
  - {port: 7002, address: %s, tags: {kuma.io/service: s2, kuma.io/protocol: http}}
---
type: MeshAccessLog
mesh: m
name: l
spec:
  targetRef: {kind: MeshSubset, tags: {kuma.io/service: %s}}
  from: [{targetRef: {kind: Mesh}, default: {backends: [{type: File, file: {path: /of-the-policy}}]}}]
`
	for _, tt := range []struct {
		address, selected string
		want              bool
	}{{"10.2.0.1", "s1", true}, {"10.2.0.1", "s2", true}, {"10.2.0.2", "s1", false}, {"10.2.0.2", "s2", true}} {
		s := &scene{zone: "zone-a"}
		if skipped := s.add(t, fmt.Appendf(nil, world, tt.address, tt.selected)); skipped != nil {
			t.Fatal(skipped)
		}
		w := s.world(t, func(i int, _ string) string { return fmt.Sprintf("241.0.0.%d", i) }, nil)
		snap := generate(t, NewGenerator(all.Effects()), w, "m", "d1", Meta{}, "zone-a")
		l := snap.Resources(TypeListener)["inbound:"+tt.address+":7002"]
		if l == nil || !bytes.Contains(l.Any.Value, []byte("inbound:s2")) {
			t.Fatalf("the listener is not that of the last inbound: %v", l)
		}
		if got := bytes.Contains(l.Any.Value, []byte("/of-the-policy")); got != tt.want {
			t.Errorf("a policy for %s, inbounds on %s: the listener of s2 logs: %v, want %v", tt.selected, tt.address, got, tt.want)
		}
	}
}
