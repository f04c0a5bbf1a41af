package xds

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Input is everything that a snapshot depends on.
type Input struct {
	Mesh      *topology.Mesh
	Dataplane *topology.Dataplane
	// Zone is the name of the zone, added to tags as kuma.io/zone.
	Zone string
	// Domain ends the names of kuma.io/service values; DefaultDomain when empty.
	Domain string
	Meta   Meta
	// Rules are the policies of the proxy by kind; a kind that is absent says nothing.
	Rules map[resource.Kind]*policy.Rules
	// TrustBundle holds the authorities of the mesh, PEM. It is read only when the mesh has mTLS.
	TrustBundle []byte
	// Identity is nil for a proxy that keeps its own key.
	Identity *KeyPair
	// Admin secures the remote side of Envoy's admin interface; nil leaves only /ready reachable from elsewhere.
	Admin *AdminTLS
}

// KeyPair is a certificate chain and its private key, PEM.
type KeyPair struct {
	Cert, Key []byte
}

// AdminTLS is the server certificate of the listener kuma:envoy:admin and the authority of its one client, the control
// plane (contract controlplane.md §3.3).
type AdminTLS struct {
	KeyPair
	ClientCA []byte
}

// Generator makes snapshots. It is safe for concurrent use.
type Generator struct {
	effects   []effect.Kind
	inbounds  *partCache[string, inboundPart]
	outbounds *partCache[string, *Resource]
	clusters  *partCache[string, *Resource]
	endpoints *partCache[endpointKey, *Resource]
	fixed     *partCache[fixedKey, *fixedPart]

	// See memo.go.
	targets     *partCache[portKey, *effect.Target]
	listenersOf *partCache[listenerKey, *Resource]
	clustersOf  *partCache[clusterKey, knownCluster]
	routings    *partCache[routingKey, *knownRouting]
}

type inboundPart struct{ listener, cluster *Resource }

// Cache limits, in parts. A part is about 2 kB.
const (
	maxInboundParts  = 8 << 10
	maxOutboundParts = 16 << 10
	maxClusterParts  = 8 << 10
	maxEndpointParts = 8 << 10
)

// NewGenerator makes a generator that applies effects in their order (contract policies.md §3.18).
func NewGenerator(effects []effect.Kind) *Generator {
	if len(effects) > maxKinds {
		panic(fmt.Sprintf("%d kinds of effects are more than %d", len(effects), maxKinds))
	}
	return &Generator{
		effects:   effects,
		inbounds:  newPartCache[string, inboundPart](maxInboundParts),
		outbounds: newPartCache[string, *Resource](maxOutboundParts),
		clusters:  newPartCache[string, *Resource](maxClusterParts),
		endpoints: newPartCache[endpointKey, *Resource](maxEndpointParts),
		fixed:     newPartCache[fixedKey, *fixedPart](256),

		targets:     newPartCache[portKey, *effect.Target](maxEndpointParts),
		listenersOf: newPartCache[listenerKey, *Resource](maxOutboundParts),
		clustersOf:  newPartCache[clusterKey, knownCluster](maxClusterParts),
		routings:    newPartCache[routingKey, *knownRouting](maxClusterParts),
	}
}

// Generate makes the snapshot of one proxy. Equal inputs give equal snapshots. An error means that there is none; the
// proxy should keep what it has.
func (g *Generator) Generate(in Input) (*Snapshot, error) {
	snap, err := g.generate(in)
	if err != nil {
		return nil, fmt.Errorf("generate configuration of proxy %s.%s: %w", in.Dataplane.Mesh, in.Dataplane.Name, err)
	}
	return snap, nil
}

func (g *Generator) generate(in Input) (*Snapshot, error) {
	b := &builder{}
	net := in.Dataplane.Spec.Networking
	if net == nil {
		return b.snapshot(), nil
	}
	if net.Gateway != nil && net.Gateway.Type == resource.GatewayBuiltin {
		if err := addGatewayRuntime(b); err != nil {
			return nil, err
		}
		return b.snapshot(), nil
	}
	env := effect.NewEnv(in.Mesh.Resource, in.Dataplane.Resource, in.Zone)
	env.IPv6, env.WorkDir, env.MetricsCert, env.MetricsKey = in.Meta.IPv6, in.Meta.WorkDir, in.Meta.MetricsCert, in.Meta.MetricsKey
	w := newWork(g, b, &in, env)
	outbounds, legacy := in.Mesh.Outbounds(in.Dataplane), in.Mesh.LegacyOutbounds(in.Dataplane)
	b.expected = len(outbounds) + len(legacy)
	b.backends = make([]backendRef, 0, b.expected)
	if err := addAdmin(b, env, in.Meta, in.Admin); err != nil {
		return nil, err
	}
	if err := w.passthrough(net); err != nil {
		return nil, err
	}
	direct, err := w.directAccess(outbounds, legacy)
	if err != nil {
		return nil, err
	}
	names := hostnames(outbounds)
	addLegacyNames(names, legacy, cmp.Or(in.Domain, DefaultDomain))
	if err := addProbes(b, env, in.Meta, in.Dataplane.Spec); err != nil {
		return nil, err
	}
	if err := addDNS(b, in.Meta, net, names); err != nil {
		return nil, err
	}
	secured, err := w.run(net.Inbound, outbounds, legacy)
	if err != nil {
		return nil, err
	}
	b.warnings = slices.Concat(w.proxy.Warnings(), b.warnings)
	if secured || direct {
		if err := addSecrets(b, env.Mesh, in.TrustBundle, in.Identity); err != nil {
			return nil, err
		}
	}
	return b.snapshot(), nil
}

// GenerateEndpoints replaces only the endpoints of a snapshot, from a newer picture of the mesh. It returns old when they
// are the same.
func (g *Generator) GenerateEndpoints(old *Snapshot, mesh *topology.Mesh) (*Snapshot, error) {
	byName := make(map[string]*Resource, len(old.backends))
	changed := false
	before := old.get(TypeEndpoint)
	for _, ref := range old.backends {
		r, err := g.assignment(mesh, ref)
		if err != nil {
			return nil, err
		}
		byName[ref.destination] = r
		changed = changed || before.byName[ref.destination] == nil || before.byName[ref.destination].Version != r.Version
	}
	if !changed {
		return old, nil
	}
	next := &Snapshot{sets: make(map[string]*set, len(old.sets)), backends: old.backends, warnings: old.warnings, patchWarnings: old.patchWarnings}
	for t, s := range old.sets {
		next.sets[t] = s
	}
	next.sets[TypeEndpoint] = newSet(byName)
	return next, nil
}
