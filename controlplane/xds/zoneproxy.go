package xds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/bootstrap"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// ZoneInput is everything that the snapshot of a zone proxy depends on.
type ZoneInput struct {
	World *topology.World
	// Address and Port are where the proxy listens.
	Address string
	Port    uint32
	Meta    Meta
	Admin   *AdminTLS
	// Rules returns those of a mesh that act on clusters of an egress.
	Rules func(*topology.Mesh) map[resource.Kind]*policy.Rules
	// Permissions returns the rules for an ExternalService that is shown as an inbound, which say who may use it.
	Permissions func(*topology.Mesh, *resource.Inbound) map[resource.Kind]*policy.Rules
	// Secrets returns the trust bundle and the identity of an egress in a mesh.
	Secrets func(mesh string) ([]byte, *KeyPair, error)
}

// zoneProxy collects what a zone proxy is told.
type zoneProxy struct {
	builder
	in     *ZoneInput
	env    effect.Env
	chains []*effect.Chain
	faults []error
}

func (in *ZoneInput) start() (*zoneProxy, error) {
	z := &zoneProxy{in: in, env: effect.Env{Address: in.Address, Zone: in.World.Zones.Local, IPv6: in.Meta.IPv6}}
	return z, addAdmin(&z.builder, z.env, in.Meta, in.Admin)
}

func (z *zoneProxy) listenerName() string {
	return "inbound:" + effect.HostPort(z.in.Address, z.in.Port)
}

// finish adds the one listener, without which an empty zone proxy does: Envoy refuses one without chains.
func (z *zoneProxy) finish() (*Snapshot, error) {
	if len(z.chains) > 0 {
		if err := z.addListener(effect.OriginInbound, &effect.Listener{
			Listener: &listenerv3.Listener{
				Name: z.listenerName(), Address: effect.SocketAddress(z.in.Address, z.in.Port),
				TrafficDirection: corev3.TrafficDirection_INBOUND, EnableReusePort: wrapperspb.Bool(false),
			},
			ListenerFilters: []*effect.Filter{effect.TLSInspector()}, Chains: z.chains,
		}); err != nil {
			return nil, err
		}
	}
	return z.snapshot(nil), errors.Join(z.faults...)
}

func (z *zoneProxy) meshes() []*topology.Mesh {
	var out []*topology.Mesh
	for _, name := range slices.Sorted(maps.Keys(z.in.World.Meshes)) {
		out = append(out, z.in.World.Meshes[name])
	}
	return out
}

// GenerateIngress makes the snapshot of a ZoneIngress: it forwards TLS by its server name to the services of its own zone
// (contract controlplane.md §1.6, zones.md §7).
func (g *Generator) GenerateIngress(in ZoneInput) (*Snapshot, error) {
	z, err := in.start()
	if err != nil {
		return nil, err
	}
	for _, mesh := range z.meshes() {
		for _, s := range mesh.Services {
			if err := z.pass(g, s); err != nil {
				return nil, err
			}
		}
		for _, s := range mesh.MultiZone {
			if err := z.pass(g, s); err != nil {
				return nil, err
			}
		}
	}
	return z.finish()
}

func (z *zoneProxy) pass(g *Generator, s *topology.Service) error {
	if s.Remote() {
		return nil
	}
	done := map[uint32]bool{}
	for _, p := range s.Spec.Ports {
		if done[p.Port] {
			continue
		}
		done[p.Port] = true
		dest := effect.Destination(s.Resource, p.Port)
		z.chains = append(z.chains, effect.NewPassChain(dest, effect.SNI(s.Resource, p.Port)))
		c := &effect.Cluster{Cluster: &clusterv3.Cluster{Name: dest, ConnectTimeout: effect.ZoneProxyTimeout()}}
		c.SetEDS()
		if err := z.addCluster(effect.OriginOutbound, c); err != nil {
			return err
		}
		r, err := g.localAssignment(s, dest, p.Port)
		if err != nil {
			return err
		}
		z.add(TypeEndpoint, r)
	}
	return nil
}

// GenerateEgress makes the snapshot of a ZoneEgress: it ends the mTLS of a mesh and goes out to its MeshExternalServices
// (contract zones.md §7). A service whose configuration cannot be made is left out and told in the error, which comes with
// a good snapshot.
func (g *Generator) GenerateEgress(in ZoneInput) (*Snapshot, error) {
	z, err := in.start()
	if err != nil {
		return nil, err
	}
	for _, mesh := range z.meshes() {
		if mesh.Spec.EnabledBackend() == nil {
			continue // nobody can prove to be of the mesh
		}
		before := len(z.chains)
		z.env.Mesh = mesh.Name
		if err := z.outside(g, mesh); err != nil {
			return nil, err
		}
		if err := z.legacyServices(g, mesh); err != nil {
			return nil, err
		}
		if len(z.chains) == before {
			continue
		}
		bundle, identity, err := in.Secrets(mesh.Name)
		if err != nil {
			return nil, err
		}
		if err := addSecrets(&z.builder, mesh.Name, bundle, identity); err != nil {
			return nil, err
		}
	}
	return z.finish()
}

