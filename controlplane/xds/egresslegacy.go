package xds

import (
	"errors"
	"fmt"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/older"
	"github.com/kuma-dp/kuma-dp/resource"
)

// kindPermission is the policy that says who may use an ExternalService.
const kindPermission = "MeshTrafficPermission"

// legacyServices adds what a mesh with routing.zoneEgress sends through the egress by kuma.io/service: ExternalServices,
// whose permissions are checked here, and services of other zones, which go on to the ingress there as they are (contract
// controlplane.md §1.6, effects-security.md §4).
func (z *zoneProxy) legacyServices(g *Generator, mesh *topology.Mesh) error {
	if r := mesh.Spec.Routing; r == nil || !r.ZoneEgress {
		return nil
	}
	for _, s := range mesh.Legacy {
		name := mesh.Name + ":" + s.Name
		sni := effect.LegacySNI(mesh.Name, map[string]string{resource.TagService: s.Name})
		var err error
		if len(s.External) > 0 {
			err = z.legacyOutside(g, mesh, s, name, sni)
		} else {
			err = z.legacyRemote(mesh, s, name, sni)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (z *zoneProxy) legacyOutside(g *Generator, mesh *topology.Mesh, s *topology.LegacyService, name, sni string) error {
	protocol := externalProtocol(s)
	c, err := externalCluster(mesh, s, &effect.Target{
		Cluster: name, Protocol: protocol, External: true, Tags: map[string]string{resource.TagService: s.Name},
	})
	if err == nil && len(c.LoadAssignment.Endpoints) == 0 {
		err = errors.New("it has no endpoints")
	}
	if err != nil {
		z.faults = append(z.faults, fmt.Errorf("leave out external service %s of mesh %s: %w", s.Name, mesh.Name, err))
		return nil
	}
	c.ConnectTimeout = effect.ZoneProxyTimeout()
	if err := z.addCluster(effect.OriginOutbound, c); err != nil {
		return err
	}
	chain := effect.NewEgressChain(z.env, z.listenerName(), name, sni, protocol, nil)
	chain.Open() // the permission brings the filter
	in := &effect.Inbound{
		Resource: &resource.Inbound{Port: 1, Tags: resource.SpecOf[*resource.ExternalService](s.External[0]).Tags}, Protocol: protocol,
		Listener: &effect.Listener{Listener: &listenerv3.Listener{Name: z.listenerName()}, Chains: []*effect.Chain{chain}},
	}
	env := z.env
	env.MTLSMode = resource.MTLSStrict
	p := &effect.Proxy{Env: env, Inbounds: []*effect.Inbound{in}}
	rules := z.in.Permissions(mesh, in.Resource)
	older.Permit(p, rules[older.Name])
	newer := rules[kindPermission]
	if newer == nil {
		newer = &policy.Rules{Kind: kindPermission}
	}
	i := slices.IndexFunc(g.effects, func(e effect.Kind) bool { return e.Kind == kindPermission })
	if i < 0 {
		return errors.New("permissions are not among the effects: nobody would be denied")
	}
	if err := g.effects[i].Apply(p, newer); err != nil {
		return fmt.Errorf("apply %s: %w", kindPermission, err)
	}
	z.chains = append(z.chains, chain)
	return nil
}

func (z *zoneProxy) legacyRemote(mesh *topology.Mesh, s *topology.LegacyService, name, sni string) error {
	list := z.in.World.Zones.RemoteLegacy(mesh.Name, s.Name)
	if len(list) == 0 {
		return nil
	}
	z.chains = append(z.chains, effect.NewPassChain(name, sni))
	c := &effect.Cluster{Cluster: &clusterv3.Cluster{Name: name, ConnectTimeout: effect.ZoneProxyTimeout()}}
	c.SetEDS()
	if err := z.addCluster(effect.OriginOutbound, c); err != nil {
		return err
	}
	return z.addMessage(TypeEndpoint, name, &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: localities(list)})
}
