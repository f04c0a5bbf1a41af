package xds

import (
	"encoding/json"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/internal/crew"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// work makes the configuration of one proxy. What an earlier snapshot of the proxy has in common with it is taken over; the
// rest is looked up by its inputs, and what is missing then is handed to the effects in one effect.Proxy, and remembered.
type work struct {
	g     *Generator
	b     *builder
	in    *Input
	env   effect.Env
	print *fingerprints

	made    *made
	earlier *earlier

	// arranging are the effects on endpoints; routed says that there are policies for routes.
	arranging []effect.Kind
	routed    bool
	// passing and whole tell which parts the effective policies want to see: what passes by, or everything at once.
	passing, whole bool
	// patching is the kind that patches, nil when none is effective.
	patching *effect.Kind

	// taken are the clusters of the proxy that lead to no service, places those that outbounds to service objects listen on,
	// and called the values of kuma.io/service that the proxy has an outbound to.
	taken, places, called map[string]bool
	// used are the clusters that outbounds lead to by name; secured says that one of them, or an inbound, has mTLS.
	used    map[string]*use
	secured bool

	// proxy has what there is only once. Tasks are other parts that are not known yet, which the crew makes in shares; shared says
	// that it has the first.
	proxy  effect.Proxy
	tasks  []task
	shared bool
	crew   crew.Crew
}

func newWork(g *Generator, b *builder, in *Input, env effect.Env) *work {
	w := &work{g: g, b: b, in: in, env: env, print: newFingerprints(g.effects, env, in.Rules)}
	w.proxy.Env = env
	for i, e := range g.effects {
		rules := in.Rules[e.Kind]
		if !effect.Effective(rules) {
			continue
		}
		if e.Endpoints != nil {
			w.arranging = append(w.arranging, e)
		}
		if e.Patch != nil {
			w.patching = &g.effects[i]
			b.messages = map[*Resource]proto.Message{}
		}
		w.routed = w.routed || e.Route != nil
		w.passing = w.passing || e.Passthrough
		w.whole = w.whole || e.Whole != nil && e.Whole(rules)
	}
	w.passing = w.passing || w.whole
	w.made = &made{
		basis: basisOf(in), common: w.print.common(), byTags: w.print.byTags, whole: w.whole, rules: in.Rules, applied: map[resource.Kind]*applied{},
		outbounds: in.Mesh.Outbounds(in.Dataplane), legacy: in.Mesh.LegacyOutbounds(in.Dataplane),
	}
	w.earlier = w.compare(in.Before)
	n := len(w.made.outbounds) + len(w.made.legacy)
	w.used = make(map[string]*use, n)
	b.parts = make([]part, 0, 3*n+n/8+64) // a listener, a cluster and endpoints for each, and what there is besides
	return w
}

// known looks a part up, unless all parts are wanted.
func known[K comparable, V any](w *work, cache *partCache[K, V], key K) (V, bool) {
	if w.whole {
		var none V
		return none, false
	}
	return cache.lookup(key)
}

// run makes all listeners, clusters and endpoints.
func (w *work) run(net *resource.Networking) error {
	defer func() { _ = w.crew.Wait() }() // also when it fails on the way
	if err := w.fixed(net); err != nil {
		return err
	}
	if err := w.passthrough(net); err != nil {
		return err
	}
	if err := w.directAccess(); err != nil {
		return err
	}
	w.claim(net.Inbound)
	w.incoming(net.Inbound)
	if err := w.outgoing(); err != nil {
		return err
	}
	if err := w.apply(); err != nil {
		return err
	}
	if err := w.collect(); err != nil {
		return err
	}
	return w.patch()
}

// fixed adds what depends on no policy.
func (w *work) fixed(net *resource.Networking) error {
	b := &builder{messages: w.b.messages}
	if w.made.fixed = w.earlier.fixed; !w.earlier.sameBasis {
		if err := addAdmin(b, w.env, w.in.Meta, w.in.Admin); err != nil {
			return err
		}
		if err := addProbes(b, w.env, w.in.Meta, w.in.Dataplane.Spec); err != nil {
			return err
		}
		w.made.fixed = b.parts
	}
	if w.made.dns, w.made.names = w.earlier.dns, w.earlier.names; !w.earlier.sameBasis || !w.earlier.sameOutbounds {
		b.parts, w.made.names = nil, nil
		if err := w.dns(b, net); err != nil {
			return err
		}
		w.made.dns = b.parts
	}
	w.b.parts = append(append(w.b.parts, w.made.fixed...), w.made.dns...)
	return nil
}

// outgoing makes the lanes of all outbounds.
func (w *work) outgoing() error {
	before := len(w.made.outbounds)
	lanes := make([]lane, before+len(w.made.legacy))
	w.made.uses = make([]*use, 0, len(lanes))
	w.made.lanes = lanes
	for i, o := range w.made.outbounds {
		if err := w.outbound(o, &lanes[i]); err != nil {
			return err
		}
	}
	for i, o := range w.made.legacy {
		if err := w.legacyOutbound(o, &lanes[before+i]); err != nil {
			return err
		}
	}
	return nil
}

// collect brings all parts into their order.
func (w *work) collect() error {
	if err := w.passthroughInbound(); err != nil {
		return err
	}
	if err := w.passed(); err != nil {
		return err
	}
	for _, l := range w.proxy.Direct {
		if err := w.b.addListener(effect.OriginDirectAccess, l); err != nil {
			return err
		}
	}
	for _, in := range w.made.inbounds { // of two with one port the last wins (contract effects-security.md §1.2)
		w.b.parts = append(w.b.parts, part{effect.OriginInbound, TypeListener, in.listener}, part{effect.OriginInbound, TypeCluster, in.cluster})
	}
	for _, u := range w.made.uses {
		w.b.parts = append(w.b.parts, part{effect.OriginOutbound, TypeCluster, u.cluster})
	}
	for _, u := range w.made.uses {
		if u.endpoints != nil {
			w.b.add(TypeEndpoint, u.endpoints)
		}
	}
	for i := range w.made.lanes {
		if l := w.made.lanes[i].listener; l != nil {
			w.b.parts = append(w.b.parts, part{effect.OriginOutbound, TypeListener, l})
		}
	}
	for _, e := range w.g.effects {
		if a := w.made.applied[e.Kind]; a != nil {
			w.b.parts = append(w.b.parts, a.parts...)
			w.b.warnings = append(w.b.warnings, a.warnings...)
		}
	}
	return w.paged()
}

// incoming makes the listeners and clusters of all inbounds.
func (w *work) incoming(inbounds []*resource.Inbound) {
	served := slices.DeleteFunc(slices.Clone(inbounds), func(in *resource.Inbound) bool { return in.Port == effect.Serviceless })
	w.secured = w.secured || len(served) > 0 && w.env.MTLSMode != ""
	if w.earlier.sameInbounds {
		w.made.inbounds = w.earlier.inbounds
		return
	}
	w.made.inbounds = make([]inboundPart, len(served))
	for i, in := range served {
		w.inbound(in, &w.made.inbounds[i])
	}
}

func (w *work) inbound(in *resource.Inbound, p *inboundPart) {
	key, keyErr := w.inboundKey(in)
	if keyErr == nil {
		if r, ok := known(w, w.g.inbounds, key); ok {
			*p = r
			return
		}
	}
	w.later(func(proxy *effect.Proxy) func() error {
		ib := effect.NewInbound(w.env, in)
		proxy.Inbounds = append(proxy.Inbounds, ib)
		return func() (err error) {
			p.strict, p.ports = ib.Strict(), [2]uint32{in.Port, effect.WorkloadPort(in)}
			if p.listener, err = w.b.listener(ib.Listener); err != nil {
				return err
			}
			if p.cluster, err = w.b.cluster(ib.Cluster); err != nil {
				return err
			}
			if keyErr == nil && !w.whole {
				w.g.inbounds.store(key, *p)
			}
			return nil
		}
	})
}

func (w *work) inboundKey(in *resource.Inbound) (string, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return "", err
	}
	return join(w.env.Mesh, w.env.MTLSMode, w.env.Address, w.env.Zone, bit(w.env.Transparent), bit(w.env.IPv6), bit(w.env.Guarded),
		string(body), w.print.inbound(in)), nil
}
