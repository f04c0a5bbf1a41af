package resource

import (
	"slices"
	"testing"
)

func TestComputedLabelsPass(t *testing.T) {
	tests := []struct {
		name, key, value string
		ok               bool
	}{
		{"the time that the generator writes", LabelGraceStart, "2026-11-25T02:14:42Z", true},
		{"another text in its place", LabelGraceStart, "a:b", false},
		{"a time elsewhere", "tier", "2026-11-25T02:14:42Z", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &Resource{
				Meta: Meta{Key: Key{Kind: KindMeshService, Mesh: "m", Name: "web"}, Labels: map[string]string{tt.key: tt.value}},
				Spec: &MeshService{},
			}
			if faults := ValidateUpdate(r); (len(faults) == 0) != tt.ok {
				t.Errorf("got %v", faults)
			}
		})
	}
}

func TestProbedInbounds(t *testing.T) {
	probe := &ServiceProbe{TCP: &struct{}{}}
	dataplane := func(inbounds ...*Inbound) *Resource {
		return &Resource{Spec: &Dataplane{Networking: &Networking{Inbound: inbounds}}}
	}
	in := func(port uint32, state string, p *ServiceProbe) *Inbound {
		return &Inbound{Port: port, State: state, ServiceProbe: p}
	}
	tests := []struct {
		name      string
		old, next *Resource
		want      []string
	}{
		{"new", nil, dataplane(in(80, "", probe), in(81, "", nil)), []string{InboundNotReady, ""}},
		{"said by the author", nil, dataplane(in(80, InboundReady, probe), in(81, InboundIgnored, probe)), []string{InboundReady, InboundIgnored}},
		{"again", dataplane(in(80, InboundReady, probe)), dataplane(in(80, "", probe)), []string{InboundReady}},
		{"again, while it is down", dataplane(in(80, InboundNotReady, probe)), dataplane(in(80, "", probe)), []string{InboundNotReady}},
		{"again, on another port", dataplane(in(80, InboundReady, probe)), dataplane(in(81, "", probe)), []string{InboundNotReady}},
		{"stored without a state", dataplane(in(80, "", probe)), dataplane(in(80, "", probe)), []string{InboundReady}},
		{"not probed before", dataplane(in(80, "", nil)), dataplane(in(80, "", probe)), []string{InboundNotReady}},
		{"not probed any more", dataplane(in(80, InboundNotReady, probe)), dataplane(in(80, "", nil)), []string{""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.old != nil {
				KeepComputed(tt.old, tt.next)
			}
			SetDefaults(tt.next, ZoneInfo{Zone: "z"})
			var got []string
			for _, in := range SpecOf[*Dataplane](tt.next).Networking.Inbound {
				got = append(got, in.State)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
