package hostname

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func service(name string, age int, labels ...string) *resource.Resource {
	r := &resource.Resource{
		Meta: resource.Meta{
			Key:          resource.Key{Kind: resource.KindMeshService, Mesh: "m", Name: name},
			CreationTime: time.Unix(int64(age), 0), Labels: map[string]string{resource.LabelOrigin: "zone"},
		},
		Spec: &resource.MeshService{},
	}
	for i := 0; i < len(labels); i += 2 {
		r.Labels[labels[i]] = labels[i+1]
	}
	return r
}

func withVIP(r *resource.Resource, ips ...string) *resource.Resource {
	s := &resource.MeshServiceStatus{}
	for _, ip := range ips {
		s.VIPs = append(s.VIPs, resource.VIP{IP: ip})
	}
	r.Status = s
	return r
}

// gen makes a generator for all services, or those with the label.
func gen(name string, age int, template string, labels ...string) *resource.Resource {
	match := map[string]string{}
	for i := 0; i < len(labels); i += 2 {
		match[labels[i]] = labels[i+1]
	}
	return &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: resource.KindHostnameGenerator, Name: name}, CreationTime: time.Unix(int64(age), 0)},
		Spec: &resource.HostnameGenerator{
			Selector: resource.GeneratorSelector{MeshService: &resource.LabelSelector{MatchLabels: match}}, Template: template,
		},
	}
}

func open(t testing.TB) store.Store {
	t.Helper()
	s := memory.Open(resource.NewRegistry(resource.Core()...))
	mesh := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMesh, Name: "m"}}, Spec: &resource.Mesh{}}
	ops := []store.Op{{Action: store.Create, Resource: mesh}}
	for _, r := range universal() {
		ops = append(ops, store.Op{Action: store.Create, Resource: r})
	}
	if _, err := s.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
