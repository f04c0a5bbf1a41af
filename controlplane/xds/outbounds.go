package xds

import (
	"maps"
	"slices"
	"strconv"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// claim notes what the proxy has already: anybody may call a service as a cluster of the proxy itself is called.
func (w *work) claim(inbounds []*resource.Inbound, outbounds []topology.Outbound, legacy []topology.LegacyOutbound) {
	w.taken, w.places, w.called = map[string]bool{}, map[string]bool{}, map[string]bool{}
	for name := range w.b.types[TypeCluster] {
		w.taken[name] = true
	}
	for _, part := range w.b.parts {
		if c, ok := part.Message.(*clusterv3.Cluster); ok {
			w.taken[c.Name] = true
		}
	}
	for _, in := range inbounds {
		w.taken[effect.LocalCluster(in)] = true
	}
	if len(legacy) > 0 {
		for _, o := range outbounds {
			w.places[effect.HostPort(o.VIP, o.ListenPort)] = true
		}
	}
	for _, o := range legacy {
		w.called[o.Tags[resource.TagService]] = true
	}
}

// outbound makes the listener of an outbound to a service object, and the clusters that it leads to.
func (w *work) outbound(o topology.Outbound) error {
	own := realTarget(o.Service, o.Port)
	routing, routes, err := w.route(own)
	if err != nil || routing != nil && routing.Closed {
		return err
	}
	key := join(w.env.Mesh, bit(w.env.Transparent), bit(w.env.IPv6), w.env.SourceTags, o.VIP,
		strconv.FormatUint(uint64(o.ListenPort), 10), own.Cluster, own.Protocol, w.print.service(o.Service.Key, effect.Section(o.Port)),
		w.print.listeners, routes)
	if r, ok := known(w, w.g.outbounds, key); ok {
		w.b.add(TypeListener, r)
		return nil
	}
	ob := effect.NewOutbound(w.env, o.VIP, o.ListenPort, o.Service.Resource, o.Port)
	w.addOutbound(ob, own, routing, key)
	return nil
}

func (w *work) addOutbound(ob *effect.Outbound, own *effect.Target, routing *effect.Routing, key string) {
	ob.SetRouting(own, routing)
	w.proxy.Outbounds = append(w.proxy.Outbounds, ob)
	w.finish = append(w.finish, func() error {
		l, err := ob.Listener.Build()
		if err != nil {
			return err
		}
		return w.part(effect.OriginOutbound, l, func(r *Resource) { w.g.outbounds.store(key, r) })
	})
}

// route asks the policies where an outbound leads that leads to own by itself, nil when they do not say, and makes what it
// leads to. The key tells routings apart.
func (w *work) route(own *effect.Target) (routing *effect.Routing, key string, err error) {
	for _, e := range w.g.effects {
		if e.Route != nil && (w.in.Rules[e.Kind] != nil || routing != nil) {
			routing = e.Route(own, w.in.Rules[e.Kind], routing, w.resolve)
		}
	}
	if routing == nil {
		if own.Accepts() {
			err = w.use(own)
		}
		return nil, "", err
	}
	for _, text := range routing.Warnings {
		w.proxy.Warn("%s", text)
	}
	for _, t := range routing.Targets {
		if err := w.use(t); err != nil {
			return nil, "", err
		}
	}
	key, err = routing.Key()
	return routing, key, err
}

// resolve finds what a backendRef means (contract effects-routing.md §3.2). It is an effect.Resolver.
func (w *work) resolve(ref policy.BackendRef, writer *resource.Resource) (target *effect.Target, counts bool) {
	if !ref.Real() {
		if ref.Name == "" {
			return nil, true
		}
		if t := w.destination(ref.Name); t != nil {
			return t, true
		}
		tags := maps.Clone(ref.Tags)
		if tags == nil {
			tags = map[string]string{}
		}
		tags[resource.TagService] = ref.Name
		return w.legacyTarget(tags), true
	}
	if writer == nil {
		return nil, true
	}
	key, _, found := ref.Resolve(writer, w.in.Mesh.Index())
	s := w.in.Mesh.Destination(key)
	if !found || s == nil {
		return nil, len(ref.Labels) == 0
	}
	i := slices.IndexFunc(s.Spec.Ports, func(p resource.ServicePort) bool { return ref.Port == nil || p.Port == *ref.Port })
	if i < 0 {
		return nil, true
	}
	return realTarget(s, s.Spec.Ports[i]), true
}

func realTarget(s *topology.Service, port resource.ServicePort) *effect.Target {
	return &effect.Target{
		Cluster: effect.Destination(s.Resource, port.Port), Protocol: port.AppProtocol, External: s.Kind == resource.KindMeshExternalService,
		Service: s.Key, Port: port,
	}
}

// destination returns the port of a service object whose cluster has the name, nil when there is none.
func (w *work) destination(name string) *effect.Target {
	if !effect.IsDestination(name) {
		return nil
	}
	for _, list := range [][]*topology.Service{w.in.Mesh.Services, w.in.Mesh.MultiZone, w.in.Mesh.External} {
		for _, s := range list {
			for _, p := range s.Spec.Ports {
				if effect.Destination(s.Resource, p.Port) == name {
					return realTarget(s, p)
				}
			}
		}
	}
	return nil
}

// use makes the cluster of a target with its endpoints, once.
func (w *work) use(t *effect.Target) error {
	if w.used[t.Cluster] {
		return nil
	}
	w.used[t.Cluster] = true
	if t.Tags != nil {
		return w.useLegacy(t)
	}
	s := w.in.Mesh.Destination(t.Service)
	w.backend(s, t)
	return w.endpoints(backendRef{destination: t.Cluster, service: t.Service, port: t.Port.Port},
		&effect.Backend{Service: t.Service, Section: effect.Section(t.Port), Destination: t.Cluster})
}

// backend makes the cluster of a port of a service object.
func (w *work) backend(s *topology.Service, t *effect.Target) {
	protocol := protocolOf(s.Endpoints[t.Port.Port])
	if t.External {
		protocol = t.Protocol
	}
	be := effect.NewBackend(w.env, s.Resource, s.Spec, s.Status, t.Port, protocol)
	parts := []string{w.env.Mesh, t.Cluster, protocol, w.print.service(s.Key, effect.Section(t.Port)), w.print.clusters}
	if be.Cluster.TLS != nil {
		w.secured = true
		parts = append(parts, be.Cluster.TLS.Sni)
		for _, id := range s.Spec.Identities {
			parts = append(parts, id.Type, id.Value)
		}
	}
	w.addBackend(be, join(parts...))
}

func (w *work) addBackend(be *effect.Backend, key string) {
	if r, ok := known(w, w.g.clusters, key); ok {
		w.b.add(TypeCluster, r)
		return
	}
	w.proxy.Backends = append(w.proxy.Backends, be)
	w.finish = append(w.finish, func() error {
		c, err := be.Cluster.Build()
		if err != nil {
			return err
		}
		return w.part(effect.OriginOutbound, c, func(r *Resource) { w.g.clusters.store(key, r) })
	})
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
