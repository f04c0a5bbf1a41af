package topology

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// A MeshGateway touches the builtin gateways and nobody else; after its end they serve none.
func TestMeshGatewayTouchesBuiltinGateways(t *testing.T) {
	at := func(kind resource.Kind, name string, spec resource.Spec) *resource.Resource {
		return &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: kind, Mesh: "m", Name: name}}, Spec: spec}
	}
	dp := func(name, gateway string) *resource.Resource {
		n := &resource.Networking{Address: "10.0.0.1"}
		if gateway != "" {
			n.Gateway = &resource.Gateway{Type: gateway, Tags: map[string]string{"kuma.io/service": name}}
		}
		return at(resource.KindDataplane, name, &resource.Dataplane{Networking: n})
	}
	mesh := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMesh, Name: "m"}}, Spec: &resource.Mesh{}}
	edge := at(resource.KindMeshGateway, "edge-gateway", &resource.MeshGateway{
		Selectors: []resource.Selector{{Match: map[string]string{"kuma.io/service": "edge"}}},
		Conf:      &resource.GatewayConf{Listeners: []resource.GatewayListener{{Port: 80, Protocol: resource.GatewayHTTP}}},
	})
	s := newState("z")
	s.load([]*resource.Resource{mesh, dp("web", ""), dp("own", resource.GatewayDelegated), dp("edge", resource.GatewayBuiltin)})
	for _, tt := range []struct {
		name  string
		event store.Event
		want  *resource.Resource
	}{
		{"created", store.Event{Action: store.Create, New: edge}, edge},
		{"deleted", store.Event{Action: store.Delete, Old: edge}, nil},
	} {
		c := s.apply([]store.Event{tt.event})
		if len(c.All) > 0 || len(c.Proxies) != 1 || c.Proxies[ProxyID{"m", "edge"}] != ScopeFull {
			t.Errorf("%s: touched %v, all %v, want only edge", tt.name, c.Proxies, c.All)
		}
		m := c.World.Meshes["m"]
		if got := m.GatewayOf(m.Dataplane("edge")); got != tt.want {
			t.Errorf("%s: edge serves %v, want %v", tt.name, got, tt.want)
		}
	}
}
