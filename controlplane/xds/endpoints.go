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
	legacy      *topology.LegacyService
	destination string
	port        uint32
	arranged    string
}

// backendRef is a port of a service, or a kuma.io/service, whose endpoints a cluster has.
type backendRef struct {
	destination string
	service     resource.Key
	port        uint32
	// tags are those of a destination by tags, which has no service; nil otherwise.
	tags map[string]string
	// arranged tells apart what arrange does, which is nil when endpoints stay as they are.
	arranged string
	arrange  func(*endpointv3.ClusterLoadAssignment)
}

// loadAssignment makes the endpoints of one port (contract effects-routing.md §2.5); service is nil when it is gone.
func (g *Generator) loadAssignment(service *topology.Service, ref backendRef) (*Resource, error) {
	key := endpointKey{service: service, destination: ref.destination, port: ref.port, arranged: ref.arranged}
	return g.endpoints.get(key, func() (*Resource, error) {
		cla := &endpointv3.ClusterLoadAssignment{ClusterName: ref.destination}
		if service != nil {
			cla.Endpoints = localities(service.Endpoints[ref.port])
		}
		if ref.arrange != nil {
			ref.arrange(cla)
		}
		return newResource(ref.destination, cla)
	})
}

// localAssignment makes the endpoints of one port that a ZoneIngress forwards to: those of its own zone.
func (g *Generator) localAssignment(service *topology.Service, destination string, port uint32) (*Resource, error) {
	if !slices.ContainsFunc(service.Endpoints[port], func(e topology.Endpoint) bool { return e.Dataplane == "" }) {
		return g.loadAssignment(service, backendRef{destination: destination, service: service.Key, port: port})
	}
	local := slices.DeleteFunc(slices.Clone(service.Endpoints[port]), func(e topology.Endpoint) bool { return e.Dataplane == "" })
	return newResource(destination, &endpointv3.ClusterLoadAssignment{ClusterName: destination, Endpoints: localities(local)})
}

func localities(endpoints []topology.Endpoint) []*endpointv3.LocalityLbEndpoints {
	byZone := map[string]*endpointv3.LocalityLbEndpoints{} // all endpoints of a zone have one priority
	for _, e := range endpoints {
		group := byZone[e.Zone]
		if group == nil {
			group = &endpointv3.LocalityLbEndpoints{Priority: e.Priority}
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
		LoadBalancingWeight: wrapperspb.UInt32(max(e.Weight, 1)),
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
