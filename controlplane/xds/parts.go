package xds

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

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

	// passing and whole tell which parts the effective policies want to see: what passes by, or everything at once.
	passing, whole bool

	proxy  effect.Proxy
	finish []func() error
}

func newWork(g *Generator, b *builder, in *Input, env effect.Env) *work {
	w := &work{g: g, b: b, in: in, env: env, print: newFingerprints(g.effects, env, in.Rules)}
	w.proxy.Env = env
	for _, e := range g.effects {
		rules := in.Rules[e.Kind]
		if !effect.Effective(rules) {
			continue
		}
		b.patched = b.patched || e.Patch != nil
		w.passing = w.passing || e.Passthrough
		w.whole = w.whole || e.Patch != nil || e.Whole != nil && e.Whole(rules)
	}
	w.passing = w.passing || w.whole
	return w
}

// known looks a part up, unless all parts are wanted.
func known[V any](w *work, cache *partCache[string, V], key string) (V, bool) {
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

// run returns whether anything refers to the secrets of the mesh.
func (w *work) run(inbounds []*resource.Inbound, outbounds []topology.Outbound, legacy []topology.LegacyOutbound) (bool, error) {
	secured := false
	for _, in := range inbounds {
		if in.Port == effect.Serviceless {
			continue
		}
		secured = secured || w.env.MTLSMode != ""
		w.inbound(in)
	}
	done := map[string]bool{}
	for _, o := range outbounds {
		w.outbound(o)
		dest := effect.Destination(o.Service.Resource, o.Port.Port)
		if !effect.RoutableProtocol(o.Port.AppProtocol) || done[dest] {
			continue
		}
		done[dest] = true
		secured = w.backend(o, dest) || secured
		err := w.endpoints(backendRef{destination: dest, service: o.Service.Key, port: o.Port.Port},
			&effect.Backend{Service: o.Service.Key, Section: effect.Section(o.Port), Destination: dest})
		if err != nil {
			return false, err
		}
	}
	encrypted, err := w.legacy(legacy, inbounds, outbounds)
	if err != nil {
		return false, err
	}
	secured = secured || encrypted
	for _, e := range w.g.effects {
		rules := w.in.Rules[e.Kind]
		if rules == nil {
			rules = &policy.Rules{Kind: e.Kind}
		}
		if err := e.Apply(&w.proxy, rules); err != nil {
			return false, fmt.Errorf("apply %s: %w", e.Kind, err)
		}
	}
	for _, f := range w.finish {
		if err := f(); err != nil {
			return false, err
		}
	}
	added, err := w.proxy.BuildAdded()
	if err != nil {
		return false, err
	}
	for _, part := range added {
		if err := w.b.addPart(part, nil); err != nil {
			return false, err
		}
	}
	return secured, w.patch()
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
		var err error
		if parts, err = e.Patch(parts, rules); err != nil {
			return fmt.Errorf("apply %s: %w", e.Kind, err)
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

// endpoints adds the endpoints of a cluster, as the proxy sees them. Of b only the names are there.
func (w *work) endpoints(ref backendRef, b *effect.Backend) error {
	for _, e := range w.g.effects {
		rules := w.in.Rules[e.Kind]
		if e.Endpoints == nil || !effect.Effective(rules) {
			continue
		}
		if key, arrange := e.Endpoints(w.env, b, rules); key != "" {
			ref.arranged, ref.arrange = key, arrange
		}
	}
	w.b.backends = append(w.b.backends, ref)
	r, err := w.g.assignment(w.in.Mesh, ref)
	if err != nil {
		return err
	}
	w.b.add(TypeEndpoint, r)
	return nil
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
		string(body), w.print.inbound(in)), nil
}

func (w *work) outbound(o topology.Outbound) {
	dest := effect.Destination(o.Service.Resource, o.Port.Port)
	key := join(w.env.Mesh, bit(w.env.Transparent), bit(w.env.IPv6), w.env.SourceTags, o.VIP,
		strconv.FormatUint(uint64(o.ListenPort), 10), dest, o.Port.AppProtocol, w.print.service(o.Service.Key, effect.Section(o.Port)))
	if r, ok := known(w, w.g.outbounds, key); ok {
		w.b.add(TypeListener, r)
		return
	}
	ob := effect.NewOutbound(w.env, o.VIP, o.ListenPort, o.Service.Resource, o.Port)
	w.proxy.Outbounds = append(w.proxy.Outbounds, ob)
	w.finish = append(w.finish, func() error {
		l, err := ob.Listener.Build()
		if err != nil {
			return err
		}
		return w.part(effect.OriginOutbound, l, func(r *Resource) { w.g.outbounds.store(key, r) })
	})
}

// backend returns whether the cluster speaks TLS.
func (w *work) backend(o topology.Outbound, dest string) bool {
	protocol := protocolOf(o.Service.Endpoints[o.Port.Port])
	if o.Service.Kind == resource.KindMeshExternalService {
		protocol = o.Port.AppProtocol
	}
	be := effect.NewBackend(w.env, o.Service.Resource, o.Service.Spec, o.Service.Status, o.Port, protocol)
	parts := []string{w.env.Mesh, dest, protocol, w.print.service(o.Service.Key, effect.Section(o.Port)), w.print.clusters}
	secured := be.Cluster.TLS != nil
	if secured {
		parts = append(parts, be.Cluster.TLS.Sni)
		for _, id := range o.Service.Spec.Identities {
			parts = append(parts, id.Type, id.Value)
		}
	}
	key := join(parts...)
	if r, ok := known(w, w.g.clusters, key); ok {
		w.b.add(TypeCluster, r)
		return secured
	}
	w.proxy.Backends = append(w.proxy.Backends, be)
	w.finish = append(w.finish, func() error {
		c, err := be.Cluster.Build()
		if err != nil {
			return err
		}
		return w.part(effect.OriginOutbound, c, func(r *Resource) { w.g.clusters.store(key, r) })
	})
	return secured
}

// protocolOf is what all endpoints speak; empty when there is none or they have nothing in common.
func protocolOf(endpoints []topology.Endpoint) string {
	if len(endpoints) == 0 {
		return ""
	}
	p := endpoints[0].Tags[resource.TagProtocol]
	for _, e := range endpoints[1:] {
		p = effect.CommonProtocol(p, e.Tags[resource.TagProtocol])
	}
	return p
}

// fingerprints renders, for cache keys, what rules say about one inbound or service.
type fingerprints struct {
	effects []effect.Kind
	rules   map[resource.Kind]*policy.Rules
	confs   map[any]string
	// general says for every kind whether any policy is effective at all, which some effects look at, and what else of the
	// proxy flows into its parts.
	general string
	// clusters is what rules of the proxy's own inbounds mean for its clusters.
	clusters string
}

func newFingerprints(effects []effect.Kind, env effect.Env, rules map[resource.Kind]*policy.Rules) *fingerprints {
	f := &fingerprints{effects: effects, rules: rules, confs: map[any]string{}}
	for _, e := range effects {
		effective := effect.Effective(rules[e.Kind])
		f.general += bit(effective)
		if effective && e.Key != nil {
			f.general += join(e.Key(env, rules[e.Kind]))
		}
		f.clusters += join(effect.ClusterKey(rules[e.Kind]))
	}
	return f
}

func (f *fingerprints) service(key resource.Key, section string) string {
	parts := []string{f.general}
	for _, e := range f.effects {
		for _, conf := range f.rules[e.Kind].ForService(key, section) {
			parts = append(parts, f.conf(conf))
		}
		parts = append(parts, "")
	}
	return join(parts...)
}

func (f *fingerprints) inbound(in *resource.Inbound) string {
	parts := []string{f.general}
	for _, e := range f.effects {
		rules, selected := f.rules[e.Kind].ForInbound(in)
		parts = append(parts, bit(selected))
		for _, r := range rules {
			for _, m := range r.Matchers {
				parts = append(parts, m.Key, m.Value, bit(m.Not))
			}
			parts = append(parts, f.conf(r.Conf))
		}
		parts = append(parts, "")
	}
	return join(parts...)
}

func (f *fingerprints) conf(conf any) string {
	if s, ok := f.confs[conf]; ok {
		return s
	}
	b, err := json.Marshal(conf)
	if err != nil {
		// Confs come from JSON; one that does not go back is unlike all others.
		b = fmt.Appendf(nil, "%p", conf)
	}
	f.confs[conf] = string(b)
	return string(b)
}

// join makes one string of parts such that different parts never give the same string.
func join(parts ...string) string {
	n := 0
	for _, p := range parts {
		n += len(p) + 4
	}
	b := slices.Grow([]byte(nil), n)
	for _, p := range parts {
		b = strconv.AppendInt(b, int64(len(p)), 36)
		b = append(b, ':')
		b = append(b, p...)
	}
	return string(b)
}

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
