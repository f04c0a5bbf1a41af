package policy

import "github.com/kuma-dp/kuma-dp/resource"

// HeaderModifier sets headers, which replaces those of the same name, and adds headers (contract policies.md §3.7, §3.10,
// §3.14).
type HeaderModifier struct {
	Set []HeaderValue `json:"set,omitempty"`
	Add []HeaderValue `json:"add,omitempty"`
}

// HeaderValue is a header with its value; commas in the value separate several of them.
type HeaderValue struct {
	// Name is the header, in lower case.
	Name string `json:"name" schema:"required"`
	// Value is its value.
	Value string `json:"value" schema:"required"`
}

// maxHeaders is the schema's limit of each list.
const maxHeaders = 16

// CheckSchema is the first stage for the field p; a nil modifier passes.
func (m *HeaderModifier) CheckSchema(f *resource.Faults, p resource.Path) {
	if m == nil {
		return
	}
	each := func(p resource.Path, headers []HeaderValue) {
		if len(headers) > maxHeaders {
			f.Add(p, "in body should have at most 16 items")
		}
		for i, h := range headers {
			CheckHeaderName(f, p.Index(i).Field("name"), h.Name)
		}
	}
	each(p.Field("add"), m.Add)
	each(p.Field("set"), m.Set)
}
