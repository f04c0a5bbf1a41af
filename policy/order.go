package policy

import (
	"cmp"
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
)

// kindOrder is the precedence of a targetRef's kind (contract policies.md §4.3).
func kindOrder(kind string) int {
	switch kind {
	case Mesh, "":
		return 1
	case MeshSubset:
		return 2
	case MeshGateway:
		return 3
	case MeshService:
		return 4
	case MeshExternalService:
		return 5
	case MeshMultiZoneService:
		return 6
	case MeshServiceSubset:
		return 7
	case MeshHTTPRoute:
		return 8
	default:
		return 0
	}
}

func originOrder(labels map[string]string) int {
	origin, given := labels[resource.LabelOrigin]
	switch {
	case !given:
		return 2
	case origin == resource.OriginGlobal:
		return 1
	case origin == resource.OriginZone:
		return 3
	default:
		return 0
	}
}

func roleOrder(r Role) int {
	return slices.Index([]Role{RoleSystem, RoleProducer, RoleConsumer, RoleWorkloadOwner}, r) + 1
}

// ranked is what the order of a policy depends on, taken out of it once.
type ranked struct {
	policy                     *resource.Resource
	top, origin, gateway, role int
	name                       string
}

func rank(p *resource.Resource, top TargetRef) ranked {
	r := ranked{
		policy: p, top: kindOrder(top.Kind), origin: originOrder(p.Labels), role: roleOrder(RoleOf(&p.Meta)), name: p.DisplayName(),
	}
	if top.Kind == MeshGateway {
		r.gateway = len(top.Tags)
	}
	return r
}

// compare orders policies of from and single items from low to high precedence. The last step is the stored name, which
// makes the order independent of the input's.
func (a ranked) compare(b ranked) int {
	return cmp.Or(
		cmp.Compare(a.top, b.top),
		cmp.Compare(a.origin, b.origin),
		cmp.Compare(a.gateway, b.gateway),
		cmp.Compare(a.role, b.role),
		cmp.Compare(b.name, a.name),
		cmp.Compare(b.policy.Name, a.policy.Name),
	)
}

// compareItems orders `to` items of real services from low to high precedence; items of one policy that are equal keep
// their order.
func compareItems(a, b *toItem) int {
	return cmp.Or(
		cmp.Compare(a.top, b.top),
		cmp.Compare(a.origin, b.origin),
		cmp.Compare(a.role, b.role),
		cmp.Compare(a.kind, b.kind),
		cmp.Compare(a.section, b.section),
		cmp.Compare(b.name, a.name),
		cmp.Compare(b.policy.Name, a.policy.Name),
	)
}

func sectionOrder(ref TargetRef) int {
	if ref.Kind == MeshService && ref.SectionName != "" {
		return 1
	}
	return 0
}
