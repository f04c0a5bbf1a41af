package resource_test

import (
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/resource"
)

// TestSyncedName holds the names of an exchange between a real global control plane and its zones (contract zones.md §3).
func TestSyncedName(t *testing.T) {
	long := strings.Repeat("a", 253)
	for _, tt := range []struct {
		mesh, name, zone, namespace, want string
	}{
		{"default", "allow-all", "", "", "allow-all-6cf46w7x6f445w75"},
		{"default", "backend-mz", "", "", "backend-mz-575vdd2x7w4679c2"},
		{"default", "ext", "", "", "ext-55d8dbxdzb446zcz"},
		{"default", "backend", "zone-1", "", "backend-d8466458x7574b7b"},
		{"default", "backend", "zone-2", "", "backend-d8466258x75748d7"},
		{"", "zi-2", "zone-2", "", "zi-2-xzb925527zxb4w4v"},
		{"default", "b1", "zone-1", "", "b1-4xfv862dzcdcb627"},
		{"default", "zone-role", "zone-1", "ns1", "zone-role-8d49z4489644c98w"},
		{"default", "clash", "zone-1", "", "clash-2w9dcxxvb4d6vx6c"},
		{"default", "clash", "zone-2", "", "clash-2w9dczxvb4d6vzzv"},
		{"default", "clash", "", "", "clash-c468w4w8cdvbw4b7"},
		{"", "synced-universal-mesh-service", "", "", "synced-universal-mesh-service-46484vczc724vc29"},
	} {
		m := resource.Meta{Key: resource.Key{Mesh: tt.mesh, Name: tt.name}, Labels: map[string]string{}}
		if tt.zone != "" {
			m.Labels[resource.LabelZone] = tt.zone
		}
		if tt.namespace != "" {
			m.Labels[resource.LabelNamespace] = tt.namespace
		}
		if got := resource.SyncedName(&m); got != tt.want {
			t.Errorf("%+v: got %s, want %s", tt, got, tt.want)
		}
		// At the next control plane the resource has its new name, and the old one as a label.
		m.Labels[resource.LabelDisplayName], m.Name = tt.name, tt.want
		if got := resource.SyncedName(&m); got != tt.want {
			t.Errorf("hashed again: %s, want %s", got, tt.want)
		}
	}
	if got := resource.SyncedName(&resource.Meta{Key: resource.Key{Mesh: "m", Name: long}}); len(got) != 253 {
		t.Errorf("a long name has %d characters: %s", len(got), got)
	}
}
