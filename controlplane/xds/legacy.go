package xds

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// DefaultDomain ends the names of kuma.io/service values.
const DefaultDomain = "mesh"

// legacy makes the outbounds by kuma.io/service with their clusters and endpoints. It comes after all else, whose names
// win: anybody may call a service as a cluster of the proxy itself is called. It returns whether a cluster speaks TLS.
func (w *work) legacy(outbounds []topology.LegacyOutbound, inbounds []*resource.Inbound, real []topology.Outbound) (bool, error) {
	if len(outbounds) == 0 {
		return false, nil
	}
	names, places := w.taken(inbounds, real)
	secured := false
	done := map[string]bool{}
	for _, o := range outbounds {
		name := effect.LegacyCluster(o.Tags)
		if names[name] || reserved(name) || places[effect.HostPort(o.Address, o.Port)] {
			continue
		}
		if o.Service != nil && len(o.Service.External) > 0 {
			tls, err := w.legacyExternal(o, done[name])
			if err != nil {
				return false, err
			}
			secured = secured || tls
			if !w.in.Mesh.ThroughEgress(o.Service) {
				done[name] = true
				continue
			}
		}
		protocol, ready := "", false
		if o.Service != nil {
			protocol, ready = protocolOf(o.Service.Endpoints), o.Service.Ready
		}
		outside := o.Service != nil && len(o.Service.External) > 0
		if !outside {
			w.legacyOutbound(o, protocol)
		}
		if done[name] {
			continue
		}
		done[name] = true
		if !outside {
			secured = w.legacyBackend(o.Tags, name, protocol, ready) || secured
		}
		err := w.endpoints(backendRef{destination: name, tags: o.Tags},
			&effect.Backend{LegacyService: o.Tags[resource.TagService], Destination: name})
		if err != nil {
			return false, err
		}
	}
	return secured, nil
}

// reserved tells whether a name is one of Envoy's bootstrap, or kept for clusters that serve the proxy itself.
func reserved(name string) bool {
	return name == "ads_cluster" || name == "access_log_sink" || name == "direct_access" ||
		strings.HasPrefix(name, "kuma:") || strings.HasPrefix(name, "_kuma:")
}

// taken are the names of clusters and the places of outbound listeners that the proxy has already.
func (w *work) taken(inbounds []*resource.Inbound, real []topology.Outbound) (names, places map[string]bool) {
	names, places = map[string]bool{}, map[string]bool{}
	for name := range w.b.types[TypeCluster] {
		names[name] = true
	}
	for _, part := range w.b.parts {
		if c, ok := part.Message.(*clusterv3.Cluster); ok {
			names[c.Name] = true
		}
	}
	for _, in := range inbounds {
		names[effect.LocalCluster(in)] = true
	}
	for _, o := range real {
		names[effect.Destination(o.Service.Resource, o.Port.Port)] = true
		places[effect.HostPort(o.VIP, o.ListenPort)] = true
	}
	return names, places
}

func (w *work) legacyOutbound(o topology.LegacyOutbound, protocol string) {
	parts := []string{
		"legacy", w.env.Mesh, bit(w.env.Transparent), bit(w.env.IPv6), w.env.SourceTags, o.Address,
		strconv.FormatUint(uint64(o.Port), 10), protocol, w.print.legacyService(o.Tags[resource.TagService]),
	}
	for _, k := range slices.Sorted(maps.Keys(o.Tags)) {
		parts = append(parts, k, o.Tags[k])
	}
	key := join(parts...)
	if r, ok := known(w, w.g.outbounds, key); ok {
		w.b.add(TypeListener, r)
		return
	}
	ob := effect.NewLegacyOutbound(w.env, o.Address, o.Port, o.Tags, protocol)
	w.proxy.Outbounds = append(w.proxy.Outbounds, ob)
	w.finish = append(w.finish, func() error {
		l, err := ob.Listener.Build()
		if err != nil {
			return err
		}
		return w.part(effect.OriginOutbound, l, func(r *Resource) { w.g.outbounds.store(key, r) })
	})
}

