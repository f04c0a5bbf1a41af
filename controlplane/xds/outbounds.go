package xds

import (
	"maps"
	"slices"
	"strconv"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// claim notes what the proxy has already: anybody may call a service as a cluster of the proxy itself is called.
func (w *work) claim(inbounds []*resource.Inbound) {
	w.taken, w.places, w.called = map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, p := range w.b.parts {
		if p.typeURL == TypeCluster {
			w.taken[p.Name] = true
		}
	}
	for _, name := range passthroughClusters() {
		w.taken[name] = true
	}
	for _, in := range inbounds {
		w.taken[effect.LocalCluster(in)] = true
	}
	if len(w.made.legacy) > 0 {
		for _, o := range w.made.outbounds {
			w.places[effect.HostPort(o.VIP, o.ListenPort)] = true
		}
	}
	for _, o := range w.made.legacy {
		w.called[o.Tags[resource.TagService]] = true
	}
}

// outbound makes the listener of an outbound to a service object, and the clusters that it leads to.
func (w *work) outbound(o topology.Outbound, l *lane) error {
	if w.keep(o, l) {
		return nil
	}
	own := w.realTarget(o.Service, o.Port)
	routes, err := w.route(own, o.Service, l)
	if err != nil || l.closed() {
		return err
	}
	quick := listenerKey{
		portKey{o.Service, o.Port.Port}, own.Protocol, o.VIP, w.print.quick, routes, o.ListenPort, w.print.confKey(own, false),
	}
	if r, ok := known(w, w.g.listenersOf, quick); ok {
		l.listener = r
		return nil
	}
	key := join(w.env.Mesh, bit(w.env.Transparent), bit(w.env.IPv6), w.env.SourceTags, o.VIP,
		strconv.FormatUint(uint64(o.ListenPort), 10), own.Cluster, own.Protocol, w.print.service(own, true), routes)
	store := func(r *Resource) { w.g.listenersOf.store(quick, r) }
	w.listener(l, key, store, own, func() *effect.Outbound {
		return effect.NewOutbound(w.env, o.VIP, o.ListenPort, o.Service.Resource, o.Port)
	})
	return nil
}

func (l *lane) closed() bool { return l.routing != nil && l.routing.Routing != nil && l.routing.Closed }

// listener looks the listener of a lane up by its content, or leaves it to the policies. Store is told what it is, unless
// all is made at once.
func (w *work) listener(l *lane, key string, store func(*Resource), own *effect.Target, begin func() *effect.Outbound) {
	if r, ok := known(w, w.g.outbounds, key); ok {
		l.listener = r
		store(r)
		return
	}
	w.later(func(p *effect.Proxy) func() error {
		ob := begin()
		if l.routing != nil {
			ob.SetRouting(own, l.routing.Routing)
		} else {
			ob.SetRouting(own, nil)
		}
		p.Outbounds = append(p.Outbounds, ob)
		return func() (err error) {
			l.listener, err = w.b.listener(ob.Listener)
			if err == nil && !w.whole {
				w.g.outbounds.store(key, l.listener)
				store(l.listener)
			}
			return err
		}
	})
}

// route asks the policies where an outbound leads that leads to own by itself, and makes what it leads to. The key tells
// routings apart, that of no policy is "". Service is nil for an outbound by tags.
func (w *work) route(own *effect.Target, service *topology.Service, l *lane) (key string, err error) {
	var routing *effect.Routing
	if w.routed {
		made, err := w.routing(own, service)
		if err != nil {
			return "", err
		}
		if made.Routing != nil || len(made.asked) > 0 {
			l.routing, routing, key = made, made.Routing, made.key
		}
		if l.closed() {
			return key, nil
		}
	}
	l.uses, err = w.lead(own, service, routing)
	return key, err
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

// useService makes the cluster of a port of a service object.
func (w *work) useService(t *effect.Target, s *topology.Service) (*use, error) {
	quick := clusterKey{portKey{s, t.Port.Port}, w.print.quick, w.print.confKey(t, false)}
	if u, ok := known(w, w.g.clustersOf, quick); ok {
		w.take(u)
		return u, nil
	}
	protocol := protocolOf(s.Endpoints[t.Port.Port])
	if t.External {
		protocol = t.Protocol
	}
	u := &use{
		ref: backendRef{destination: t.Cluster, service: t.Service, port: t.Port.Port}, service: s,
		secured: effect.Secured(w.env, s.Resource, s.Status),
	}
	parts := []string{w.env.Mesh, t.Cluster, protocol, w.print.service(t, false), w.print.clusters}
	if u.secured {
		parts = append(parts, effect.SNI(s.Resource, t.Port.Port))
		for _, id := range s.Spec.Identities {
			parts = append(parts, id.Type, id.Value)
		}
	}
	w.arrange(u, effect.Backend{Service: t.Service, Section: effect.Section(t.Port), Destination: t.Cluster})
	w.take(u)
	begin := func() *effect.Backend {
		return effect.NewBackend(w.env, s.Resource, s.Spec, s.Status, t.Port, protocol)
	}
	w.cluster(u, begin, join(parts...), func() error {
		if err := w.endpoints(u); err != nil {
			return err
		}
		if !w.whole {
			w.g.clustersOf.store(quick, u)
		}
		return nil
	})
	return u, nil
}

// cluster looks the cluster of a use up by its content, or leaves it to the policies. Then comes the rest, which may run
// beside others.
func (w *work) cluster(u *use, begin func() *effect.Backend, key string, then func() error) {
	r, found := known(w, w.g.clusters, key)
	w.later(func(p *effect.Proxy) func() error {
		if found {
			u.cluster = r
			return then
		}
		be := begin()
		p.Backends = append(p.Backends, be)
		return func() (err error) {
			if u.cluster, err = w.b.cluster(be.Cluster); err != nil {
				return err
			}
			if !w.whole {
				w.g.clusters.store(key, u.cluster)
			}
			return then()
		}
	})
}

// endpoints gives a cluster its endpoints.
func (w *work) endpoints(u *use) (err error) {
	u.endpoints, err = w.g.assignment(w.in.Mesh, u.ref)
	return err
}

// arrange notes how policies rearrange the endpoints of a cluster as the proxy sees them. Of b only the names are there.
func (w *work) arrange(u *use, b effect.Backend) {
	for _, e := range w.arranging {
		if key, f := e.Endpoints(w.env, &b, w.in.Rules[e.Kind]); key != "" {
			u.ref.arranged, u.ref.arrange = key, f
		}
	}
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
