package policy_test

import (
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

func meshService(name string, created int, labels map[string]string) *resource.Resource {
	return &resource.Resource{
		Meta: resource.Meta{
			Key:    resource.Key{Kind: resource.KindMeshService, Mesh: "m", Name: name},
			Labels: labels, CreationTime: time.Unix(int64(created), 0),
		},
		Spec: &resource.MeshService{Ports: []resource.ServicePort{{Name: "api", Port: 80}, {Port: 81}}},
	}
}

type backends []*resource.Resource

func (b backends) Services(string) []*resource.Resource { return b }

// Contract policies.md §4.7: a name means a service of the policy's zone, labels mean the oldest.
func TestBackendRefResolve(t *testing.T) {
	zoneA := map[string]string{resource.LabelZone: "a", "tier": "gold"}
	zoneB := map[string]string{resource.LabelZone: "b", "tier": "gold"}
	services := backends{meshService("s", 3, zoneA), meshService("t", 2, zoneA), meshService("u", 2, zoneB), meshService("v", 2, nil)}
	port := func(n uint32) *uint32 { return &n }
	for _, tt := range []struct {
		name, zone    string
		ref           policy.BackendRef
		want, section string
	}{
		{"name", "a", policy.BackendRef{TargetRef: policy.TargetRef{Kind: policy.MeshService, Name: "s"}, Port: port(80)}, "s", "api"},
		{"unnamed port", "a", policy.BackendRef{TargetRef: policy.TargetRef{Kind: policy.MeshService, Name: "s"}, Port: port(81)}, "s", "81"},
		{"unknown port", "a", policy.BackendRef{TargetRef: policy.TargetRef{Kind: policy.MeshService, Name: "s"}, Port: port(82)}, "s", "82"},
		{"no port", "a", policy.BackendRef{TargetRef: policy.TargetRef{Kind: policy.MeshService, Name: "s"}}, "s", ""},
		{"other zone", "b", policy.BackendRef{TargetRef: policy.TargetRef{Kind: policy.MeshService, Name: "s"}, Port: port(80)}, "", ""},
		{"no zone", "", policy.BackendRef{TargetRef: policy.TargetRef{Kind: policy.MeshService, Name: "v"}, Port: port(80)}, "v", "api"},
		{"labels", "b", policy.BackendRef{TargetRef: policy.TargetRef{Kind: policy.MeshService, Labels: map[string]string{"tier": "gold"}}, Port: port(80)}, "t", "api"},
		{"no such labels", "b", policy.BackendRef{TargetRef: policy.TargetRef{Kind: policy.MeshService, Labels: map[string]string{"tier": "x"}}, Port: port(80)}, "", ""},
		{"other kind", "a", policy.BackendRef{TargetRef: policy.TargetRef{Kind: policy.MeshMultiZoneService, Name: "s"}, Port: port(80)}, "", ""},
		{"mesh", "a", policy.BackendRef{TargetRef: policy.TargetRef{Kind: policy.Mesh}, Port: port(80)}, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Mesh: "m"}}}
			if tt.zone != "" {
				from.Labels = map[string]string{resource.LabelZone: tt.zone}
			}
			key, section, ok := tt.ref.Resolve(from, services)
			if key.Name != tt.want || section != tt.section || ok != (tt.want != "") {
				t.Errorf("Resolve = %q, %q, %v, want %q, %q", key.Name, section, ok, tt.want, tt.section)
			}
		})
	}
}

func TestBackendRefReal(t *testing.T) {
	n := uint32(0)
	for _, tt := range []struct {
		ref   policy.BackendRef
		real  bool
		share uint32
	}{
		{policy.BackendRef{TargetRef: policy.TargetRef{Kind: policy.MeshService}, Port: &n, Weight: &n}, true, 0},
		{policy.BackendRef{TargetRef: policy.TargetRef{Kind: policy.MeshService}}, false, 1},
		{policy.BackendRef{TargetRef: policy.TargetRef{Kind: policy.MeshServiceSubset}, Port: &n}, false, 1},
		{policy.BackendRef{TargetRef: policy.TargetRef{Kind: policy.MeshExternalService}}, true, 1},
		{policy.BackendRef{TargetRef: policy.TargetRef{Kind: policy.MeshMultiZoneService}, Port: &n}, true, 1},
		{policy.BackendRef{TargetRef: policy.TargetRef{Kind: policy.MeshMultiZoneService}}, true, 1},
	} {
		if tt.ref.Real() != tt.real || tt.ref.Share() != tt.share {
			t.Errorf("%s: real %v share %d, want %v %d", tt.ref.Kind, tt.ref.Real(), tt.ref.Share(), tt.real, tt.share)
		}
	}
}
