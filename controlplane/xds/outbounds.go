package xds

import (
	"maps"
	"slices"
	"strconv"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

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
	own := w.realTarget(o.Service, o.Port)
	routing, routes, err := w.route(own, o.Service)
	if err != nil || routing != nil && routing.Closed {
		return err
	}
	quick := listenerKey{
		portKey{o.Service, o.Port.Port}, own.Protocol, o.VIP, w.print.quick, routes, o.ListenPort, w.print.confKey(own, false),
	}
	if r, ok := known(w, w.g.listenersOf, quick); ok {
		w.b.add(TypeListener, r)
		return nil
	}
	w.newOutbound(o, own, routing, quick)
	return nil
}

// newOutbound looks the listener up by its content, or leaves it to the policies.
func (w *work) newOutbound(o topology.Outbound, own *effect.Target, routing *effect.Routing, quick listenerKey) {
	key := join(w.env.Mesh, bit(w.env.Transparent), bit(w.env.IPv6), w.env.SourceTags, o.VIP,
		strconv.FormatUint(uint64(o.ListenPort), 10), own.Cluster, own.Protocol, w.print.service(o.Service.Key, effect.Section(o.Port)),
		w.print.listeners, quick.routes)
	store := func(r *Resource) {
		w.g.outbounds.store(key, r)
		w.g.listenersOf.store(quick, r)
	}
	if r, ok := known(w, w.g.outbounds, key); ok {
		store(r)
		w.b.add(TypeListener, r)
		return
	}
	w.addOutbound(effect.NewOutbound(w.env, o.VIP, o.ListenPort, o.Service.Resource, o.Port), own, routing, store)
}

func (w *work) addOutbound(ob *effect.Outbound, own *effect.Target, routing *effect.Routing, store func(*Resource)) {
	ob.SetRouting(own, routing)
	w.proxy.Outbounds = append(w.proxy.Outbounds, ob)
	w.finish = append(w.finish, func() error {
		l, err := ob.Listener.Build()
		if err != nil {
			return err
		}
		return w.part(effect.OriginOutbound, l, store)
	})
}

// route asks the policies where an outbound leads that leads to own by itself, nil when they do not say, and makes what it
// leads to. The key tells routings apart. Service is nil for an outbound by tags.
func (w *work) route(own *effect.Target, service *topology.Service) (routing *effect.Routing, key string, err error) {
	made := &knownRouting{}
	if w.routed {
		if made, err = w.routing(own, service); err != nil {
			return nil, "", err
		}
	}
	routing = made.Routing
	switch {
	case routing != nil:
	case !own.Accepts():
		return nil, "", nil
	case service != nil:
		return nil, "", w.useService(own, service)
	default:
		return nil, "", w.use(own)
	}
	for _, text := range routing.Warnings {
		w.proxy.Warn("%s", text)
	}
	for _, t := range routing.Targets {
		if err := w.use(t); err != nil {
			return nil, "", err
		}
	}
	return routing, made.key, nil
}

func (w *work) routing(own *effect.Target, service *topology.Service) (*knownRouting, error) {
	quick := routingKey{portKey: portKey{service, own.Port.Port}, protocol: own.Protocol}
	if service != nil {
		quick.confs = w.print.confKey(own, true)
		if quick.confs == (confKey{}) {
			return &knownRouting{}, nil
		}
		if k, ok := w.g.routings.lookup(quick); ok && w.stands(k) {
			return k, nil
		}
	}
	made := &knownRouting{}
	for _, e := range w.g.effects {
		if e.Route != nil && (w.in.Rules[e.Kind] != nil || made.Routing != nil) {
			made.Routing = e.Route(own, w.in.Rules[e.Kind], made.Routing, w.ask(&made.asked))
		}
	}
	var err error
	if made.key, err = made.Key(); err == nil && service != nil {
		w.g.routings.store(quick, made)
	}
	return made, err
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
	i := slices.IndexFunc(s.Spec.Ports, func(p resource.ServicePort) bool {
		return s.Kind == resource.KindMeshExternalService || ref.Port != nil && p.Port == *ref.Port // the former has one
	})
	if i < 0 {
		return nil, true
	}
	return w.realTarget(s, s.Spec.Ports[i]), true
}

