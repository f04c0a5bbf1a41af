package xds

import (
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// What follows is remembered by the identity of immutable inputs: rules and services that did not change are the same
// objects in the next picture, and comparing pointers costs nothing. Whoever is not found so is looked up by content.

// maxKinds bounds the kinds of effects.
const maxKinds = 20

// confKey is what the rules of each kind say about one port of a service object.
type confKey [maxKinds]any

// portKey is one port of a service object.
type portKey struct {
	service *topology.Service
	port    uint32
}

type listenerKey struct {
	portKey
	protocol, vip, env, routes string
	listen                     uint32
	confs                      confKey
}

type clusterKey struct {
	portKey
	env   string
	confs confKey
}

// routingKey is an outbound with what the two kinds of routes say about it.
type routingKey struct {
	portKey
	protocol string
	confs    confKey
}

// knownRouting is a routing with all that was asked to make it.
type knownRouting struct {
	*effect.Routing
	key   string
	asked []question
}

type question struct {
	ref    policy.BackendRef
	writer *resource.Resource
	target *effect.Target
	counts bool
}

// confKey tells what rules say about t: those of routes, or all others. Of several confs of one rule, which are made
// together, the first stands for all.
func (f *fingerprints) confKey(t *effect.Target, ofRoutes bool) confKey {
	var out confKey
	if !ofRoutes {
		for i, confs := range f.ofPort(t).confs {
			if len(confs) > 0 {
				out[i] = confs[0]
			}
		}
		return out
	}
	for i, e := range f.effects {
		if e.Route == nil || f.byEffect[i] == nil {
			continue
		}
		if confs, _ := t.Rule(f.byEffect[i]); len(confs) > 0 {
			out[i] = confs[0]
		}
	}
	return out
}

// ask answers like resolve and notes the question.
func (w *work) ask(asked *[]question) effect.Resolver {
	return func(ref policy.BackendRef, writer *resource.Resource) (*effect.Target, bool) {
		target, counts := w.resolve(ref, writer)
		*asked = append(*asked, question{ref, writer, target, counts})
		return target, counts
	}
}

// stands tells whether every question is still answered in the same way.
func (w *work) stands(k *knownRouting) bool {
	for _, q := range k.asked {
		target, counts := w.resolve(q.ref, q.writer)
		if counts != q.counts || !target.Same(q.target) {
			return false
		}
	}
	return true
}
