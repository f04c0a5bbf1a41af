package xds

import (
	"os"
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/all"
)

// TestLogsAndTracesShareClusters: what they write into listeners is each proxy's own, clusters stay one for all.
func TestLogsAndTracesShareClusters(t *testing.T) {
	world, err := os.ReadFile("testdata/effects/worlds/sec-strict/world.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{zone: "zone-a"}
	s.add(t, world)
	s.add(t, []byte(`type: MeshAccessLog
mesh: m
name: l
spec: {to: [{targetRef: {kind: Mesh}, default: {backends: [{type: Tcp, tcp: {address: "h:1"}}]}}]}
---
type: MeshTrace
mesh: m
name: t
spec: {default: {backends: [{type: Datadog, datadog: {url: "http://h:1"}}]}}
`))
	w := s.world(t, func(i int, _ string) string { return []string{"241.0.0.1", "241.0.0.2"}[i] }, nil)
	g := NewGenerator(all.Effects())
	shop, store := generate(t, g, w, "m", "shop-1", Meta{}, "zone-a"), generate(t, g, w, "m", "store-1", Meta{}, "zone-a")
	const cluster, listener = "m_store__zone-a_msvc_6000", "outbound:241.0.0.2:6000"
	if a, b := shop.Resources(TypeCluster)[cluster], store.Resources(TypeCluster)[cluster]; a == nil || a != b {
		t.Errorf("clusters are %p and %p", a, b)
	}
	a, b := shop.Resources(TypeListener)[listener], store.Resources(TypeListener)[listener]
	if a == nil || b == nil || a.Version == b.Version {
		t.Errorf("two proxies have one listener with logs: %v", shop.Resources(TypeListener))
	}
}
