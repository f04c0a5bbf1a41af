package xds

import (
	"cmp"
	"maps"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// endpointKey finds the endpoints of a port by the identity of the immutable Service: every proxy that reaches it shares
// them. The destination is part of it because labels can rename that.
type endpointKey struct {
	service     *topology.Service
	destination string
	port        uint32
}

// loadAssignment makes the endpoints of one port (contract effects-routing.md §2.5); service is nil when it is gone.
func (g *Generator) loadAssignment(service *topology.Service, ref backendRef) (*Resource, error) {
	return g.endpoints.get(endpointKey{service, ref.destination, ref.port}, func() (*Resource, error) {
		cla := &endpointv3.ClusterLoadAssignment{ClusterName: ref.destination}
		if service != nil {
			cla.Endpoints = localities(service.Endpoints[ref.port])
		}
		return newResource(ref.destination, cla)
	})
}

func localities(endpoints []topology.Endpoint) []*endpointv3.LocalityLbEndpoints {
	byZone := map[string]*endpointv3.LocalityLbEndpoints{}
	for _, e := range endpoints {
		group := byZone[e.Zone]
		if group == nil {
			group = &endpointv3.LocalityLbEndpoints{}
			if e.Zone != "" {
				group.Locality = &corev3.Locality{Zone: e.Zone}
			}
			byZone[e.Zone] = group
		}
		group.LbEndpoints = append(group.LbEndpoints, lbEndpoint(e))
	}
	var out []*endpointv3.LocalityLbEndpoints
	for _, zone := range slices.SortedFunc(maps.Keys(byZone), cmp.Compare[string]) {
		out = append(out, byZone[zone])
	}
	return out
}

func lbEndpoint(e topology.Endpoint) *endpointv3.LbEndpoint {
	out := &endpointv3.LbEndpoint{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: effect.SocketAddress(e.Address, e.Port),
		}},
		LoadBalancingWeight: wrapperspb.UInt32(1),
	}
	tags := effect.TagStruct(e.Tags)
	delete(tags.Fields, resource.TagService)
	if len(tags.Fields) > 0 {
		out.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
			"envoy.lb": tags, "envoy.transport_socket_match": tags,
		}}
	}
	return out
}
