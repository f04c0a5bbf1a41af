package xds

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"

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

// witness, when set, is shown every resource: tests hold all that they cause to be made against Envoy's rules.
var witness func(*Resource, proto.Message)

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
	r := &Resource{Name: name, Version: hash(a.Value), Any: a}
	if witness != nil {
		witness(r, m)
	}
	return r, nil
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
	// made is what it was made of; nil for a proxy that has no outbounds.
	made *made
	// warnings say which parts of policies were left out, patchWarnings those of each kind that patches.
	warnings      []string
	patchWarnings map[resource.Kind][]string
}

// Warnings say which parts of policies have no effect because they contradict others. The slice must not be changed.
func (s *Snapshot) Warnings() []string { return s.warnings }

// set is the resources of one type.
type set struct {
	// list is what it was made of, in that order.
	list   []*Resource
	byName map[string]*Resource
	names  []string // sorted
	// version is a hash of all names and versions.
	version string
}

// newSet makes the set of resources, of which the last of a name counts; nil when there are none. It takes over from an
// earlier set, which may be nil, what is the same. The list must not be changed.
func newSet(list []*Resource, before *set) *set {
	if before != nil {
		if next := before.with(list); next != nil {
			return next
		}
	}
	if len(list) == 0 {
		return nil
	}
	byName := make(map[string]*Resource, len(list))
	for _, r := range list {
		byName[r.Name] = r
	}
	names := slices.Sorted(maps.Keys(byName))
	return &set{list: list, byName: byName, names: names, version: versionOf(names, byName)}
}

// with returns the set of a list that has the same names in the same places, s itself when the resources are the same too;
// nil when it is another list.
func (s *set) with(list []*Resource) *set {
	if len(s.list) != len(list) || len(s.names) != len(list) {
		return nil
	}
	var changed []*Resource
	for i, r := range list {
		switch old := s.list[i]; {
		case old == r:
		case old.Name != r.Name:
			return nil
		case old.Version != r.Version:
			changed = append(changed, r)
		}
	}
	if len(changed) == 0 {
		return s
	}
	byName := maps.Clone(s.byName)
	for _, r := range changed {
		byName[r.Name] = r
	}
	return &set{list: list, byName: byName, names: s.names, version: versionOf(s.names, byName)}
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

// Resources returns the resources of a type by name; the map must not be changed. It is nil for types without any, and for
// no Snapshot.
func (s *Snapshot) Resources(typeURL string) map[string]*Resource { return s.get(typeURL).byName }

// Names returns the sorted names of the resources of a type, which must not be changed.
func (s *Snapshot) Names(typeURL string) []string { return s.get(typeURL).names }

// Types returns the type URLs that have resources, sorted.
func (s *Snapshot) Types() []string {
	if s == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(s.sets))
}

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
	if s != nil && s.sets[typeURL] != nil {
		return s.sets[typeURL]
	}
	return &set{}
}
