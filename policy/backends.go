package policy

import (
	"encoding/json"
	"reflect"
)

// Backend is a place that a route sends traffic to besides the destinations of its items.
type Backend struct {
	BackendRef
	// Mirror: it gets copies of requests. A ref of a mirror may also mean a kuma.io/service, whatever else it says (contract
	// effects-routing.md §1 trap 9).
	Mirror bool
}

// ByTags tells whether the ref may mean a kuma.io/service, or a service object by the name of its cluster.
func (b Backend) ByTags() bool { return b.Name != "" && (b.Mirror || !b.Real()) }

// Backends returns where a route sends traffic: every backendRef, wherever in its confs. They are found in the JSON form,
// so that no kind can forget to tell. Kinds that are no routes have none.
func Backends(spec Targeted) []Backend {
	var out []Backend
	for _, item := range spec.ToItems() {
		if item.Conf == nil || !isRoute(item.Conf) || reflect.ValueOf(item.Conf).IsZero() {
			continue
		}
		raw, err := json.Marshal(item.Conf)
		if err != nil {
			continue
		}
		var tree any
		if json.Unmarshal(raw, &tree) == nil {
			collectBackends(tree, &out)
		}
	}
	return out
}

func collectBackends(v any, out *[]Backend) {
	add := func(v any, mirror bool) {
		raw, err := json.Marshal(v)
		b := Backend{Mirror: mirror}
		if err == nil && json.Unmarshal(raw, &b.BackendRef) == nil {
			*out = append(*out, b)
		}
	}
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			collectBackends(e, out)
		}
	case map[string]any:
		for key, e := range v {
			switch list, isList := e.([]any); {
			case key == "backendRef":
				add(e, true)
			case key == "backendRefs" && isList:
				for _, ref := range list {
					add(ref, false)
				}
			default:
				collectBackends(e, out)
			}
		}
	}
}
