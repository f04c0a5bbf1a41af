package xds

import (
	"slices"
	"testing"
)

func TestClosedPorts(t *testing.T) {
	part := func(strict bool, port, workload uint32) inboundPart {
		return inboundPart{strict: strict, ports: [2]uint32{port, workload}}
	}
	for _, tt := range []struct {
		name     string
		inbounds []inboundPart
		want     string
	}{
		{"none", nil, ""},
		{"strict", []inboundPart{part(true, 80, 80)}, "80"},
		{"another port behind it", []inboundPart{part(true, 9080, 80)}, "80,9080"},
		{"permissive", []inboundPart{part(false, 80, 8080)}, ""},
		{"in order, once", []inboundPart{part(true, 443, 80), part(true, 80, 80)}, "80,443"},
		{"one workload behind both", []inboundPart{part(true, 443, 80), part(false, 8080, 80)}, "443"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := closedPorts(tt.inbounds)
			key := &fixedKey{closed: portList(got)}
			if key.closed != tt.want {
				t.Errorf("got %q, want %q", key.closed, tt.want)
			}
			if !slices.Equal(key.ports(), got) {
				t.Errorf("%q is read as %v", key.closed, key.ports())
			}
		})
	}
}
