package service

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

func port(n uint32, name string) resource.ServicePort {
	return resource.ServicePort{Name: name, Port: n, TargetPort: resource.IntOrString{Int: n}, AppProtocol: "tcp"}
}

func TestMembersOf(t *testing.T) {
	inbound := func(service, name string, n uint32, protocol string) *resource.Inbound {
		return &resource.Inbound{Port: n, Name: name, Tags: map[string]string{resource.TagService: service, resource.TagProtocol: protocol}}
	}
	ignored := inbound("web", "no", 9, "")
	ignored.State = resource.InboundIgnored
	notReady := inbound("web", "later", 10, "")
	notReady.State = resource.InboundNotReady
	d := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Name: "d"}}, Spec: &resource.Dataplane{Networking: &resource.Networking{Inbound: []*resource.Inbound{
		inbound("web", "main", 80, "http"), inbound("web", "", 81, ""), ignored, notReady, inbound("admin", "a", 82, "grpc"), inbound("Bad", "b", 83, ""), inbound("", "", 84, ""),
		inbound("web", "main", 85, ""), inbound("web", "twice", 80, "tcp"),
	}}}}
	http := port(80, "main")
	http.AppProtocol = "http"
	grpc := port(82, "a")
	grpc.AppProtocol = "grpc"
	want := map[string][]resource.ServicePort{"web": {http, port(81, "81"), port(9, "no"), port(10, "later"), port(85, "85")}, "admin": {grpc}}
	got := map[string][]resource.ServicePort{}
	for tag, m := range membersOf(d) {
		got[tag] = m.ports
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	gateway := &resource.Resource{Spec: &resource.Dataplane{Networking: &resource.Networking{Gateway: &resource.Gateway{Tags: map[string]string{resource.TagService: "edge"}}}}}
	if m := membersOf(gateway); len(m) > 0 {
		t.Errorf("a gateway generates %v", m)
	}
	if m := membersOf(&resource.Resource{Spec: &resource.Dataplane{}}); len(m) > 0 {
		t.Errorf("a dataplane without networking generates %v", m)
	}
}

