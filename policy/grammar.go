package policy

import (
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/resource"
)

// Grammar says which targetRefs a kind allows: its row of the table in contract policies.md §3.1.
type Grammar struct {
	// Top are the kinds of the top-level targetRef, TopSystem those that only policies of role system may use.
	Top, TopSystem []string
	// To and From return the kinds of the items' targetRefs under a top-level one; nil functions mean that the kind has no
	// such list, an empty result that the list must not be defined there.
	To, From func(top TargetRef) []string
	// Optional says that the lists may all be empty.
	Optional bool
	// GatewayTags says that a top-level MeshGateway may choose listeners by tags.
	GatewayTags bool
}

// AnyTop are the top-level kinds that most policies allow.
func AnyTop() []string { return []string{Mesh, MeshSubset, MeshService, MeshServiceSubset} }

// ServicesUnlessGatewayOrRoute is Grammar.To of MeshTimeout and MeshRetry: every service, but under a MeshGateway or
// MeshHTTPRoute only the mesh and external services.
func ServicesUnlessGatewayOrRoute(top TargetRef) []string {
	if top.Kind == MeshGateway || top.Kind == MeshHTTPRoute {
		return []string{Mesh, MeshExternalService}
	}
	return []string{Mesh, MeshService, MeshExternalService, MeshMultiZoneService}
}

// RouteDestinations is Grammar.To of routes: every service, but under a MeshGateway the mesh only.
func RouteDestinations(top TargetRef) []string {
	if top.Kind == MeshGateway {
		return []string{Mesh}
	}
	return []string{MeshService, MeshExternalService, MeshMultiZoneService}
}

// CheckSchema is the first stage of validation: enumerations of targetRefs and, with conf, of every conf. It is what a
// kind's CheckSchema does.
func CheckSchema[C any](s Targeted, conf func(f *resource.Faults, p resource.Path, c *C)) []resource.Violation {
	f := resource.Faults(CheckSchemaItems(s, func(f *resource.Faults, p resource.Path, item Item) {
		checkConf(f, p.Field("default"), item.Conf, conf)
	}))
	checkConf(&f, "spec.default", s.Default(), conf)
	return f
}

// CheckSchemaItems is CheckSchema for kinds whose items have no `default`: check gets every item with its path.
func CheckSchemaItems(s Targeted, check func(f *resource.Faults, p resource.Path, item Item)) []resource.Violation {
	var f resource.Faults
	s.Target().checkSchema(&f, "spec.targetRef")
	each := func(p resource.Path, items []Item) {
		for i, item := range items {
			item.TargetRef.checkSchema(&f, p.Index(i).Field("targetRef"))
			check(&f, p.Index(i), item)
		}
	}
	each("spec.to", s.ToItems())
	each("spec.from", s.FromItems())
	return f
}

// Validate is the second stage: targetRefs by the grammar, and conf for every conf. It is what a kind's Validate does.
func Validate[C any](s Targeted, meta *resource.Meta, g Grammar, conf func(f *resource.Faults, p resource.Path, c *C)) []resource.Violation {
	f := resource.Faults(ValidateItems(s, meta, g, func(f *resource.Faults, p resource.Path, item Item) {
		checkConf(f, p.Field("default"), item.Conf, conf)
	}))
	checkConf(&f, "spec.default", s.Default(), conf)
	return f
}

// ValidateItems is Validate for kinds whose items have no `default`, or whose rules look at an item's targetRef too: check
// gets every item with its path.
func ValidateItems(s Targeted, meta *resource.Meta, g Grammar, check func(f *resource.Faults, p resource.Path, item Item)) []resource.Violation {
	var f resource.Faults
	top := s.Target()
	allowed := g.Top
	if RoleOf(meta) == RoleSystem {
		allowed = slices.Concat(g.Top, g.TopSystem)
	}
	top.validate(&f, "spec.targetRef", allowed, g.GatewayTags)
	to, from := s.ToItems(), s.FromItems()
	if len(to) == 0 && len(from) == 0 && !g.Optional {
		switch {
		case g.To != nil && g.From != nil:
			f.Add("spec", "at least one of 'from', 'to' has to be defined")
		case g.To != nil:
			f.Add("spec.to", "needs at least one item")
		case g.From != nil:
			f.Add("spec.from", "needs at least one item")
		}
	}
	each := func(p resource.Path, items []Item, kinds func(TargetRef) []string) {
		if len(items) == 0 {
			return
		}
		allowed := kinds(top)
		if len(allowed) == 0 {
			f.Add(p, "must not be defined")
			return
		}
		for i, item := range items {
			item.TargetRef.validate(&f, p.Index(i).Field("targetRef"), allowed, false)
			check(&f, p.Index(i), item)
		}
	}
	each("spec.from", from, g.From)
	each("spec.to", to, g.To)
	return f
}

