package policy

import (
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
)

// Match is a policy that applies to a proxy.
type Match struct {
	Policy *resource.Resource
	// Inbounds are the selected ones, in the order of the Dataplane. `from` items act on these only.
	Inbounds []*resource.Inbound
	// Gateway tells that the proxy was selected by the tags of its gateway section.
	Gateway bool

	spec Targeted
	rank ranked
}

// Matched returns the policies of one kind that apply to dp, from low to high precedence (contract policies.md §4.1,
// §4.3). Policies of other meshes and other kinds are passed over. Zone is the zone of the control plane, for a Dataplane
// whose label does not tell it. Policies with the label kuma.io/effect: shadow count only when shadow is set. A top-level
// MeshGateway or MeshHTTPRoute selects nothing: both need objects that this version does not have.
func Matched(kind Kind, dp *resource.Resource, policies []*resource.Resource, zone string, shadow bool) []*Match {
	spec, ok := dp.Spec.(*resource.Dataplane)
	if !ok || spec.Networking == nil {
		return nil
	}
	var out []*Match
	for _, p := range policies {
		if p.Kind != kind.Descriptor.Kind || p.Mesh != dp.Mesh || p.Labels[resource.LabelEffect] == "shadow" && !shadow {
			continue
		}
		targeted, ok := p.Spec.(Targeted)
		if !ok || !sameZone(p, dp, zone) || !sameNamespace(p, dp) {
			continue
		}
		m := selected(targeted.Target(), spec.Networking)
		if m == nil {
			continue
		}
		m.Policy, m.spec, m.rank = p, targeted, rank(p, targeted.Target())
		out = append(out, m)
	}
	slices.SortStableFunc(out, func(a, b *Match) int { return a.rank.compare(b.rank) })
	return out
}

// sameZone keeps a zone's own policies from proxies of other zones, but for producers' (contract policies.md §4.1 step 2).
func sameZone(p, dp *resource.Resource, zone string) bool {
	policyZone := p.Labels[resource.LabelZone]
	if RoleOf(&p.Meta) == RoleProducer || policyZone == "" ||
		p.Labels[resource.LabelOrigin] != resource.OriginZone || dp.Labels[resource.LabelOrigin] != resource.OriginZone {
		return true
	}
	if z := dp.Labels[resource.LabelZone]; z != "" {
		zone = z
	}
	return policyZone == zone
}

// sameNamespace keeps consumers and workload owners to their own namespace (contract policies.md §4.1 step 3).
func sameNamespace(p, dp *resource.Resource) bool {
	switch RoleOf(&p.Meta) {
	case RoleConsumer, RoleWorkloadOwner:
		namespace := p.Labels[resource.LabelNamespace]
		return namespace != "" && namespace == dp.Labels[resource.LabelNamespace]
	default:
		return true
	}
}

// selected applies the top-level targetRef; nil means that it selects nothing of the proxy.
func selected(top TargetRef, n *resource.Networking) *Match {
	proxy := ProxySidecar
	if n.Gateway != nil {
		proxy = ProxyGateway
	}
	if len(top.ProxyTypes) > 0 && !slices.Contains(top.ProxyTypes, proxy) {
		return nil
	}
	var wanted map[string]string
	switch top.Kind {
	case Mesh:
	case MeshSubset:
		wanted = top.Tags
	case MeshService, MeshServiceSubset:
		wanted = map[string]string{resource.TagService: top.Name}
		for k, v := range top.Tags {
			wanted[k] = v
		}
	default:
		return nil
	}
	m := &Match{}
	for _, in := range n.Inbound {
		if in.State != resource.InboundIgnored && hasTags(in.Tags, wanted) {
			m.Inbounds = append(m.Inbounds, in)
		}
	}
	m.Gateway = n.Gateway != nil && hasTags(n.Gateway.Tags, wanted)
	if len(m.Inbounds) == 0 && !m.Gateway {
		return nil
	}
	return m
}

// hasTags tells whether have includes all of want; the value "*" wants any value.
func hasTags(have, want map[string]string) bool {
	for k, v := range want {
		got, ok := have[k]
		if !ok || v != "*" && got != v {
			return false
		}
	}
	return true
}
