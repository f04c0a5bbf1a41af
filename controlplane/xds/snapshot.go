package xds

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Type URLs of the resources that are served.
const (
	TypeCluster  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	TypeEndpoint = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	TypeListener = "type.googleapis.com/envoy.config.listener.v3.Listener"
	TypeRoute    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	TypeSecret   = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	// TypeRuntime is asked for by builtin gateways.
	TypeRuntime = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
)

// pushOrder is the order in which responses of different types are sent (contract controlplane.md §3.1).
func pushOrder() []string {
	return []string{TypeCluster, TypeEndpoint, TypeListener, TypeRoute, TypeSecret, TypeRuntime}
}

// served tells whether a type can be subscribed to; requests for others stay unanswered.
func served(typeURL string) bool { return slices.Contains(pushOrder(), typeURL) }

// Resource is one Envoy resource as it goes over the wire. It is immutable and shared between proxies.
type Resource struct {
	Name string
	// Version is a hash of the content: equal versions mean equal bytes.
	Version string
	Any     *anypb.Any
}

type validator interface{ ValidateAll() error }

func newResource(name string, m proto.Message) (*Resource, error) {
	if v, ok := m.(validator); ok {
		if err := v.ValidateAll(); err != nil {
			return nil, fmt.Errorf("validate resource %s: %w", name, err)
		}
	}
	a, err := effect.Pack(m)
	if err != nil {
		return nil, fmt.Errorf("make resource %s: %w", name, err)
	}
	return &Resource{Name: name, Version: hash(a.Value), Any: a}, nil
}

// check applies Envoy's rules also to the typed configs within the resource. These are handed on as they are: what Kuma
// sends has the last word.
func (r *Resource) check() error {
	m, err := r.Any.UnmarshalNew()
	if err != nil {
		return err
	}
	return protorange.Options{Resolver: effect.Types{}}.Range(m.ProtoReflect(), func(v protopath.Values) error {
		last := v.Index(-1)
		if last.Step.Kind() != protopath.AnyExpandStep {
			return nil
		}
		if one, ok := last.Value.Message().Interface().(validator); ok {
			return one.ValidateAll()
		}
		return nil
	}, nil)
}

// hash gives 96 bits: enough that two contents never meet, short enough to repeat in every request.
func hash(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:12])
}

// Snapshot is everything that one proxy is told. It is immutable.
type Snapshot struct {
	sets map[string]*set
	// backends are the ports whose endpoints the snapshot holds, so that they can be replaced alone.
	backends []backendRef
	// warnings say which parts of policies were left out, patchWarnings those of each kind that patches.
	warnings      []string
	patchWarnings map[resource.Kind][]string
}

// Warnings say which parts of policies have no effect because they contradict others. The slice must not be changed.
func (s *Snapshot) Warnings() []string { return s.warnings }

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

// set is the resources of one type.
type set struct {
	byName map[string]*Resource
	names  []string // sorted
	// version is a hash of all names and versions.
	version string
}

func newSet(byName map[string]*Resource) *set {
	names := slices.Sorted(maps.Keys(byName))
	return &set{byName: byName, names: names, version: versionOf(names, byName)}
}

func versionOf(names []string, byName map[string]*Resource) string {
	h := sha256.New()
	for _, n := range names {
		h.Write([]byte(n))
		h.Write([]byte{0})
		h.Write([]byte(byName[n].Version))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:12])
}

// Resources returns the resources of a type by name; the map must not be changed. It is nil for types without any.
func (s *Snapshot) Resources(typeURL string) map[string]*Resource {
	if t := s.sets[typeURL]; t != nil {
		return t.byName
	}
	return nil
}

// Types returns the type URLs that have resources, sorted.
func (s *Snapshot) Types() []string { return slices.Sorted(maps.Keys(s.sets)) }

// Size is the number of bytes of all resources.
func (s *Snapshot) Size() int {
	n := 0
	for _, t := range s.sets {
		for _, r := range t.byName {
			n += len(r.Any.Value)
		}
	}
	return n
}

func (s *Snapshot) get(typeURL string) *set {
	if t := s.sets[typeURL]; t != nil {
		return t
	}
	return &set{}
}

// builder collects the resources of a snapshot.
type builder struct {
	types map[string]map[string]*Resource
	// expected is about how many resources of a type will come.
	expected int
	backends []backendRef
	// warnings and patchWarnings as in Snapshot.
	warnings      []string
	patchWarnings map[resource.Kind][]string
	// patched: listeners and clusters are collected in parts, for policies to change, before they are packed.
	patched bool
	parts   []effect.Part
}

func (b *builder) add(typeURL string, r *Resource) {
	if b.types == nil {
		b.types = map[string]map[string]*Resource{}
	}
	if b.types[typeURL] == nil {
		b.types[typeURL] = make(map[string]*Resource, b.expected)
	}
	b.types[typeURL][r.Name] = r
}

func (b *builder) addMessage(typeURL, name string, m proto.Message) error {
	r, err := newResource(name, m)
	if err != nil {
		return err
	}
	b.add(typeURL, r)
	return nil
}

// addPart adds a finished listener or cluster. Store, which may be nil, is told what it was packed into, unless it may still
// be patched.
func (b *builder) addPart(part effect.Part, store func(*Resource)) error {
	if b.patched {
		b.parts = append(b.parts, part)
		return nil
	}
	r, err := packPart(part)
	if err != nil {
		return err
	}
	if store != nil {
		store(r.Resource)
	}
	b.add(r.typeURL, r.Resource)
	return nil
}

func (b *builder) addListener(origin effect.Origin, l *effect.Listener) error {
	m, err := l.Build()
	if err != nil {
		return err
	}
	return b.addPart(effect.Part{Origin: origin, Message: m}, nil)
}

func (b *builder) addCluster(origin effect.Origin, c *effect.Cluster) error {
	m, err := c.Build()
	if err != nil {
		return err
	}
	return b.addPart(effect.Part{Origin: origin, Message: m}, nil)
}

type packed struct {
	typeURL string
	*Resource
}

func packPart(part effect.Part) (packed, error) {
	switch m := part.Message.(type) {
	case *listenerv3.Listener:
		r, err := newResource(m.Name, m)
		return packed{TypeListener, r}, err
	case *clusterv3.Cluster:
		r, err := newResource(m.Name, m)
		return packed{TypeCluster, r}, err
	default:
		return packed{}, fmt.Errorf("part of type %T is neither a listener nor a cluster", m)
	}
}

func (b *builder) snapshot() *Snapshot {
	s := &Snapshot{sets: make(map[string]*set, len(b.types)), backends: b.backends, warnings: b.warnings, patchWarnings: b.patchWarnings}
	for t, byName := range b.types {
		s.sets[t] = newSet(byName)
	}
	return s
}
