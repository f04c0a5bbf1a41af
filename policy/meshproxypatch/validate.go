package meshproxypatch

import (
	"fmt"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

var _ policy.Targeted = (*Spec)(nil)

// CheckSchema implements resource.SchemaChecker.
func (s *Spec) CheckSchema() []resource.Violation {
	return policy.CheckSchema(s, func(f *resource.Faults, p resource.Path, c *Conf) {
		for i, m := range c.AppendModifications {
			p := p.Field("appendModifications").Index(i)
			for _, part := range m.parts() {
				p := p.Field(part.target)
				if part.isFilter() {
					f.OneOf(p.Field("operation"), part.change.Operation, OpRemove, OpPatch, OpAddFirst, OpAddBefore, OpAddAfter, OpAddLast)
				} else {
					f.OneOf(p.Field("operation"), part.change.Operation, OpAdd, OpRemove, OpPatch)
				}
				for j, patch := range part.change.JSONPatches {
					f.OneOf(p.Field("jsonPatches").Index(j).Field("op"), patch.Op, "add", "remove", "replace", "move", "copy")
				}
			}
		}
	})
}

// part is one field of a Modification.
type part struct {
	target string
	change *Change
	// hasMatch and name tell about the match, in whichever form the target has it.
	hasMatch bool
	name     string
}

func (p *part) isFilter() bool {
	return p.target == TargetNetworkFilter || p.target == TargetHTTPFilter
}

// parts returns the fields that are set, exactly one in a valid modification.
func (m *Modification) parts() []part {
	var out []part
	if c := m.Cluster; c != nil {
		out = append(out, part{target: TargetCluster, change: &c.Change, hasMatch: c.Match != nil})
	}
	if l := m.Listener; l != nil {
		out = append(out, part{target: TargetListener, change: &l.Change, hasMatch: l.Match != nil})
	}
	filter := func(target string, f *Filter) {
		if f == nil {
			return
		}
		p := part{target: target, change: &f.Change, hasMatch: f.Match != nil}
		if f.Match != nil {
			p.name = f.Match.Name
		}
		out = append(out, p)
	}
	filter(TargetNetworkFilter, m.NetworkFilter)
	filter(TargetHTTPFilter, m.HTTPFilter)
	if v := m.VirtualHost; v != nil {
		p := part{target: TargetVirtualHost, change: &v.Change, hasMatch: v.Match != nil}
		if v.Match != nil {
			p.name = v.Match.Name
		}
		out = append(out, p)
	}
	return out
}

// Validate implements resource.Spec (contract policies.md §3.1, §3.16).
func (s *Spec) Validate(meta *resource.Meta) []resource.Violation {
	grammar := policy.Grammar{Top: policy.AnyTop(), TopSystem: []string{policy.MeshGateway}}
	return policy.Validate(s, meta, grammar, func(f *resource.Faults, p resource.Path, c *Conf) {
		p = p.Field("appendModifications")
		if len(c.AppendModifications) == 0 {
			f.Add(p, "must not be empty")
		}
		for i := range c.AppendModifications {
			p := p.Index(i)
			parts := c.AppendModifications[i].parts()
			if len(parts) != 1 {
				f.Add(p, fmt.Sprintf("exactly one modification can be defined at a time. Currently, %d modifications are defined", len(parts)))
				continue
			}
			parts[0].validate(f, p.Field(parts[0].target), s.native)
		}
	})
}

func (p *part) validate(f *resource.Faults, path resource.Path, native Native) {
	switch p.change.Operation {
	case OpAdd:
		switch {
		// A virtual host is added to the routes that match, so only its own name makes no sense.
		case p.target == TargetVirtualHost && p.name != "":
			f.Add(path.Field("match").Field("name"), "must not be defined")
		case p.target != TargetVirtualHost && p.hasMatch:
			f.Add(path.Field("match"), "must not be defined")
		}
		p.validateAdded(f, path, native)
	case OpAddBefore, OpAddAfter:
		if p.name == "" {
			where := "before"
			if p.change.Operation == OpAddAfter {
				where = "after"
			}
			f.Add(path.Field("match").Field("name"), "must be defined. You need to pick a filter "+where+" which this one will be added")
		}
		p.validateAdded(f, path, native)
	case OpAddFirst, OpAddLast:
		p.validateAdded(f, path, native)
	case OpPatch:
		if (p.change.Value == nil) == (len(p.change.JSONPatches) == 0) {
			f.Add(path, p.target+" must have exactly one defined: value, jsonPatches")
		} else if p.change.Value != nil {
			p.validateValue(f, path, native, false)
		}
	case OpRemove:
	default:
		// Only an absent operation comes here; the schema has seen the others.
		if p.isFilter() {
			f.Add(path.Field("operation"), `invalid operation. Available operations: "AddFirst", "AddLast", "AddBefore", "AddAfter", "Patch", "Remove"`)
		} else {
			f.Add(path.Field("operation"), `invalid operation. Available operations: "Add", "Patch", "Remove"`)
		}
	}
}

func (p *part) validateAdded(f *resource.Faults, path resource.Path, native Native) {
	if p.change.Value == nil {
		f.Add(path.Field("value"), "must be defined")
		return
	}
	p.validateValue(f, path, native, true)
}

func (p *part) validateValue(f *resource.Faults, path resource.Path, native Native, whole bool) {
	object, err := ValueJSON(*p.change.Value)
	if err == nil && native != nil {
		err = native(p.target, object, whole)
	}
	if err != nil {
		f.Add(path.Field("value"), "native Envoy resource is not valid: "+err.Error())
	}
}
