package policy

import (
	"encoding/binary"
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
)

// Match is a policy that applies to a proxy.
type Match struct {
	Policy *resource.Resource
	// Inbounds are the selected ones, in the order of the Dataplane. `from` items act on these only.
	Inbounds []*resource.Inbound
	// Listeners are the selected ones of a builtin gateway, in the order of its MeshGateway.
	Listeners []*resource.GatewayListener
	// Gateway tells that the proxy was selected as a gateway: a delegated one by the tags of its gateway section, a builtin
	// one by those of a listener.
	Gateway bool

	entry *entry
}

// LeadsByTags tells whether the policy is a route that may lead to a kuma.io/service.
func (m *Match) LeadsByTags() bool { return m.entry.byTags }

// KeyOf tells sets of matched policies apart, also from those of other versions of the same policies, as long as the
// process runs.
func KeyOf(matched []*Match) string {
	key := make([]byte, 0, 8*len(matched))
	for _, m := range matched {
		key = binary.LittleEndian.AppendUint64(key, m.entry.id)
	}
	return string(key)
}

// View is what matching needs to know besides the policies and the Dataplane.
type View struct {
	// Zone is the zone of the control plane, for a Dataplane whose label does not tell it.
	Zone string
	// Shadow makes policies with the label kuma.io/effect: shadow count.
	Shadow bool
	// Gateways are the MeshGateways among which a builtin gateway finds its own.
	Gateways []*resource.Resource
}

// Matched returns the policies of one kind that apply to dp, as Set.Matched does in a mesh without gateways and routes.
func Matched(kind Kind, dp *resource.Resource, policies []*resource.Resource, zone string, shadow bool) []*Match {
	matched, _ := NewSet(kind, policies, nil, nil).Matched(dp, View{Zone: zone, Shadow: shadow})
	return matched
}

// Matched returns the policies that apply to dp, from low to high precedence (contract policies.md §4.1, §4.3), and
// warnings of those that name a route which does not exist. Policies of other meshes are passed over.
func (s *Set) Matched(dp *resource.Resource, view View) (matched []*Match, warnings []string) {
	spec, ok := dp.Spec.(*resource.Dataplane)
	if !ok || spec.Networking == nil {
		return nil, nil
	}
	p := newSubject(dp, spec.Networking, view)
	shadow := view.Shadow && !s.kind.NoShadow
	backing := make([]Match, 0, len(s.entries))
	for _, e := range s.entries {
		if e.shadow && !shadow || e.policy.Mesh != dp.Mesh || !p.sameZone(e) || !p.sameNamespace(e) {
			continue
		}
		if e.missing {
			warnings = append(warnings, "couldn't resolve MeshHTTPRoute targetRef with name '"+e.spec.Target().Name+"'")
			continue
		}
		if m, ok := p.selected(e); ok {
			m.Policy, m.entry = e.policy, e
			backing = append(backing, m)
		}
	}
	if len(backing) == 0 {
		return nil, warnings
	}
	matched = make([]*Match, len(backing))
	for i := range backing {
		matched[i] = &backing[i]
	}
	return matched, warnings
}

// subject is a proxy as matching sees it.
type subject struct {
	zoned           bool // its label says that its origin is a zone
	zone, namespace string
	proxyType       string
	// inbounds are those that are not ignored.
	inbounds []*resource.Inbound
	// delegated are the tags of a delegated gateway.
	delegated map[string]string
	isGateway bool
	// gateway is the MeshGateway of a builtin gateway, nil when it has none; tags are those of each of its listeners.
	gateway   *resource.Resource
	listeners []*resource.GatewayListener
	tags      []map[string]string
}

func newSubject(dp *resource.Resource, n *resource.Networking, view View) *subject {
	p := &subject{zone: view.Zone, namespace: dp.Labels[resource.LabelNamespace], proxyType: ProxySidecar}
	labels := dp.Labels
	for _, in := range n.Inbound {
		if in.State != resource.InboundIgnored {
			p.inbounds = append(p.inbounds, in)
		}
	}
	switch g := n.Gateway; {
	case g == nil:
	case g.Type == resource.GatewayBuiltin:
		p.proxyType, p.isGateway = ProxyGateway, true
		if p.gateway = GatewayOf(dp, view.Gateways); p.gateway != nil {
			labels = p.gateway.Labels
			spec := resource.SpecOf[*resource.MeshGateway](p.gateway)
			for i := range spec.Conf.Listeners {
				l := &spec.Conf.Listeners[i]
				p.listeners = append(p.listeners, l)
				p.tags = append(p.tags, ListenerTags(g, spec, l))
			}
		}
	default:
		p.proxyType, p.isGateway, p.delegated = ProxyGateway, true, g.Tags
		if p.delegated == nil {
			p.delegated = map[string]string{}
		}
	}
	p.zoned = labels[resource.LabelOrigin] == resource.OriginZone || dp.Labels[resource.LabelOrigin] == resource.OriginZone
	if z := dp.Labels[resource.LabelZone]; z != "" {
		p.zone = z
	}
	return p
}

// sameZone keeps a zone's own policies from proxies of other zones, but for producers' (contract policies.md §4.1 step 2).
func (p *subject) sameZone(e *entry) bool {
	return e.role == RoleProducer || e.zone == "" || e.origin != resource.OriginZone || !p.zoned || e.zone == p.zone
}

// sameNamespace keeps consumers and workload owners to their own namespace (contract policies.md §4.1 step 3).
func (p *subject) sameNamespace(e *entry) bool {
	if e.role != RoleConsumer && e.role != RoleWorkloadOwner {
		return true
	}
	return e.namespace != "" && e.namespace == p.namespace
}

// selected applies the targetRef; false means that it selects nothing of the proxy (contract policies.md §4.1 steps 4, 5).
func (p *subject) selected(e *entry) (m Match, ok bool) {
	if len(e.top.ProxyTypes) > 0 && !slices.Contains(e.top.ProxyTypes, p.proxyType) {
		return m, false
	}
	switch e.top.Kind {
	case Mesh, MeshSubset, MeshService, MeshServiceSubset:
	case MeshGateway:
		if p.gateway == nil || p.gateway.DisplayName() != e.top.Name {
			return m, false
		}
	default:
		return m, false
	}
	if len(e.wanted) == 0 {
		m.Inbounds, m.Listeners = p.inbounds, p.listeners
	} else {
		for _, in := range p.inbounds {
			if HasTags(in.Tags, e.wanted) {
				m.Inbounds = append(m.Inbounds, in)
			}
		}
		for i, l := range p.listeners {
			if HasTags(p.tags[i], e.wanted) {
				m.Listeners = append(m.Listeners, l)
			}
		}
	}
	m.Gateway = len(m.Listeners) > 0 || p.delegated != nil && HasTags(p.delegated, e.wanted)
	return m, m.Gateway || len(m.Inbounds) > 0
}

// HasTags tells whether have includes all of want; the value "*" wants any value.
func HasTags(have, want map[string]string) bool {
	for k, v := range want {
		got, ok := have[k]
		if !ok || v != "*" && got != v {
			return false
		}
	}
	return true
}
