package xds

import (
	"fmt"
	"sync"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// part is a finished resource and, of listeners and clusters, the room that it comes from.
type part struct {
	origin  effect.Origin
	typeURL string
	*Resource
}

// patchable tells whether policies that patch may see the part.
func (p part) patchable() bool { return p.typeURL == TypeListener || p.typeURL == TypeCluster }

// builder collects the resources of a snapshot.
type builder struct {
	// parts are the resources; of several of a type with one name the last wins.
	parts []part
	// warnings and patchWarnings as in Snapshot.
	warnings      []string
	patchWarnings map[resource.Kind][]string

	// messages are those of resources that have just been packed, for policies that patch; nil when there are none.
	messages map[*Resource]proto.Message
	mu       sync.Mutex // of messages
}

// add adds a resource of another type than listeners and clusters.
func (b *builder) add(typeURL string, r *Resource) {
	b.parts = append(b.parts, part{"", typeURL, r})
}

func (b *builder) addMessage(typeURL, name string, m proto.Message) error {
	r, err := newResource(name, m)
	if err != nil {
		return err
	}
	b.add(typeURL, r)
	return nil
}

func (b *builder) addListener(origin effect.Origin, l *effect.Listener) error {
	r, err := b.listener(l)
	if err != nil {
		return err
	}
	b.parts = append(b.parts, part{origin, TypeListener, r})
	return nil
}

func (b *builder) addCluster(origin effect.Origin, c *effect.Cluster) error {
	r, err := b.cluster(c)
	if err != nil {
		return err
	}
	b.parts = append(b.parts, part{origin, TypeCluster, r})
	return nil
}

// listener finishes a listener. It is safe for concurrent use.
func (b *builder) listener(l *effect.Listener) (*Resource, error) {
	m, err := l.Build()
	if err != nil {
		return nil, err
	}
	return b.pack(m.Name, m)
}

// cluster finishes a cluster. It is safe for concurrent use.
func (b *builder) cluster(c *effect.Cluster) (*Resource, error) {
	m, err := c.Build()
	if err != nil {
		return nil, err
	}
	return b.pack(m.Name, m)
}

func (b *builder) pack(name string, m proto.Message) (*Resource, error) {
	r, err := newResource(name, m)
	if err == nil && b.messages != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.messages[r] = m
	}
	return r, err
}

// packPart finishes a part that a policy has made.
func (b *builder) packPart(p effect.Part) (part, error) {
	switch m := p.Message.(type) {
	case *listenerv3.Listener:
		r, err := b.pack(m.Name, m)
		return part{p.Origin, TypeListener, r}, err
	case *clusterv3.Cluster:
		r, err := b.pack(m.Name, m)
		return part{p.Origin, TypeCluster, r}, err
	default:
		return part{}, fmt.Errorf("part of type %T is neither a listener nor a cluster", m)
	}
}

// snapshot takes over from an earlier one, which may be nil, what is the same.
func (b *builder) snapshot(before *Snapshot) *Snapshot {
	lists := make(map[string][]*Resource, len(pushOrder()))
	for i := 0; i < len(b.parts); { // they come type by type, mostly
		typeURL := b.parts[i].typeURL
		list := lists[typeURL]
		for ; i < len(b.parts) && b.parts[i].typeURL == typeURL; i++ {
			list = append(list, b.parts[i].Resource)
		}
		lists[typeURL] = list
	}
	s := &Snapshot{sets: make(map[string]*set, len(lists)), warnings: b.warnings, patchWarnings: b.patchWarnings}
	for typeURL, list := range lists {
		var old *set
		if before != nil {
			old = before.sets[typeURL]
		}
		s.sets[typeURL] = newSet(list, old)
	}
	return s
}