func (w *work) realTarget(s *topology.Service, port resource.ServicePort) *effect.Target {
	key := portKey{s, port.Port}
	if t, ok := w.g.targets.lookup(key); ok && t.Port == port {
		return t
	}
	t := &effect.Target{
		Cluster: effect.Destination(s.Resource, port.Port), Protocol: port.AppProtocol, External: s.Kind == resource.KindMeshExternalService,
		Service: s.Key, Port: port,
	}
	w.g.targets.store(key, t)
	return t
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
					return w.realTarget(s, p)
				}
			}
		}
	}
	return nil
}

// use makes the cluster of a target with its endpoints, once.
func (w *work) use(t *effect.Target) error {
	switch {
	case t.Tags == nil:
		return w.useService(t, w.in.Mesh.Destination(t.Service))
	case w.used[t.Cluster]:
		return nil
	}
	w.used[t.Cluster] = true
	return w.useLegacy(t)
}

func (w *work) useService(t *effect.Target, s *topology.Service) error {
	if w.used[t.Cluster] {
		return nil
	}
	w.used[t.Cluster] = true
	w.backend(s, t)
	return w.endpoints(backendRef{destination: t.Cluster, service: t.Service, port: t.Port.Port},
		effect.Backend{Service: t.Service, Section: effect.Section(t.Port), Destination: t.Cluster})
}

// backend makes the cluster of a port of a service object.
func (w *work) backend(s *topology.Service, t *effect.Target) {
	quick := clusterKey{portKey{s, t.Port.Port}, w.print.quick, w.print.confKey(t, false)}
	if r, ok := known(w, w.g.clustersOf, quick); ok {
		w.secured = w.secured || r.secured
		w.b.add(TypeCluster, r.Resource)
		return
	}
	w.newBackend(s, t, quick)
}

func (w *work) newBackend(s *topology.Service, t *effect.Target, quick clusterKey) {
	protocol := protocolOf(s.Endpoints[t.Port.Port])
	if t.External {
		protocol = t.Protocol
	}
	be := effect.NewBackend(w.env, s.Resource, s.Spec, s.Status, t.Port, protocol)
	parts := []string{w.env.Mesh, t.Cluster, protocol, w.print.service(s.Key, effect.Section(t.Port)), w.print.clusters}
	secured := be.Cluster.TLS != nil
	if secured {
		w.secured = true
		parts = append(parts, be.Cluster.TLS.Sni)
		for _, id := range s.Spec.Identities {
			parts = append(parts, id.Type, id.Value)
		}
	}
	w.addBackend(be, join(parts...), func(r *Resource) { w.g.clustersOf.store(quick, knownCluster{r, secured}) })
}

// addBackend looks the cluster up by its content, or leaves it to the policies. Store is told what it is.
func (w *work) addBackend(be *effect.Backend, key string, store func(*Resource)) {
	if r, ok := known(w, w.g.clusters, key); ok {
		store(r)
		w.b.add(TypeCluster, r)
		return
	}
	w.proxy.Backends = append(w.proxy.Backends, be)
	w.finish = append(w.finish, func() error {
		c, err := be.Cluster.Build()
		if err != nil {
			return err
		}
		return w.part(effect.OriginOutbound, c, func(r *Resource) {
			w.g.clusters.store(key, r)
			store(r)
		})
	})
}

// endpoints adds the endpoints of a cluster, as the proxy sees them. Of b only the names are there.
func (w *work) endpoints(ref backendRef, b effect.Backend) error {
	if len(w.arranging) > 0 {
		ref.arranged, ref.arrange = w.arrange(b)
	}
	w.b.backends = append(w.b.backends, ref)
	r, err := w.g.assignment(w.in.Mesh, ref)
	if err != nil {
		return err
	}
	w.b.add(TypeEndpoint, r)
	return nil
}

// arrange returns how policies rearrange the endpoints of a backend.
func (w *work) arrange(b effect.Backend) (arranged string, arrange func(*endpointv3.ClusterLoadAssignment)) {
	for _, e := range w.arranging {
		if key, f := e.Endpoints(w.env, &b, w.in.Rules[e.Kind]); key != "" {
			arranged, arrange = key, f
		}
	}
	return arranged, arrange
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