// outside adds the MeshExternalServices of a mesh, each with the policies that act on clusters.
func (z *zoneProxy) outside(g *Generator, mesh *topology.Mesh) error {
	var principals []*rbacconfigv3.Principal
	if mesh.Spec.Routing == nil || !mesh.Spec.Routing.DefaultForbidMeshExternalServiceAccess {
		principals = []*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_Any{Any: true}}}
	}
	p := &effect.Proxy{Env: z.env}
	for _, s := range mesh.External {
		// One that is bound to another zone is for the egress of that zone (contract policies.md §2.5).
		if zone := s.Labels[resource.LabelZone]; zone != "" && zone != z.in.World.Zones.Local {
			continue
		}
		b, err := z.backend(mesh, s)
		if err != nil {
			z.faults = append(z.faults, fmt.Errorf("leave out MeshExternalService %s of mesh %s: %w", s.Name, mesh.Name, err))
			continue
		}
		p.Backends = append(p.Backends, b)
		port := s.Spec.Ports[0]
		chain := effect.NewEgressChain(z.env, z.listenerName(), b.Destination, effect.SNI(s.Resource, port.Port), port.AppProtocol, principals)
		z.chains = append(z.chains, chain)
		p.Outbounds = append(p.Outbounds, &effect.Outbound{
			Service: b.Service, Section: b.Section, Protocol: port.AppProtocol, Destination: b.Destination, Egress: true,
			Listener: &effect.Listener{Chains: []*effect.Chain{chain}},
		})
	}
	if len(p.Backends) == 0 {
		return nil
	}
	rules := z.in.Rules(mesh)
	for _, e := range g.effects {
		if !actsOnEgress(e.Kind) || rules[e.Kind] == nil {
			continue
		}
		if err := e.Apply(p, rules[e.Kind]); err != nil {
			return fmt.Errorf("apply %s: %w", e.Kind, err)
		}
	}
	for _, b := range p.Backends {
		if err := z.addCluster(effect.OriginOutbound, b.Cluster); err != nil {
			return err
		}
	}
	return nil
}

// actsOnEgress tells the kinds that leave a MeshExternalService to the egress (contract effects-routing.md §1 trap 6).
func actsOnEgress(k resource.Kind) bool {
	return k == "MeshCircuitBreaker" || k == "MeshHealthCheck" || k == "MeshLoadBalancingStrategy"
}

func (z *zoneProxy) backend(mesh *topology.Mesh, s *topology.Service) (*effect.Backend, error) {
	spec := s.Resource.Spec.(*resource.MeshExternalService)
	port := s.Spec.Ports[0]
	tags := maps.Clone(s.Labels)
	if tags == nil {
		tags = map[string]string{}
	}
	tags["mesh"] = mesh.Name
	var endpoints []effect.ExternalEndpoint
	for _, e := range spec.Endpoints {
		endpoints = append(endpoints, effect.ExternalEndpoint{Address: e.Address, Port: e.Port, Tags: tags, Zone: s.Labels[resource.LabelZone]})
	}
	if len(endpoints) == 0 {
		return nil, errors.New("it has no endpoints")
	}
	dest := effect.Destination(s.Resource, port.Port)
	plain := effect.NewExternalCluster(dest, port.AppProtocol, endpoints)
	if err := secureExternal(plain, mesh, spec.TLS, endpoints, z.in.Meta.SystemCAPath); err != nil {
		return nil, err
	}
	if len(plain.TLSMatches) > 0 {
		for i := range endpoints {
			endpoints[i].Match = map[string]string{hostTag: endpoints[i].Address}
		}
		matches := plain.TLSMatches
		plain = effect.NewExternalCluster(dest, port.AppProtocol, endpoints)
		plain.TLSMatches = matches
	}
	plain.ConnectTimeout = effect.ZoneProxyTimeout()
	return &effect.Backend{
		Service: s.Key, Section: effect.Section(port), Protocol: port.AppProtocol, Destination: dest, Cluster: plain, Egress: true,
	}, nil
}