func checkConf[C any](f *resource.Faults, p resource.Path, conf any, check func(*resource.Faults, resource.Path, *C)) {
	if c, ok := conf.(*C); ok && check != nil {
		check(f, p, c)
	}
}

// checkSchema checks the enumerations of a targetRef.
func (r TargetRef) checkSchema(f *resource.Faults, p resource.Path) {
	f.OneOf(p.Field("kind"), r.Kind, Mesh, MeshSubset, MeshGateway, MeshService, MeshExternalService, MeshMultiZoneService,
		MeshServiceSubset, MeshHTTPRoute)
	if r.ProxyTypes != nil && len(r.ProxyTypes) == 0 {
		f.Add(p.Field("proxyTypes"), "in body should have at least 1 items")
	}
	for i, t := range r.ProxyTypes {
		f.OneOf(p.Field("proxyTypes").Index(i), t, ProxySidecar, ProxyGateway)
	}
}

// validate applies the field rules of contract policies.md §3.1.
func (r TargetRef) validate(f *resource.Faults, p resource.Path, allowed []string, gatewayTags bool) {
	switch {
	case r.Kind == "":
		f.Add(p.Field("kind"), "must be defined")
		return
	case !slices.Contains(allowed, r.Kind):
		f.Add(p.Field("kind"), "value is not supported")
		return
	}
	set := map[string]bool{
		"tags": len(r.Tags) > 0, "labels": len(r.Labels) > 0, "namespace": r.Namespace != "", "sectionName": r.SectionName != "",
		"proxyTypes": len(r.ProxyTypes) > 0, "mesh": r.Mesh != "",
	}
	refuse := func(fields ...string) {
		for _, field := range fields {
			if set[field] {
				f.Add(p.Field(field), "must not be set with kind "+r.Kind)
			}
		}
	}
	switch r.Kind {
	case Mesh:
		if r.Name != "" {
			f.Add(p.Field("name"), "using name with kind Mesh is not yet supported")
		}
		refuse("mesh", "tags", "labels", "namespace", "sectionName")
	case MeshSubset:
		if r.Name != "" {
			f.Add(p.Field("name"), "must not be set with kind "+r.Kind)
		}
		refuse("mesh", "labels", "namespace", "sectionName")
	case MeshGateway:
		r.needName(f, p)
		if !gatewayTags {
			refuse("tags")
		}
		refuse("mesh", "labels", "namespace", "sectionName", "proxyTypes")
	case MeshServiceSubset:
		r.needName(f, p)
		refuse("mesh", "labels", "namespace", "sectionName", "proxyTypes")
	case MeshService, MeshHTTPRoute:
		if len(r.Labels) == 0 {
			r.needName(f, p)
		} else {
			if r.Name != "" || r.Namespace != "" {
				f.Add(p.Field("labels"), "either labels or name and namespace must be specified")
			}
			if r.SectionName != "" {
				f.Add(p.Field("sectionName"), "sectionName should not be combined with labels")
			}
		}
		refuse("mesh", "tags", "proxyTypes")
	case MeshExternalService:
		switch {
		case len(r.Labels) == 0:
			r.needName(f, p)
		case r.Name != "":
			f.Add(p.Field("labels"), "either labels or name must be specified")
		}
		refuse("mesh", "tags", "sectionName", "proxyTypes")
	}
}

const nameCharacters = "abcdefghijklmnopqrstuvwxyz0123456789-_."

func (r TargetRef) needName(f *resource.Faults, p resource.Path) {
	switch {
	case r.Name == "":
		f.Add(p.Field("name"), "must be set with kind "+r.Kind)
	case strings.Trim(r.Name, nameCharacters) != "":
		f.Add(p.Field("name"), "invalid characters: must consist of lower case alphanumeric characters, '-', '.' and '_'.")
	}
}

// Deprecations returns what a writer should be warned of (contract policies.md §1.7), nil for resources that are no
// policies.
func Deprecations(r *resource.Resource) []string {
	s, ok := r.Spec.(Targeted)
	if !ok {
		return nil
	}
	var out []string
	if s.Target().Kind == MeshService {
		out = append(out, "MeshService value for 'targetRef.kind' is deprecated, use MeshSubset with 'kuma.io/service' tag instead")
	}
	for _, item := range s.FromItems() {
		if item.TargetRef.Kind == MeshService {
			out = append(out, "MeshService value for 'from[].targetRef.kind' is deprecated, use MeshSubset with 'kuma.io/service' instead")
		}
	}
	return out
}