func (w *work) legacyBackend(tags map[string]string, name, protocol string, ready bool) bool {
	be := effect.NewLegacyBackend(w.env, tags, protocol, ready)
	secured := be.Cluster.TLS != nil
	parts := []string{"legacy", w.env.Mesh, name, protocol, w.print.legacyService(tags[resource.TagService]), w.print.clusters}
	if secured {
		parts = append(parts, be.Cluster.TLS.Sni)
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

// legacyService renders what rules by tags say about a kuma.io/service.
func (f *fingerprints) legacyService(name string) string {
	parts := []string{f.general}
	for _, e := range f.effects {
		if conf := f.rules[e.Kind].ForLegacyService(name); conf != nil {
			parts = append(parts, f.conf(conf))
		}
		parts = append(parts, "")
	}
	return join(parts...)
}

// legacyAssignment makes the endpoints of a kuma.io/service that have all tags of ref; service is nil when it is gone.
func (g *Generator) legacyAssignment(service *topology.LegacyService, ref backendRef) (*Resource, error) {
	return g.endpoints.get(endpointKey{legacy: service, destination: ref.destination, arranged: ref.arranged}, func() (*Resource, error) {
		cla := &endpointv3.ClusterLoadAssignment{ClusterName: ref.destination}
		if service != nil {
			cla.Endpoints = localities(having(service.Endpoints, ref.tags))
		}
		if ref.arrange != nil {
			ref.arrange(cla)
		}
		return newResource(ref.destination, cla)
	})
}

// assignment looks the endpoints of a cluster up in a newer picture of the mesh.
func (g *Generator) assignment(mesh *topology.Mesh, ref backendRef) (*Resource, error) {
	if ref.tags != nil {
		return g.legacyAssignment(mesh.LegacyService(ref.tags[resource.TagService]), ref)
	}
	return g.loadAssignment(mesh.Destination(ref.service), ref)
}

// having returns the endpoints that have all tags.
func having(endpoints []topology.Endpoint, tags map[string]string) []topology.Endpoint {
	if len(tags) == 1 {
		return endpoints // kuma.io/service, which all have
	}
	return slices.DeleteFunc(slices.Clone(endpoints), func(e topology.Endpoint) bool {
		for k, v := range tags {
			if e.Tags[k] != v {
				return true
			}
		}
		return false
	})
}

// hostnames are the names of services on the addresses that the proxy has outbounds on.
func hostnames(outbounds []topology.Outbound) map[string][]string {
	names := map[string][]string{}
	for _, o := range outbounds {
		for _, a := range o.Service.Status.Addresses {
			if a.Hostname != "" && !slices.Contains(names[a.Hostname], o.VIP) {
				names[a.Hostname] = append(names[a.Hostname], o.VIP)
			}
		}
	}
	return names
}

// addLegacyNames adds `<service>.<domain>`, and the same with dots for underscores. A name that a service object has is
// the object's; of two services that give one name it is the one that is written so (contract dns.md §2.3, §2.4). What
// cannot be a domain name is left out.
func addLegacyNames(names map[string][]string, outbounds []topology.LegacyOutbound, domain string) {
	addHostNames(names, outbounds)
	for _, dotted := range []bool{false, true} {
		for _, o := range outbounds {
			if o.Service != nil && len(o.Service.External) > 0 && o.Service.VIP != "" && o.Address != o.Service.VIP {
				continue // the service's own address outside
			}
			name := o.Tags[resource.TagService] + "." + domain
			if dotted {
				name = strings.ReplaceAll(o.Tags[resource.TagService], "_", ".") + "." + domain
			}
			if _, there := names[name]; there || !IsDomain(name) {
				continue
			}
			names[name] = []string{o.Address}
		}
	}
}

// IsDomain tells whether a name can be asked for: labels of letters, digits, hyphens and underscores, none longer than 63
// and 253 in all.
func IsDomain(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
		if strings.IndexFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}) >= 0 {
			return false
		}
	}
	return true
}
