package insight

import (
	"cmp"
	"maps"
	"slices"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// States of proxies and services, as ServiceInsight names them.
const (
	Online   = "online"
	Offline  = "offline"
	Degraded = "partially_degraded"
	// NotAvailable is what an external service is: nobody watches it.
	NotAvailable = "not_available"
)

// Types of services, as ServiceInsight names them; the commonest is not written.
const (
	TypeInternal         = "internal"
	TypeExternal         = "external"
	TypeGatewayBuiltin   = "gateway_builtin"
	TypeGatewayDelegated = "gateway_delegated"
)

// unknown is the version of a proxy that did not tell one.
const unknown = "unknown"

// StateOf is Offline without an open stream or when all inbounds refuse traffic, and Degraded when some do (contract
// controlplane.md §1.7). The insight may be nil.
func StateOf(dp *resource.Dataplane, seen *resource.DataplaneInsight) string {
	ready, all := 0, 0
	for _, in := range inbounds(dp) {
		all++
		if in.Healthy() {
			ready++
		}
	}
	switch {
	case !seen.Online(), all > 0 && ready == 0:
		return Offline
	case ready < all:
		return Degraded
	default:
		return Online
	}
}

// TypeOf tells which type of service a Dataplane offers: TypeInternal for all but gateways.
func TypeOf(dp *resource.Dataplane) string {
	switch {
	case dp.Networking == nil || dp.Networking.Gateway == nil:
		return TypeInternal
	case dp.Networking.Gateway.Type == resource.GatewayBuiltin:
		return TypeGatewayBuiltin
	default:
		return TypeGatewayDelegated
	}
}

// inbounds are those that policies and traffic see.
func inbounds(dp *resource.Dataplane) []*resource.Inbound {
	if dp.Networking == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(dp.Networking.Inbound), func(in *resource.Inbound) bool {
		return in == nil || in.State == resource.InboundIgnored
	})
}

// proxy is a Dataplane with what is known of it.
type proxy struct {
	spec  *resource.Dataplane
	seen  *resource.DataplaneInsight // nil when it was never connected
	state string
}

func proxies(r store.Reader, mesh string) []proxy {
	var out []proxy
	for _, res := range r.List(resource.KindDataplane, mesh) {
		spec, ok := res.Spec.(*resource.Dataplane)
		if !ok {
			continue
		}
		p := proxy{spec: spec}
		if i, err := r.Get(resource.Key{Kind: resource.KindDataplaneInsight, Mesh: res.Mesh, Name: res.Name}); err == nil {
			p.seen, _ = i.Spec.(*resource.DataplaneInsight)
		}
		p.state = StateOf(spec, p.seen)
		out = append(out, p)
	}
	return out
}

func add(c *resource.ProxyCount, state string) {
	c.Total++
	switch state {
	case Online:
		c.Online++
	case Degraded:
		c.PartiallyDegraded++
	default:
		c.Offline++
	}
}

func addTo(m map[string]resource.ProxyCount, key, state string) {
	c := m[key]
	add(&c, state)
	m[key] = c
}

// OfMesh counts what a mesh holds (contract controlplane.md appendix A, /mesh-insights).
func OfMesh(r store.Reader, kinds *resource.Registry, mesh string) *resource.MeshInsight {
	out := &resource.MeshInsight{
		Dataplanes:       &resource.ProxyCount{},
		Policies:         map[resource.Kind]resource.ResourceCount{},
		Resources:        map[resource.Kind]resource.ResourceCount{},
		DPVersions:       &resource.ProxyVersions{KumaDp: map[string]resource.ProxyCount{}, Envoy: map[string]resource.ProxyCount{}},
		MTLS:             &resource.MeshInsightMTLS{IssuedBackends: map[string]resource.ProxyCount{}, SupportedBackends: map[string]resource.ProxyCount{}},
		Services:         &resource.ServiceCount{},
		DataplanesByType: &resource.ProxyCountByType{},
	}
	for _, d := range kinds.All() {
		if d.Scope != resource.ScopeMesh || d.ReadOnly || d.Hidden {
			continue
		}
		if n := len(r.List(d.Kind, mesh)); n > 0 {
			count := resource.ResourceCount{Total: uint32(min(n, 1<<31))}
			out.Resources[d.Kind] = count
			if d.Policy != nil {
				out.Policies[d.Kind] = count
			}
		}
	}
	for _, p := range proxies(r, mesh) {
		count(out, p)
	}
	for _, s := range Services(r, mesh) {
		out.Services.Total++
		if s.ServiceType == TypeExternal {
			out.Services.External++
		} else {
			out.Services.Internal++
		}
	}
	return out
}

