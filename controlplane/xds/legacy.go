package xds

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// DefaultDomain ends the names of kuma.io/service values.
const DefaultDomain = "mesh"

// reserved tells whether a name is one of Envoy's bootstrap, or kept for clusters that serve the proxy itself.
func reserved(name string) bool {
	return name == "ads_cluster" || name == "access_log_sink" || name == "direct_access" ||
		strings.HasPrefix(name, "kuma:") || strings.HasPrefix(name, "_kuma:")
}

// legacyTarget is what outbounds by tags lead to, and routes to kuma.io/service values. It is nil when the name is that of
// another cluster: anybody may call a service so.
func (w *work) legacyTarget(tags map[string]string) *effect.Target {
	t := &effect.Target{Cluster: effect.LegacyCluster(tags), Tags: tags}
	if reserved(t.Cluster) || w.taken[t.Cluster] || w.destination(t.Cluster) != nil {
		return nil
	}
	switch s := w.in.Mesh.LegacyService(tags[resource.TagService]); {
	case s == nil:
	case len(s.External) > 0:
		t.External, t.Protocol = true, externalProtocol(s)
	default:
		t.Protocol = protocolOf(s.Endpoints)
	}
	return t
}

// legacyOutbound makes the listener of an outbound by kuma.io/service, and the clusters that it leads to. An outbound to a
// service object on the same place wins.
func (w *work) legacyOutbound(o topology.LegacyOutbound, l *lane) error {
	own := w.legacyTarget(o.Tags)
	if own == nil || w.places[effect.HostPort(o.Address, o.Port)] || w.keepLegacy(o, l) {
		return nil
	}
	routes, err := w.route(own, nil, l)
	if err != nil || l.closed() {
		return err
	}
	var routing *effect.Routing
	if l.routing != nil {
		routing = l.routing.Routing
	}
	service := o.Tags[resource.TagService]
	parts := []string{
		"legacy", w.env.Mesh, bit(w.env.Transparent), bit(w.env.IPv6), w.env.SourceTags, o.Address,
		strconv.FormatUint(uint64(o.Port), 10), own.Protocol, bit(own.External), w.print.legacyService(service, true),
		w.print.legacyRoutes(service, routing), routes,
	}
	for _, k := range slices.Sorted(maps.Keys(o.Tags)) {
		parts = append(parts, k, o.Tags[k])
	}
	w.listener(l, join(parts...), func(*Resource) {}, own, func() *effect.Outbound {
		return effect.NewLegacyOutbound(w.env, o.Address, o.Port, o.Tags, own.Protocol)
	})
	return nil
}

// useLegacy makes the cluster of a target by tags with its endpoints.
func (w *work) useLegacy(t *effect.Target) (*use, error) {
	name := t.Tags[resource.TagService]
	s := w.in.Mesh.LegacyService(name)
	be := effect.NewLegacyBackend(w.env, t.Tags, t.Protocol, t.External || s != nil && s.Ready)
	be.Indirect = !w.called[name]
	u := &use{ref: backendRef{destination: t.Cluster, tags: t.Tags}, legacy: s, indirect: be.Indirect, external: t.External}
	if t.External {
		if done, err := w.useExternal(u, be, t); done || err != nil {
			return u, err
		}
	} else {
		w.legacyBackend(u, be, t)
	}
	w.arrange(u, effect.Backend{LegacyService: name, Destination: t.Cluster, Indirect: be.Indirect})
	return u, w.endpoints(u)
}

func (w *work) legacyBackend(u *use, be *effect.Backend, t *effect.Target) {
	parts := []string{
		"legacy", w.env.Mesh, t.Cluster, t.Protocol, bit(be.Indirect), w.print.legacyService(be.LegacyService, false), w.print.clusters,
	}
	if u.secured = be.Cluster.TLS != nil; u.secured {
		parts = append(parts, be.Cluster.TLS.Sni)
	}
	w.take(u)
	w.cluster(u, func() *effect.Backend { return be }, join(parts...), func() error { return nil })
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

// hostnames are the names of services on the addresses that the proxy has outbounds on. Of services of several kinds with
// one name it is that of the last kind (contract dns.md §2.3).
func hostnames(outbounds []topology.Outbound) map[string][]string {
	names := map[string][]string{}
	owners := map[string]*topology.Service{}
	for _, o := range outbounds {
		if !named(o) {
			continue
		}
		for _, a := range o.Service.Status.Addresses {
			switch owner := owners[a.Hostname]; {
			case a.Hostname == "" || owner != nil && nameRank(owner) > nameRank(o.Service):
				continue
			case owner != nil && nameRank(owner) < nameRank(o.Service):
				names[a.Hostname] = nil
			}
			owners[a.Hostname] = o.Service
			if !slices.Contains(names[a.Hostname], o.VIP) {
				names[a.Hostname] = append(names[a.Hostname], o.VIP)
			}
		}
	}
	return names
}

func nameRank(s *topology.Service) int {
	return slices.Index([]resource.Kind{resource.KindMeshService, resource.KindMeshExternalService, resource.KindMeshMultiZoneService}, s.Kind)
}

// named tells whether the names of the service lead to the address of the outbound: the first of a family does (contract
// dns.md §2.3), and what is no address of the service.
func named(o topology.Outbound) bool {
	vips := o.Service.Status.VIPs
	if len(vips) <= 1 {
		return true
	}
	for _, vip := range vips {
		if isIPv4(vip.IP) == isIPv4(o.VIP) {
			return vip.IP == o.VIP || !slices.Contains(vips, resource.VIP{IP: o.VIP})
		}
	}
	return true
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
