package native

import (
	"errors"
	"fmt"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy/effect"
)

// checkChanged tells what Envoy would not take of the parts that are in next but not in prev. What was wrong before already
// is nobody's fault here.
func checkChanged(prev, next []effect.Part) error {
	before := map[id]proto.Message{}
	for _, p := range prev {
		if p.Message != nil {
			before[idOf(p.Message)] = p.Message
		}
	}
	for _, p := range next {
		if p.Message == nil {
			continue
		}
		old := before[idOf(p.Message)]
		if old == p.Message {
			continue
		}
		if err := check(p.Message); err != nil && (old == nil || check(old) == nil) {
			return fmt.Errorf("Envoy would refuse %s: %w", idOf(p.Message), err)
		}
	}
	return nil
}

// check applies Envoy's own rules to a message and to every typed config in it.
func check(m proto.Message) error {
	if idOf(m).name == "" {
		return errors.New("it has no name")
	}
	return effect.Validate(m)
}

// id is what a listener or cluster is known by.
type id struct {
	listener bool
	name     string
}

func idOf(m proto.Message) id {
	out := id{}
	if named, ok := m.(interface{ GetName() string }); ok {
		out.name = named.GetName()
	}
	_, out.listener = m.(*listenerv3.Listener)
	return out
}

func (i id) String() string {
	if i.listener {
		return "listener " + i.name
	}
	return "cluster " + i.name
}