func count(out *resource.MeshInsight, p proxy) {
	add(out.Dataplanes, p.state)
	switch by := out.DataplanesByType; TypeOf(p.spec) {
	case TypeGatewayBuiltin:
		add(&by.Gateway, p.state)
		add(&by.GatewayBuiltin, p.state)
	case TypeGatewayDelegated:
		add(&by.Gateway, p.state)
		add(&by.GatewayDelegated, p.state)
	default:
		add(&by.Standard, p.state)
	}
	agent, envoy := versions(p.seen)
	addTo(out.DPVersions.KumaDp, cmp.Or(agent, unknown), p.state)
	addTo(out.DPVersions.Envoy, cmp.Or(envoy, unknown), p.state)
	if p.seen == nil || p.seen.MTLS == nil {
		return
	}
	if b := p.seen.MTLS.IssuedBackend; b != "" {
		addTo(out.MTLS.IssuedBackends, b, p.state)
	}
	for _, b := range p.seen.MTLS.SupportedBackends {
		addTo(out.MTLS.SupportedBackends, b, p.state)
	}
}

// versions are those of the newest subscription.
func versions(seen *resource.DataplaneInsight) (agent, envoy string) {
	if seen == nil || len(seen.Subscriptions) == 0 {
		return "", ""
	}
	v := seen.Subscriptions[len(seen.Subscriptions)-1].Version
	if v == nil {
		return "", ""
	}
	if v.KumaDp != nil {
		agent = v.KumaDp.Version
	}
	if v.Envoy != nil {
		envoy = v.Envoy.Version
	}
	return agent, envoy
}

// Services tells how the services of a mesh are, by kuma.io/service (contract controlplane.md appendix A,
// /service-insights), but for their addresses. A proxy counts once for each service that it offers.
func Services(r store.Reader, mesh string) map[string]resource.ServiceSummary {
	out := map[string]resource.ServiceSummary{}
	zones := map[string]map[string]bool{}
	for _, p := range proxies(r, mesh) {
		for name, o := range offers(p) {
			s, ok := out[name]
			if !ok {
				s = resource.ServiceSummary{Dataplanes: &resource.ProxyCount{}, IssuedBackends: map[string]uint32{}}
				zones[name] = map[string]bool{}
				if t := TypeOf(p.spec); t != TypeInternal {
					s.ServiceType = t
				}
			}
			add(s.Dataplanes, o.state)
			if p.seen != nil && p.seen.MTLS != nil && p.seen.MTLS.IssuedBackend != "" {
				s.IssuedBackends[p.seen.MTLS.IssuedBackend]++
			}
			for zone := range o.zones {
				zones[name][zone] = true
			}
			out[name] = s
		}
	}
	for _, res := range r.List(resource.KindExternalService, mesh) {
		spec, ok := res.Spec.(*resource.ExternalService)
		if !ok || spec.Tags[resource.TagService] == "" {
			continue
		}
		name := spec.Tags[resource.TagService]
		if _, taken := out[name]; !taken {
			out[name] = resource.ServiceSummary{
				ServiceType: TypeExternal, Dataplanes: &resource.ProxyCount{}, IssuedBackends: map[string]uint32{},
			}
			zones[name] = map[string]bool{}
		}
		if zone := spec.Tags[resource.TagZone]; zone != "" {
			zones[name][zone] = true
		}
	}
	for name, s := range out {
		switch {
		case s.ServiceType == TypeExternal:
			s.Status = NotAvailable
		case s.Dataplanes.Online == 0:
			s.Status = Offline
		case s.Dataplanes.Online == s.Dataplanes.Total:
			s.Status = Online
		default:
			s.Status = Degraded
		}
		s.Zones = slices.Sorted(maps.Keys(zones[name]))
		out[name] = s
	}
	return out
}

// offer is one service of a proxy.
type offer struct {
	state string
	zones map[string]bool
}

// offers lists the services of a proxy. One is online when the proxy is and one of its inbounds takes traffic.
func offers(p proxy) map[string]offer {
	out := map[string]offer{}
	note := func(tags map[string]string, ready bool) {
		name := tags[resource.TagService]
		if name == "" {
			return
		}
		o, ok := out[name]
		if !ok {
			o = offer{state: Offline, zones: map[string]bool{}}
		}
		if ready && p.seen.Online() {
			o.state = Online
		}
		if zone := tags[resource.TagZone]; zone != "" {
			o.zones[zone] = true
		}
		out[name] = o
	}
	for _, in := range inbounds(p.spec) {
		note(in.Tags, in.Healthy())
	}
	if n := p.spec.Networking; n != nil && n.Gateway != nil {
		note(n.Gateway.Tags, true)
	}
	return out
}
