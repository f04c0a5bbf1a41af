package xds

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/resource"
)

// TestNameRecords: which addresses a name leads to (contract dns.md §2.3, §2.5).
func TestNameRecords(t *testing.T) {
	service := func(kind resource.Kind, name string, vips ...string) *topology.Service {
		s := &topology.Service{Status: &resource.MeshServiceStatus{}, Resource: &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: kind, Mesh: "m", Name: name}}}}
		s.Status.Addresses = []resource.ServiceAddress{{Hostname: "a.x"}}
		for _, v := range vips {
			s.Status.VIPs = append(s.Status.VIPs, resource.VIP{IP: v})
		}
		return s
	}
	outbounds := func(services ...*topology.Service) (out []topology.Outbound) {
		for _, s := range services {
			for _, v := range s.Status.VIPs {
				for _, port := range []uint32{80, 81} {
					out = append(out, topology.Outbound{VIP: v.IP, Service: s, ListenPort: port})
				}
			}
		}
		return out
	}
	mesh, multi, external := resource.KindMeshService, resource.KindMeshMultiZoneService, resource.KindMeshExternalService
	for _, tt := range []struct {
		name       string
		outbounds  []topology.Outbound
		dual, four []string // with and without IPv6
	}{
		{"one", outbounds(service(mesh, "a", "241.0.0.0")), []string{"241.0.0.0", "::ffff:f100:0"}, []string{"241.0.0.0"}},
		{"IPv6", outbounds(service(mesh, "a", "fd00::1")), []string{"fd00::1"}, []string{"fd00::1"}},
		{"both", outbounds(service(mesh, "a", "241.0.0.0", "fd00::1")), []string{"241.0.0.0", "fd00::1"}, []string{"241.0.0.0"}},
		{"the first of each family", outbounds(service(mesh, "a", "fd00::2", "241.0.0.9", "241.0.0.0", "fd00::1")), []string{"fd00::2", "241.0.0.9"}, []string{"241.0.0.9"}},
		{"no outbound on the first", outbounds(service(mesh, "a", "241.0.0.9", "241.0.0.0"))[2:], nil, nil},
		{"the last kind, in any order", outbounds(service(multi, "a", "243.0.0.0"), service(mesh, "a", "241.0.0.0"), service(external, "a", "242.0.0.0")), []string{"243.0.0.0", "::ffff:f300:0"}, []string{"243.0.0.0"}},
		{"the last kind, in order", outbounds(service(mesh, "a", "241.0.0.0"), service(external, "a", "242.0.0.0")), []string{"242.0.0.0", "::ffff:f200:0"}, []string{"242.0.0.0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for ipv6, want := range map[bool][]string{true: tt.dual, false: tt.four} {
				var got []string
				for _, r := range nameRecords(hostnames(tt.outbounds), ipv6) {
					got = append(got, r.IPs...)
				}
				if diff := gocmp.Diff(want, got); diff != "" {
					t.Errorf("IPv6 %t (-want +got):\n%s", ipv6, diff)
				}
			}
		})
	}
}
