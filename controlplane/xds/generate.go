package xds

import (
	"fmt"
	"maps"

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
	// Shown says that nobody gets it, see effect.Env.
	Shown bool
	// Rules are the policies of the proxy by kind; a kind that is absent says nothing.
	Rules map[resource.Kind]*policy.Rules
	// TrustBundle holds the authorities of the mesh, PEM. It is read only when the mesh has mTLS.
	TrustBundle []byte
	// Identity is nil for a proxy that keeps its own key.
	Identity *KeyPair
	// Admin secures the remote side of Envoy's admin interface; nil leaves only /ready reachable from elsewhere.
	Admin *AdminTLS
	// Before is an earlier snapshot of the proxy, from which is taken what did not change: the result is the same without it.
	// It may be nil.
	Before *Snapshot
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
	clustersOf  *partCache[clusterKey, *use]
	routings    *partCache[routingKey, *knownRouting]
}

type inboundPart struct {
	listener, cluster *Resource
	// strict: every connection has to end in mTLS. ports are those of Envoy and of the workload.
	strict bool
	ports  [2]uint32
}

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
		clustersOf:  newPartCache[clusterKey, *use](maxClusterParts),
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
	net := in.Dataplane.Spec.Networking
	b := &builder{}
	if net == nil {
		return b.snapshot(nil), nil
	}
	if net.Gateway != nil && net.Gateway.Type == resource.GatewayBuiltin {
		if err := addGatewayRuntime(b); err != nil {
			return nil, err
		}
		return b.snapshot(nil), nil
	}
	env := effect.NewEnv(in.Mesh.Resource, in.Dataplane.Resource, in.Zone)
	env.Paged, env.Guarded = in.Meta.pageListener() != "", !in.Shown && in.Meta.Has(FeatureIdentityCSR)
	env.Shown, env.IPv6, env.WorkDir, env.MetricsCert, env.MetricsKey = in.Shown, in.Meta.IPv6, in.Meta.WorkDir, in.Meta.MetricsCert, in.Meta.MetricsKey
	w := newWork(g, b, &in, env)
	if err := w.run(net); err != nil {
		return nil, err
	}
	if w.secured {
		if err := addSecrets(b, env.Mesh, in.TrustBundle, in.Identity); err != nil {
			return nil, err
		}
	}
	snap := b.snapshot(in.Before)
	snap.made = w.made
	return snap, nil
}

// GenerateEndpoints replaces only the endpoints of a snapshot, from a newer picture of the mesh. It returns old when they
// are the same.
func (g *Generator) GenerateEndpoints(old *Snapshot, mesh *topology.Mesh) (*Snapshot, error) {
	if old.made == nil {
		return old, nil
	}
	var list []*Resource
	for _, u := range old.made.uses {
		if u.endpoints == nil {
			continue
		}
		r, err := g.assignment(mesh, u.ref)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	before := old.sets[TypeEndpoint]
	next := newSet(list, before)
	if next == before {
		return old, nil
	}
	out := *old
	out.sets = maps.Clone(old.sets)
	out.sets[TypeEndpoint] = next
	return &out, nil
}
