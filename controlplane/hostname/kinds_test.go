package hostname

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// TestKinds runs all kinds at once: each has its range, its generators and its names.
func TestKinds(t *testing.T) {
	s := open(t)
	mz := gen("mz", 0, "{{ .DisplayName }}.svc.mesh.local")
	mz.Spec.(*resource.HostnameGenerator).Selector = resource.GeneratorSelector{MeshMultiZoneService: &resource.LabelSelector{}}
	commit(t, s, store.Create, mz)
	of := func(kind resource.Kind, name string, spec resource.Spec, status any) *resource.Resource {
		r := service(name, 0)
		r.Kind, r.Spec, r.Status = kind, spec, status
		return r
	}
	matched := []resource.MatchedMeshService{{Name: "a", Mesh: "m"}}
	all := []*resource.Resource{
		service("a", 0),
		of(resource.KindMeshMultiZoneService, "a", &resource.MeshMultiZoneService{}, &resource.MeshMultiZoneServiceStatus{MeshServices: matched}),
		of(resource.KindMeshExternalService, "a", &resource.MeshExternalService{}, nil),
		of(resource.KindMeshExternalService, "b", &resource.MeshExternalService{}, &resource.MeshExternalServiceStatus{VIP: &resource.VIP{IP: "242.0.0.9"}}),
	}
	for _, r := range all {
		commit(t, s, store.Create, r)
	}
	stop := start(t, s, DefaultCIDR)
	defer stop()
	want := map[string]string{
		"MeshService m/a": "241.0.0.0 a.svc.mesh.local", "MeshMultiZoneService m/a": "243.0.0.0 a.svc.mesh.local",
		"MeshExternalService m/a": "242.0.0.0 a.extsvc.mesh.local", "MeshExternalService m/b": "242.0.0.9 b.extsvc.mesh.local",
	}
	got := map[string]string{}
	_, w := s.Watch()
	defer w.Close()
	for {
		for _, r := range all {
			stored, err := s.Get(r.Key)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range []*serviceKind{external(), meshService(), multiZone()} {
				if p := k.read(stored.Status); k.kind == r.Kind && len(p.VIPs) == 1 && len(p.Addresses) == 1 {
					got[r.String()] = p.VIPs[0].IP + " " + p.Addresses[0].Hostname
				}
			}
		}
		if len(got) == len(want) {
			break
		}
		if _, err := w.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r, _ := s.Get(all[1].Key)
	if st := r.Status.(*resource.MeshMultiZoneServiceStatus); !cmp.Equal(st.MeshServices, matched) {
		t.Errorf("the rest of the status is lost: %+v", st)
	}
}

// TestCollisionWithinKind: of two external services the older has the name, and the condition of the other says who.
func TestCollisionWithinKind(t *testing.T) {
	pool, err := newPool(netip.MustParsePrefix("242.0.0.0/30"))
	if err != nil {
		t.Fatal(err)
	}
	p := newPlan(external(), "zone-a", pool)
	g := gen("g", 0, "same.x")
	g.Spec.(*resource.HostnameGenerator).Selector = resource.GeneratorSelector{MeshExternalService: &resource.LabelSelector{}}
	p.setGenerator(g)
	for i, name := range []string{"b", "a"} {
		r := service(name, i)
		r.Kind, r.Spec = resource.KindMeshExternalService, &resource.MeshExternalService{}
		p.setService(r)
	}
	got := map[string][]string{}
	for k, w := range p.work() {
		got[k.Name] = w.text()
	}
	want := map[string][]string{
		"b": {"vip 242.0.0.0", "address same.x HostnameGenerator g", `g Generated True Generated ""`},
		"a": {"vip 242.0.0.1", `g Generated False Collision "Hostname collision with MeshExternalService: b"`},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Turned to another kind, the generator gives nothing here any more.
	p.setGenerator(gen("g", 0, "same.x"))
	for k, w := range p.work() {
		if len(w.Addresses)+len(w.Generators) > 0 {
			t.Errorf("%s: got %v", k, w.text())
		}
	}
}