func TestIsName(t *testing.T) {
	for name, want := range map[string]bool{"web": true, "web_ns_svc_80": true, "a.b-c": true, "Web": false, "": false, "a/b": false, "a b": false, "ä": false, fmt.Sprintf("%0254d", 0): false} {
		if got := isName(name); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
}

func TestDecide(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 500, time.UTC)
	key := serviceKey("m", "web")
	m := func(name string, age int, ports ...resource.ServicePort) member {
		return member{created: time.Unix(int64(age), 0), name: name, ports: ports}
	}
	object := func(change func(*resource.Resource, *resource.MeshService)) *resource.Resource {
		spec := &resource.MeshService{
			State: resource.StateAvailable, Ports: []resource.ServicePort{port(80, "80")},
			Selector:   &resource.ServiceSelector{DataplaneTags: map[string]string{resource.TagService: "web"}},
			Identities: []resource.ServiceIdentity{{Type: "ServiceTag", Value: "web"}},
		}
		r := &resource.Resource{Meta: resource.Meta{Key: key, Version: 7, Labels: labels(key, nil)}, Spec: spec}
		if change != nil {
			change(r, spec)
		}
		return r
	}
	label := func(k, v string) *resource.Resource {
		return object(func(r *resource.Resource, _ *resource.MeshService) { r.Labels[k] = v })
	}
	grace := func(started time.Time) *resource.Resource {
		return label(resource.LabelGraceStart, started.Format(time.RFC3339))
	}
	p80, p81 := port(80, "80"), port(81, "81")
	tests := []struct {
		name     string
		members  []member
		disabled bool
		stored   *resource.Resource
		action   store.Action
		ports    []resource.ServicePort
		labels   map[string]string // that are added (or changed); "-" is gone
		due      time.Time
		blocked  bool
		conflict []string
	}{
		{name: "nothing"},
		{name: "first", members: []member{m("a", 1, p80)}, action: store.Create, ports: []resource.ServicePort{p80}},
		{name: "mode Disabled", members: []member{m("a", 1, p80)}, disabled: true},
		{name: "oldest defines", members: []member{m("a", 3, p81), m("c", 2, p80), m("b", 2, p81)}, action: store.Create, ports: []resource.ServicePort{p81}, conflict: []string{"c"}},
		{name: "settled", members: []member{m("a", 1, p80)}, stored: object(nil)},
		{name: "order of ports is nothing", members: []member{m("a", 1, p81, p80)}, stored: object(func(_ *resource.Resource, s *resource.MeshService) { s.Ports = []resource.ServicePort{p80, p81} })},
		{name: "anyone agrees: kept", members: []member{m("a", 1, p81), m("b", 2, p80)}, stored: object(nil), conflict: []string{"a"}},
		{name: "nobody agrees: from the first", members: []member{m("a", 2, p81), m("b", 1, p80, p81)}, stored: object(nil), action: store.Update, ports: []resource.ServicePort{p80, p81}, conflict: []string{"a"}},
		{name: "protocol is part of a port", members: []member{m("a", 1, resource.ServicePort{Name: "80", Port: 80, TargetPort: p80.TargetPort, AppProtocol: "http"})}, stored: object(nil), action: store.Update, ports: []resource.ServicePort{{Name: "80", Port: 80, TargetPort: p80.TargetPort, AppProtocol: "http"}}},
		{name: "selector is put right", members: []member{m("a", 1, p80)}, stored: object(func(_ *resource.Resource, s *resource.MeshService) {
			s.Selector = &resource.ServiceSelector{DataplaneRef: &resource.DataplaneRef{Name: "x"}, DataplaneTags: s.Selector.DataplaneTags}
		}), action: store.Update, ports: []resource.ServicePort{p80}},
		{name: "labels of others stay", members: []member{m("a", 1, p80)}, stored: label("tier", "gold")},
		{name: "back within the grace period", members: []member{m("a", 1, p80)}, stored: grace(now.Add(-time.Minute)), action: store.Update, ports: []resource.ServicePort{p80}, labels: map[string]string{resource.LabelGraceStart: "-"}},
		{name: "made by hand", members: []member{m("a", 1, p80)}, stored: object(func(r *resource.Resource, _ *resource.MeshService) { delete(r.Labels, resource.LabelManagedBy) }), blocked: true},
		{name: "made by hand, nobody wants it", stored: label(resource.LabelManagedBy, "somebody")},
		{name: "made by hand, mode Disabled", disabled: true, members: []member{m("a", 1, p80)}, stored: label(resource.LabelManagedBy, "somebody")},
		{name: "mode Disabled deletes", disabled: true, members: []member{m("a", 1, p80)}, stored: object(nil), action: store.Delete},
		{name: "the last one goes", stored: object(nil), action: store.Update, ports: []resource.ServicePort{p80}, labels: map[string]string{resource.LabelGraceStart: "2026-01-01T12:00:00Z"}, due: now.Truncate(time.Second).Add(time.Hour)},
		{name: "grace period", stored: grace(now.Add(-time.Minute)), due: now.Add(59 * time.Minute).Truncate(time.Second)},
		{name: "grace period over", stored: grace(now.Add(-time.Hour)), action: store.Delete},
		{name: "label nobody can read", stored: label(resource.LabelGraceStart, "soon"), action: store.Update, ports: []resource.ServicePort{p80}, labels: map[string]string{resource.LabelGraceStart: "2026-01-01T12:00:00Z"}, due: now.Truncate(time.Second).Add(time.Hour)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var before *resource.Resource
			if tt.stored != nil {
				before = tt.stored.Clone()
			}
			d := decide(key, tt.members, !tt.disabled, tt.stored, now, time.Hour)
			if d.op.Action != tt.action || !d.due.Equal(tt.due) || d.blocked != tt.blocked || !slices.Equal(d.conflicting, tt.conflict) {
				t.Errorf("got %q due %s blocked %v conflicting %v, want %q %s %v %v", d.op.Action, d.due, d.blocked, d.conflicting, tt.action, tt.due, tt.blocked, tt.conflict)
			}
			if diff := cmp.Diff(before, tt.stored); diff != "" {
				t.Errorf("the stored object was changed:\n%s", diff)
			}
			if tt.action != store.Create && tt.action != store.Update || d.op.Resource == nil {
				return
			}
			spec := d.op.Resource.Spec.(*resource.MeshService)
			if diff := cmp.Diff(tt.ports, spec.Ports); diff != "" {
				t.Errorf("ports (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(&resource.ServiceSelector{DataplaneTags: map[string]string{resource.TagService: "web"}}, spec.Selector); diff != "" {
				t.Errorf("selector (-want +got):\n%s", diff)
			}
			if tt.stored != nil && (spec.State != resource.StateAvailable || len(spec.Identities) != 1) {
				t.Error("lost what the status loop wrote")
			}
			want := labels(key, nil)
			for k, v := range tt.labels {
				if want[k] = v; v == "-" {
					delete(want, k)
				}
			}
			if diff := cmp.Diff(want, d.op.Resource.Labels); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLabels(t *testing.T) {
	want := map[string]string{
		"kuma.io/mesh": "m", "kuma.io/display-name": "web", "kuma.io/managed-by": "meshservice-generator", "kuma.io/env": "universal", "kuma.io/origin": "zone",
	}
	if got := labels(serviceKey("m", "web"), nil); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
