package xds

import (
	"encoding/json"
	"fmt"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// work makes the inbounds, outbounds and clusters of one proxy: it looks each up by its inputs, hands those that are
// missing to the effects in one effect.Proxy, and remembers the results.
type work struct {
	g     *Generator
	b     *builder
	in    *Input
	env   effect.Env
	print *fingerprints

	// arranging are the effects on endpoints; routed says that there are policies for routes.
	arranging []effect.Kind
	routed    bool
	// passing and whole tell which parts the effective policies want to see: what passes by, or everything at once.
	passing, whole bool

	// taken are the clusters of the proxy that lead to no service, places those that outbounds to service objects listen on,
	// and called the values of kuma.io/service that the proxy has an outbound to.
	taken, places, called map[string]bool
	// used are the names of the clusters that outbounds lead to; secured says that one of them, or an inbound, has mTLS.
	used    map[string]bool
	secured bool

	proxy  effect.Proxy
	finish []func() error
}

func newWork(g *Generator, b *builder, in *Input, env effect.Env) *work {
	w := &work{g: g, b: b, in: in, env: env, print: newFingerprints(g.effects, env, in.Rules), used: map[string]bool{}}
	w.proxy.Env = env
	for _, e := range g.effects {
		rules := in.Rules[e.Kind]
		if !effect.Effective(rules) {
			continue
		}
		if e.Endpoints != nil {
			w.arranging = append(w.arranging, e)
		}
		w.routed = w.routed || e.Route != nil
		b.patched = b.patched || e.Patch != nil
		w.passing = w.passing || e.Passthrough
		w.whole = w.whole || e.Patch != nil || e.Whole != nil && e.Whole(rules)
	}
	w.passing = w.passing || w.whole
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

// part finishes a part that is shared with other proxies.
func (w *work) part(origin effect.Origin, m proto.Message, store func(*Resource)) error {
	if w.whole {
		store = nil
	}
	return w.b.addPart(effect.Part{Origin: origin, Message: m}, store)
}

// run makes all inbounds and outbounds. It returns whether anything refers to the secrets of the mesh.
func (w *work) run(inbounds []*resource.Inbound, outbounds []topology.Outbound, legacy []topology.LegacyOutbound) (bool, error) {
	w.claim(inbounds, outbounds, legacy)
	for _, in := range inbounds {
		if in.Port == effect.Serviceless {
			continue
		}
		w.secured = w.secured || w.env.MTLSMode != ""
		w.inbound(in)
	}
	for _, o := range outbounds {
		if err := w.outbound(o); err != nil {
			return false, err
		}
	}
	for _, o := range legacy {
		if err := w.legacyOutbound(o); err != nil {
			return false, err
		}
	}
	if err := w.apply(); err != nil {
		return false, err
	}
	return w.secured, w.patch()
}

// apply lets policies change the parts that are not known yet, and finishes all.
func (w *work) apply() error {
	for _, e := range w.g.effects {
		if e.Apply == nil {
			continue
		}
		rules := w.in.Rules[e.Kind]
		if rules == nil {
			rules = &policy.Rules{Kind: e.Kind}
		}
		if err := e.Apply(&w.proxy, rules); err != nil {
			return fmt.Errorf("apply %s: %w", e.Kind, err)
		}
	}
	for _, f := range w.finish {
		if err := f(); err != nil {
			return err
		}
	}
	added, err := w.proxy.BuildAdded()
	if err != nil {
		return err
	}
	for _, part := range added {
		if err := w.b.addPart(part, nil); err != nil {
			return err
		}
	}
	return nil
}

// patch lets policies change what is finished, and packs it.
func (w *work) patch() error {
	if !w.b.patched {
		return nil
	}
	parts := lastOfEachName(w.b.parts)
	for _, e := range w.g.effects {
		rules := w.in.Rules[e.Kind]
		if e.Patch == nil || !effect.Effective(rules) {
			continue
		}
		var warnings []string
		if parts, warnings = e.Patch(parts, rules); len(warnings) > 0 {
			if w.b.patchWarnings == nil {
				w.b.patchWarnings = map[resource.Kind][]string{}
			}
			w.b.patchWarnings[e.Kind] = warnings
			w.b.warnings = append(w.b.warnings, warnings...)
		}
	}
	w.b.patched = false
	for _, part := range parts {
		if err := w.b.addPart(part, nil); err != nil {
			return err
		}
	}
	return nil
}

// lastOfEachName drops the parts that another one of the same type and name replaces.
func lastOfEachName(parts []effect.Part) []effect.Part {
	type id struct {
		listener bool
		name     string
	}
	last := map[id]int{}
	idOf := func(p effect.Part) id {
		named, _ := p.Message.(interface{ GetName() string })
		_, listener := p.Message.(*listenerv3.Listener)
		return id{listener, named.GetName()}
	}
	for i, p := range parts {
		last[idOf(p)] = i
	}
	out := make([]effect.Part, 0, len(last))
	for i, p := range parts {
		if last[idOf(p)] == i {
			out = append(out, p)
		}
	}
	return out
}

func (w *work) inbound(in *resource.Inbound) {
	key, err := w.inboundKey(in)
	if err == nil {
		if part, ok := known(w, w.g.inbounds, key); ok {
			w.finish = append(w.finish, func() error { w.addInbound(part); return nil })
			return
		}
	}
	ib := effect.NewInbound(w.env, in)
	w.proxy.Inbounds = append(w.proxy.Inbounds, ib)
	w.finish = append(w.finish, func() error {
		l, lerr := ib.Listener.Build()
		if lerr != nil {
			return lerr
		}
		c, cerr := ib.Cluster.Build()
		if cerr != nil {
			return cerr
		}
		var part inboundPart
		if err := w.part(effect.OriginInbound, l, func(r *Resource) { part.listener = r }); err != nil {
			return err
		}
		if err := w.part(effect.OriginInbound, c, func(r *Resource) { part.cluster = r }); err != nil {
			return err
		}
		if err == nil && part.listener != nil {
			w.g.inbounds.store(key, part)
		}
		return nil
	})
}

// addInbound runs in the order of the inbounds: of two with one port the last wins (contract effects-security.md §1.2).
func (w *work) addInbound(p inboundPart) {
	w.b.add(TypeListener, p.listener)
	w.b.add(TypeCluster, p.cluster)
}

func (w *work) inboundKey(in *resource.Inbound) (string, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return "", err
	}
	return join(w.env.Mesh, w.env.MTLSMode, w.env.Address, w.env.Zone, bit(w.env.Transparent), bit(w.env.IPv6),
		string(body), w.print.inbound(in), w.print.listeners), nil
}
