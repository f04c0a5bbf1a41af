package resource

import "fmt"

// Registry is the set of kinds that a process knows. It is immutable after NewRegistry and safe for concurrent use.
type Registry struct {
	all    []*Descriptor
	byKind map[Kind]*Descriptor
	byPath map[string]*Descriptor
}

// NewRegistry joins descriptors and fills in their Scope and CreatableInZone, which follow from the kind. A kind or path
// given twice is a programmer's error and panics.
func NewRegistry(descriptors ...*Descriptor) *Registry {
	r := &Registry{byKind: map[Kind]*Descriptor{}, byPath: map[string]*Descriptor{}}
	for _, given := range descriptors {
		d := new(*given)
		d.Scope = scopeOf(d.Kind)
		d.CreatableInZone = creatableInZone(d.Kind)
		if r.byKind[d.Kind] != nil || (d.Path != "" && r.byPath[d.Path] != nil) {
			panic(fmt.Sprintf("kind %s or path %q is registered twice", d.Kind, d.Path))
		}
		r.all = append(r.all, d)
		r.byKind[d.Kind] = d
		if d.Path != "" {
			r.byPath[d.Path] = d
		}
	}
	return r
}

// All returns the descriptors in the order of registration. The slice must not be changed.
func (r *Registry) All() []*Descriptor { return r.all }

// ByKind returns nil for a kind that is not known.
func (r *Registry) ByKind(k Kind) *Descriptor { return r.byKind[k] }

// ByPath returns nil for a REST collection that is not known.
func (r *Registry) ByPath(p string) *Descriptor { return r.byPath[p] }