// computeZoneProxy returns nil while the ZoneIngress or ZoneEgress is not in the topology; a change will tell when it is.
func (s *Server) computeZoneProxy(ctx context.Context, w *topology.World, name string, meta Meta) (*Snapshot, time.Time, error) {
	in := ZoneInput{World: w, Meta: meta}
	generate := s.generator.GenerateIngress
	switch meta.ProxyType {
	case bootstrap.TypeIngress:
		r := w.Zones.Ingress(name)
		if r == nil {
			return nil, time.Time{}, nil
		}
		if n := resource.SpecOf[*resource.ZoneIngress](r).Networking; n != nil {
			in.Address, in.Port = n.Address, n.Port
		}
	case bootstrap.TypeEgress:
		r := w.Zones.Egress(name)
		if r == nil {
			return nil, time.Time{}, nil
		}
		if n := resource.SpecOf[*resource.ZoneEgress](r).Networking; n != nil {
			in.Address, in.Port = n.Address, n.Port
		}
		generate = s.generator.GenerateEgress
	default:
		return nil, time.Time{}, nil
	}
	var renew time.Time
	in.Rules = func(m *topology.Mesh) map[resource.Kind]*policy.Rules { return s.egressRules(w, m, name) }
	in.Permissions = func(m *topology.Mesh, inbound *resource.Inbound) map[resource.Kind]*policy.Rules {
		return s.externalPermissions(w, m, name, inbound)
	}
	in.Secrets = func(mesh string) ([]byte, *KeyPair, error) {
		bundle, err := s.cfg.TrustBundle(mesh)
		if err != nil {
			return nil, nil, fmt.Errorf("get the trust bundle of mesh %s: %w", mesh, err)
		}
		kp, at, err := s.cfg.EgressIdentity(ctx, mesh, name)
		if err != nil {
			return nil, nil, fmt.Errorf("get the identity of egress %s in mesh %s: %w", name, mesh, err)
		}
		if renew.IsZero() || at.Before(renew) {
			renew = at
		}
		return bundle, kp, nil
	}
	if s.cfg.Admin != nil && meta.AdminPort != 0 && in.Address != "" {
		var err error
		if in.Admin, err = s.cfg.Admin(in.Address); err != nil {
			return nil, time.Time{}, fmt.Errorf("get the admin certificate of zone proxy %s: %w", name, err)
		}
	}
	snap, err := generate(in)
	if snap == nil {
		return nil, time.Time{}, fmt.Errorf("generate configuration of zone proxy %s: %w", name, err)
	}
	if err != nil {
		s.log.Warn("configuration of a zone proxy is incomplete", "proxy", name, "error", err)
	}
	return snap, renew, nil
}

// egressRules are what policies for the whole mesh say about clusters: an egress has no tags by which one could select it.
func (s *Server) egressRules(w *topology.World, mesh *topology.Mesh, name string) map[resource.Kind]*policy.Rules {
	rules, err := s.rulebook.rules(w, mesh, egressDataplane(w, mesh, name), false)
	if err != nil {
		s.log.Warn("rules of an egress are incomplete", "mesh", mesh.Name, "proxy", name, "error", err)
	}
	return rules
}

// externalPermissions finds the permissions of an ExternalService by its tags, as those of a sidecar with such an inbound.
func (s *Server) externalPermissions(w *topology.World, mesh *topology.Mesh, name string, in *resource.Inbound) map[resource.Kind]*policy.Rules {
	d := egressDataplane(w, mesh, name+"/"+in.Tags[resource.TagService])
	d.Spec.Networking.Inbound = []*resource.Inbound{in}
	rules, err := s.rulebook.rules(w, mesh, d, false)
	if err != nil {
		s.log.Warn("rules of an external service are incomplete", "mesh", mesh.Name, "service", in.Tags[resource.TagService], "error", err)
	}
	return rules
}

// egressDataplane stands for an egress where policies want to see a Dataplane.
func egressDataplane(w *topology.World, mesh *topology.Mesh, name string) *topology.Dataplane {
	spec := &resource.Dataplane{Networking: &resource.Networking{Inbound: []*resource.Inbound{{Port: 1, Tags: map[string]string{
		resource.TagService: "zone-egress", resource.TagZone: w.Zones.Local,
	}}}}}
	return &topology.Dataplane{Spec: spec, Resource: &resource.Resource{
		Meta: resource.Meta{
			Key:    resource.Key{Kind: resource.KindZoneEgress, Mesh: mesh.Name, Name: "zone-egress/" + name},
			Labels: map[string]string{resource.LabelOrigin: resource.OriginZone},
		}, Spec: spec,
	}}
}

// otherType refuses a second kind of zone proxy under the name of one that is connected: nodes are told apart by name.
func (s *Server) otherType(id topology.ProxyID, proxyType string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.proxies[id]; id.Mesh == "" && p != nil && p.meta.ProxyType != proxyType {
		return fmt.Errorf("a zone %s of the name %s is connected: give this %s another name", p.meta.ProxyType, id.Name, proxyType)
	}
	return nil
}
