package service

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/resource"
)

const goldMZ = "{type: MeshMultiZoneService, mesh: m, name: gold, spec: {selector: {meshService: {matchLabels: {tier: gold}}}, ports: [{port: 80}]}}"

func (w *world) matched(name string) []string {
	w.Helper()
	r, err := w.Get(resource.Key{Kind: resource.KindMeshMultiZoneService, Mesh: "m", Name: name})
	if err != nil {
		w.Fatal(err)
	}
	st, _ := r.Status.(*resource.MeshMultiZoneServiceStatus)
	if st == nil {
		return nil
	}
	var out []string
	for _, s := range st.MeshServices {
		out = append(out, s.Name+"/"+s.Namespace+"/"+s.Zone+"/"+s.Mesh)
	}
	return out
}

// TestMatchedServices follows the list of a MeshMultiZoneService through what can change it.
func TestMatchedServices(t *testing.T) {
	service := func(mesh, name, labels string) string {
		return "{type: MeshService, mesh: " + mesh + ", name: " + name + ", labels: {" + labels + "}, spec: {ports: [{port: 80, targetPort: 80}]}}"
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.yaml("{type: Mesh, name: m}\n---\n{type: Mesh, name: other}\n---\n" + service("m", "first", "tier: gold"))
		w.start()
		defer func() { w.stop() }()
		want := func(step string, want ...string) {
			t.Helper()
			synctest.Wait()
			if diff := cmp.Diff(want, w.matched("gold")); diff != "" {
				t.Errorf("%s (-want +got):\n%s", step, diff)
			}
		}
		w.yaml(goldMZ)
		want("one is there already", "first//zone-a/m")
		w.yaml(service("m", "b", "tier: gold, k8s.kuma.io/namespace: ns") + "\n---\n" + service("m", "tin", "tier: tin"))
		want("sorted", "b/ns/zone-a/m", "first//zone-a/m")
		w.yaml(service("other", "b", "tier: gold, kuma.io/zone: far, kuma.io/display-name: a"))
		want("of another mesh, as 2.9 does", "a//far/other", "b/ns/zone-a/m", "first//zone-a/m")
		w.yaml(service("m", "tin", "tier: gold"))
		want("gets the label", "a//far/other", "b/ns/zone-a/m", "first//zone-a/m", "tin//zone-a/m")
		w.yaml(service("m", "b", "tier: tin"))
		w.remove(resource.KindMeshService, "m", "tin")
		want("loses it, goes", "a//far/other", "first//zone-a/m")
		w.yaml(service("m", "first", "tier: gold, kuma.io/display-name: second"))
		want("is called another name", "a//far/other", "second//zone-a/m")
		w.remove(resource.KindMesh, "", "other")
		want("its mesh goes", "second//zone-a/m")
		w.yaml("{type: MeshMultiZoneService, mesh: m, name: gold, spec: {selector: {meshService: {matchLabels: {tier: tin}}}, ports: [{port: 80}]}}")
		want("selects others", "b//zone-a/m")
		before, _ := w.Get(resource.Key{Kind: resource.KindMeshMultiZoneService, Mesh: "m", Name: "gold"})
		w.stop()
		w.remove(resource.KindMeshService, "m", "b")
		w.start()
		want("went while nobody looked")
		after, _ := w.Get(before.Key)
		st := after.Status.(*resource.MeshMultiZoneServiceStatus)
		if old := before.Status.(*resource.MeshMultiZoneServiceStatus); len(old.VIPs) != 1 || !cmp.Equal(old.VIPs, st.VIPs) {
			t.Errorf("the address changed from %v to %v", old.VIPs, st.VIPs)
		}
		w.remove(resource.KindMeshMultiZoneService, "m", "gold")
		synctest.Wait()
	})
}
