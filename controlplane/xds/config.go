package xds

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Topology is what the Server reads and follows; topology.Tracker is one.
type Topology interface {
	Current() *topology.World
	Subscribe(func(topology.Change)) (cancel func())
}

// Config is what a Server needs. Fields that say so may be left out.
type Config struct {
	Topology Topology
	// Domain ends the names of kuma.io/service values; DefaultDomain when empty.
	Domain string
	// Zone is the name of the zone.
	Zone string
	// Kinds and Effects are the policies, all.Kinds() and all.Effects().
	Kinds   []policy.Kind
	Effects []effect.Kind
	// Registry decodes the Dataplanes that proxies bring along.
	Registry *resource.Registry
	// InstanceID is sent as the control plane's identifier.
	InstanceID string
	// Authenticate checks the token of a stream's first request; its error closes the stream with Unauthenticated and
	// "authentication failed: …". The Dataplane that the proxy brings is decoded only when Node.Dataplane is called, so
	// that strangers cost no work. What the token says about Dataplanes it leaves in Node.Permit. Nil lets everybody in.
	Authenticate func(ctx context.Context, token string, node *Node) error
	// Lifecycle follows the streams; may be nil.
	Lifecycle Registrar
	// TrustBundle returns the authorities of a mesh with mTLS, PEM (identity.Issuer.Bundle).
	TrustBundle func(mesh string) ([]byte, error)
	// Identity returns the certificate and key, PEM, of a proxy that keeps no key of its own, and when to ask again. The names
	// in it must be those of dp, for which the rest of the snapshot is made, and not of what is stored by then. It is
	// called each time that the proxy's snapshot is made and should return the same as long as that is good
	// (identity.Issuer.IssueForProxy).
	Identity func(ctx context.Context, id topology.ProxyID, dp *resource.Dataplane) (cert, key []byte, renewAt time.Time, err error)
	// OwnIdentity is told when a proxy whose identity comes from elsewhere has one that goes with the trust bundle, and again
	// for each other bundle (identity.Issuer.Own). May be nil.
	OwnIdentity func(ctx context.Context, id topology.ProxyID)
	// EgressIdentity is the same as Identity for a ZoneEgress, which has an identity in every mesh that it serves.
	EgressIdentity func(ctx context.Context, mesh, name string) (kp *KeyPair, renewAt time.Time, err error)
	// Admin returns what secures the remote admin listener of a proxy at an address. May be nil: then only /ready is
	// reachable from elsewhere.
	Admin func(address string) (*AdminTLS, error)
	// Log is silent when nil.
	Log *slog.Logger
	// Workers is how many snapshots are made at once; GOMAXPROCS when 0.
	Workers int
}

// Registrar follows the streams of proxies; Lifecycle is one.
type Registrar interface {
	// Register is called after authentication, before the proxy is told anything. It asks Node.Permit, whose error it wraps
	// in ErrNotPermitted. Its error closes the stream.
	Register(ctx context.Context, node *Node) (Subscription, error)
}

// Subscription is one stream of a proxy. Its methods must not block.
type Subscription interface {
	// Requested is told of the first request for a type; has says whether the proxy has resources of it from before.
	Requested(typeURL string, has bool)
	Sent(typeURL string)
	Acknowledged(typeURL string)
	Rejected(typeURL string)
	// End is called once, last; with stopping it was the control plane that ended the stream.
	End(stopping bool)
}

// Node is a proxy as the first request of a stream describes it.
type Node struct {
	ID   topology.ProxyID
	Meta Meta
	// Fresh: the first request names no version of anything, as that of an Envoy that has only just started.
	Fresh bool
	// Permit tells why a proxy may not have a Dataplane, or may not replace it; nil permits any.
	Permit func(*resource.Dataplane) error

	decode func() (*resource.Resource, error)
}

// Dataplane returns the Dataplane that the proxy brought along, decoded but not validated; nil when it brought none.
func (n *Node) Dataplane() (*resource.Resource, error) { return n.decode() }

func (s *Server) newNode(id topology.ProxyID, meta Meta) *Node {
	return &Node{ID: id, Meta: meta, decode: sync.OnceValues(func() (*resource.Resource, error) {
		if meta.Resource == "" {
			return nil, nil
		}
		return s.cfg.Registry.Decode([]byte(meta.Resource))
	})}
}

// New makes a Server. It serves streams only while Run runs.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	if cfg.TrustBundle == nil {
		cfg.TrustBundle = func(string) ([]byte, error) { return nil, errors.New("no certificate authority is configured") }
	}
	if cfg.Identity == nil {
		cfg.Identity = func(context.Context, topology.ProxyID, *resource.Dataplane) ([]byte, []byte, time.Time, error) {
			return nil, nil, time.Time{}, errors.New("no certificate authority is configured")
		}
	}
	if cfg.EgressIdentity == nil {
		cfg.EgressIdentity = func(context.Context, string, string) (*KeyPair, time.Time, error) {
			return nil, time.Time{}, errors.New("no certificate authority is configured")
		}
	}
	return &Server{
		cfg: cfg, log: cfg.Log, firstRetry: firstRetry,
		generator: NewGenerator(cfg.Effects), rulebook: newRulebook(cfg.Kinds, cfg.Zone),
		shown:   newPartCache[*Resource, json.RawMessage](maxShown),
		proxies: map[topology.ProxyID]*proxy{}, byMesh: map[string]map[string]*proxy{},
		kick: make(chan struct{}, 1), queue: newQueue(), stop: make(chan struct{}),
	}
}
