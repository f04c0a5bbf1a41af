package policy

import (
	"slices"
	"strconv"
	"strings"

	"github.com/kuma-dp/kuma-dp/resource"
)

// place is what a `to` item means: a whole mesh, a service, or one section of it.
type place struct {
	key     resource.Key
	section string
}

// toItem is a `to` item with its policy's rank and what it means.
type toItem struct {
	ranked
	ref    TargetRef
	conf   any
	index  int
	places []place
}

// identity is how references by name find services (contract policies.md §1.6).
type identity struct {
	kind                  resource.Kind
	zone, namespace, name string
}

// services finds the services of one mesh.
type services struct {
	mesh string
	all  []*resource.Resource
	// byIdentity holds the first of equal ones, in the order of names.
	byIdentity map[identity]*resource.Resource
}

func newServices(mesh string, resolver Resolver) *services {
	s := &services{mesh: mesh, byIdentity: map[identity]*resource.Resource{}}
	if resolver == nil {
		return s
	}
	s.all = resolver.Services(mesh)
	for _, r := range s.all {
		id := identity{r.Kind, r.Labels[resource.LabelZone], r.Labels[resource.LabelNamespace], r.DisplayName()}
		if s.byIdentity[id] == nil {
			s.byIdentity[id] = r
		}
	}
	return s
}

// resolve returns the places that an item means (contract policies.md §4.6 step 1); none when nothing fits.
func (s *services) resolve(ref TargetRef, policy *resource.Resource) []place {
	switch ref.Kind {
	case Mesh, "":
		return []place{{key: resource.Key{Kind: resource.KindMesh, Name: s.mesh}}}
	case MeshService, MeshExternalService, MeshMultiZoneService:
	default:
		return nil
	}
	kind := resource.Kind(ref.Kind)
	if len(ref.Labels) > 0 {
		return s.labelled(kind, ref.Labels, ref.SectionName)
	}
	if ref.Kind == MeshService && ref.SectionName == "" {
		if places, ok := s.legacy(ref.Name); ok {
			return places
		}
	}
	namespace := ref.Namespace
	if namespace == "" {
		namespace = policy.Labels[resource.LabelNamespace]
	}
	r := s.byIdentity[identity{kind, policy.Labels[resource.LabelZone], namespace, ref.Name}]
	if r == nil {
		return nil
	}
	return []place{{key: r.Key, section: ref.SectionName}}
}

func (s *services) labelled(kind resource.Kind, labels map[string]string, section string) []place {
	var out []place
	for _, r := range s.all {
		if r.Kind == kind && hasLabels(r.Labels, labels) {
			out = append(out, place{key: r.Key, section: section})
		}
	}
	return out
}

func hasLabels(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// legacy reads a name of the older Kubernetes form, <name>_<namespace>_svc or <name>_<namespace>_svc_<port>, whose port
// becomes a section when the service has it. It returns false for a name of another form.
func (s *services) legacy(name string) ([]place, bool) {
	parts := strings.Split(name, "_")
	if len(parts) != 3 && len(parts) != 4 || parts[2] != "svc" {
		return nil, false
	}
	places := s.labelled(resource.KindMeshService,
		map[string]string{resource.LabelDisplayName: parts[0], resource.LabelNamespace: parts[1]}, "")
	if len(parts) == 3 {
		return places, true
	}
	port, err := strconv.ParseUint(parts[3], 10, 16)
	if err != nil {
		return nil, false
	}
	for i := range places {
		places[i].section = s.section(places[i].key, uint32(port))
	}
	return places, true
}

// section returns the name of a service's port, "" when it has no such port.
func (s *services) section(key resource.Key, port uint32) string {
	for _, r := range s.all {
		spec, ok := r.Spec.(*resource.MeshService)
		if !ok || r.Key != key {
			continue
		}
		i := slices.IndexFunc(spec.Ports, func(p resource.ServicePort) bool { return p.Port == port })
		if i >= 0 {
			return spec.Ports[i].Section()
		}
	}
	return ""
}

// resourceRules is contract policies.md §4.6 step 2. Items come in ascending precedence; a rule's place in the result is
// that of the first item that names its target.
func resourceRules(kind Kind, items []toItem) ([]ResourceRule, error) {
	var targets []place
	for _, item := range items {
		for _, p := range item.places {
			if !slices.Contains(targets, p) {
				targets = append(targets, p)
			}
		}
	}
	var out []ResourceRule
	for _, target := range targets {
		rule := ResourceRule{Target: target.key, Section: target.section}
		var confs []any
		for _, item := range items {
			if slices.ContainsFunc(item.places, func(p place) bool { return p.covers(target) }) {
				confs = append(confs, item.conf)
				rule.Origin = append(rule.Origin, RuleOrigin{Policy: item.policy, Index: item.index})
			}
		}
		merged, err := merge(kind, confs)
		if err != nil {
			return nil, err
		}
		rule.Conf = merged
		out = append(out, rule)
	}
	return out, nil
}

// covers tells whether what is said of p holds for target too.
func (p place) covers(target place) bool {
	return p.key.Kind == resource.KindMesh || p.key == target.key && (p.section == "" || p.section == target.section)
}
