package topology

import (
	"fmt"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// large is a mesh of 1000 proxies, ten behind each of 100 services, each of which reaches ten services.
func large() []*resource.Resource {
	out := []*resource.Resource{{
		Meta: resource.Meta{Key: key(resource.KindMesh, "m"), Version: 1},
		Spec: &resource.Mesh{MeshServices: &resource.MeshServicesConf{Mode: resource.MeshServicesExclusive}},
	}}
	for i := range 100 {
		name := fmt.Sprintf("s%03d", i)
		out = append(out, &resource.Resource{
			Meta: resource.Meta{Key: key(resource.KindMeshService, name), Version: 1},
			Spec: &resource.MeshService{
				Selector: &resource.ServiceSelector{DataplaneTags: map[string]string{resource.TagService: name}},
				Ports:    []resource.ServicePort{{Port: 80, TargetPort: resource.IntOrString{Int: 8080}}},
			},
			Status: &resource.MeshServiceStatus{VIPs: []resource.VIP{{IP: fmt.Sprintf("241.0.0.%d", i)}}},
		})
	}
	for i := range 1000 {
		out = append(out, largeProxy(i))
	}
	return out
}

func largeProxy(i int) *resource.Resource {
	list := &resource.ReachableBackends{}
	for j := range 10 {
		list.Refs = append(list.Refs, resource.OutboundRef{Kind: resource.KindMeshService, Name: fmt.Sprintf("s%03d", (i+j)%100)})
	}
	return &resource.Resource{
		Meta: resource.Meta{Key: key(resource.KindDataplane, fmt.Sprintf("d%04d", i)), Version: 1},
		Spec: &resource.Dataplane{Networking: &resource.Networking{
			Address: fmt.Sprintf("10.0.%d.%d", i/250, i%250+1),
			Inbound: []*resource.Inbound{{
				Port: 8080,
				Tags: map[string]string{
					resource.TagService: fmt.Sprintf("s%03d", i/10), resource.TagProtocol: "http", "app": "x", "version": fmt.Sprint(i % 3),
				},
			}},
			TransparentProxying: &resource.TransparentProxying{ReachableBackends: list},
		}},
	}
}

// BenchmarkEndpoint is one inbound of 1000 that turns healthy and unhealthy: only the clients of its service are touched.
func BenchmarkEndpoint(b *testing.B) {
	s := newState("zone-a")
	s.load(large())
	up, down := largeProxy(500), largeProxy(500)
	down.Spec.(*resource.Dataplane).Networking.Inbound[0].State = resource.InboundNotReady
	b.ReportAllocs()
	touched := 0
	for i := 0; b.Loop(); i++ {
		ev := store.Event{Revision: uint64(i), Action: store.Update, Old: up, New: down}
		up, down = down, up
		touched = len(s.apply([]store.Event{ev}).Proxies)
	}
	b.ReportMetric(float64(touched), "proxies")
}

// BenchmarkInsight is one of 1000 proxies that reports the counts of its stream: nobody is touched.
func BenchmarkInsight(b *testing.B) {
	s := newState("zone-a")
	s.load(large())
	in := &resource.Resource{
		Meta: resource.Meta{Key: key(resource.KindDataplaneInsight, "d0500")},
		Spec: &resource.DataplaneInsight{Subscriptions: []*resource.Subscription{{ConnectTime: time.Unix(0, 0).Format(time.RFC3339)}}},
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if c := s.apply([]store.Event{{Revision: uint64(i), Action: store.Update, Old: in, New: in}}); len(c.Proxies) > 0 {
			b.Fatalf("touched %v", c.Proxies)
		}
	}
}

// BenchmarkJoin is 1000 proxies that appear one by one.
func BenchmarkJoin(b *testing.B) {
	all := large()
	b.ReportAllocs()
	for b.Loop() {
		s := newState("zone-a")
		s.load(all[:101])
		for _, r := range all[101:] {
			s.apply([]store.Event{{Action: store.Create, New: r}})
		}
	}
}

// BenchmarkOutbounds asks for the outbounds of one proxy.
func BenchmarkOutbounds(b *testing.B) {
	m := Build("zone-a", large()...).Meshes["m"]
	d := m.Dataplane("d0500")
	b.ReportAllocs()
	for b.Loop() {
		if n := len(m.Outbounds(d)); n != 10 {
			b.Fatalf("got %d outbounds, want 10", n)
		}
	}
}
