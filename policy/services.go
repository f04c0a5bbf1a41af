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

// toItem is a `to` item with its policy's rank, and the precedence of its kind and section.
type toItem struct {
	ranked
	kind, section int

	ref   TargetRef
	conf  any
	index int
}

// identity is how references by name find services (contract policies.md §1.6).
type identity struct {
	kind                  resource.Kind
	zone, namespace, name string
}

// label is one label of the services of a kind.
type label struct {
	kind       resource.Kind
	key, value string
}

// Index finds the services of one mesh. It is a Resolver that answers BuildTo faster than others, which it makes an index
// of each time. It is immutable and safe for concurrent use.
type Index struct {
	mesh string
	all  []*resource.Resource
	// byIdentity holds the first of equal ones, in the order of names.
	byIdentity map[identity]*resource.Resource
	byKey      map[resource.Key]*resource.Resource
	byLabel    map[label][]*resource.Resource
}

// NewIndex makes the Index of a mesh with these services, which are in the order of their names.
func NewIndex(mesh string, all []*resource.Resource) *Index {
	s := &Index{
		mesh: mesh, all: all, byIdentity: make(map[identity]*resource.Resource, len(all)),
		byKey: make(map[resource.Key]*resource.Resource, len(all)), byLabel: map[label][]*resource.Resource{},
	}
	for _, r := range all {
		s.byKey[r.Key] = r
		id := identity{r.Kind, r.Labels[resource.LabelZone], r.Labels[resource.LabelNamespace], r.DisplayName()}
		if s.byIdentity[id] == nil {
			s.byIdentity[id] = r
		}
		for k, v := range r.Labels {
			l := label{r.Kind, k, v}
			s.byLabel[l] = append(s.byLabel[l], r)
		}
	}
	return s
}

// indexOf returns the resolver itself where it is the Index of the mesh.
func indexOf(mesh string, resolver Resolver) *Index {
	if s, ok := resolver.(*Index); ok && s.mesh == mesh {
		return s
	}
	if resolver == nil {
		return NewIndex(mesh, nil)
	}
	return NewIndex(mesh, resolver.Services(mesh))
}

// Services implements Resolver.
func (s *Index) Services(mesh string) []*resource.Resource {
	if mesh != s.mesh {
		return nil
	}
	return s.all
}

// resolve returns the places that an item means (contract policies.md §4.6 step 1); none when nothing fits.
func (s *Index) resolve(ref TargetRef, policy *resource.Resource) []place {
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

func (s *Index) labelled(kind resource.Kind, labels map[string]string, section string) []place {
	var fewest []*resource.Resource
	first := true
	for k, v := range labels {
		if own := s.byLabel[label{kind, k, v}]; first || len(own) < len(fewest) {
			fewest, first = own, false
		}
	}
	var out []place
	for _, r := range fewest {
		if hasLabels(r.Labels, labels) {
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
func (s *Index) legacy(name string) ([]place, bool) {
	if !strings.Contains(name, "_") {
		return nil, false
	}
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
func (s *Index) section(key resource.Key, port uint32) string {
	r := s.byKey[key]
	if r == nil {
		return ""
	}
	switch spec := r.Spec.(type) {
	case *resource.MeshService:
		if i := slices.IndexFunc(spec.Ports, func(p resource.ServicePort) bool { return p.Port == port }); i >= 0 {
			return spec.Ports[i].Section()
		}
	case *resource.MeshMultiZoneService:
		for _, p := range spec.Ports {
			if own := p.ServicePort(); own.Port == port {
				return own.Section()
			}
		}
	}
	return ""
}
