package resource

// SchemaChecker is implemented by specs whose body has rules of the first stage (enumerations, sizes): when it finds
// faults only those are reported, and Validate of the spec is not asked (contract policies.md §1.3).
type SchemaChecker interface {
	CheckSchema() []Violation
}

// Validate returns the faults of a resource that is to be created: schema, else name, mesh, labels and spec, in this
// order. None means that it is valid.
func Validate(r *Resource) []Violation { return validate(r, false) }

// ValidateUpdate is Validate for a resource that exists already, whose name may have the older form.
func ValidateUpdate(r *Resource) []Violation { return validate(r, true) }

func validate(r *Resource, older bool) []Violation {
	if s, ok := r.Spec.(SchemaChecker); ok {
		if faults := s.CheckSchema(); len(faults) > 0 {
			return faults
		}
	}
	var f Faults
	f.checkName("name", r.Name, older)
	if scopeOf(r.Kind) == ScopeMesh {
		f.checkName("mesh", r.Mesh, true)
	}
	// The kinds measure different names (contract policies.md §1.2).
	if r.Kind == KindMeshService && len(r.DisplayName()) > maxServiceNameLength ||
		r.Kind == KindMeshExternalService && len(r.Name) > maxServiceNameLength {
		f.Add("name", "must not be longer than 63 characters")
	}
	f.checkLabels(r.Labels)
	return append(f, r.Spec.Validate(&r.Meta)...)
}
