package xds

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/all"
)

// TestClustersFollowMeshTLS: clusters depend on the rules of the proxy's own inbounds, which a cluster made before with
// other rules must not hide.
func TestClustersFollowMeshTLS(t *testing.T) {
	world, err := os.ReadFile("testdata/effects/worlds/sec-strict/world.yaml")
	if err != nil {
		t.Fatal(err)
	}
	g := NewGenerator(all.Effects())
	for _, version := range []string{"TLS12", "TLS13", "TLS12"} {
		s := &scene{zone: "zone-a"}
		s.add(t, world)
		s.add(t, []byte("{type: MeshTLS, mesh: m, name: t, spec: {from: [{targetRef: {kind: Mesh}, default: {tlsVersion: {min: "+version+"}}}]}}"))
		w := s.world(t, func(int, string) string { return "241.0.0.9" }, nil)
		got := shapeOf(t, generate(t, g, w, "m", "shop-1", Meta{}, "zone-a"))["Cluster"]["m_store__zone-a_msvc_6000"]
		tls := got.(map[string]any)["transportSocket"].(map[string]any)["typedConfig"].(map[string]any)["commonTlsContext"].(map[string]any)
		want := map[string]any{"tlsMinimumProtocolVersion": strings.Replace(version, "TLS1", "TLSv1_", 1)}
		if !reflect.DeepEqual(tls["tlsParams"], want) {
			t.Errorf("with %s the cluster has %v", version, tls["tlsParams"])
		}
	}
}
