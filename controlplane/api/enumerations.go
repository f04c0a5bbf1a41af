package api

import (
	"reflect"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/resource"
)

// noValue is a text that no enumeration has.
const noValue = "\x00"

// enumerate adds the enumerations of a kind to its schema. They are nowhere but in the check of bodies: a spec whose every
// text is wrong makes it name them all.
func (t *types) enumerate(d *resource.Descriptor, whole schema) {
	spec := d.NewSpec()
	fill(reflect.ValueOf(spec).Elem(), nil)
	// The older kinds have no check of their own for the first stage.
	faults := spec.Validate(&resource.Meta{})
	if s, ok := spec.(resource.SchemaChecker); ok {
		faults = s.CheckSchema()
	}
	for _, fault := range faults {
		list, ok := strings.CutPrefix(fault.Reason, "in body should be one of [")
		if !ok {
			continue
		}
		place := t.at(whole, fault.Field)
		if place == nil {
			continue
		}
		// A type that is used in several places takes what any of them does.
		values, _ := place["enum"].([]string)
		for value := range strings.FieldsSeq(strings.TrimSuffix(list, "]")) {
			if !slices.Contains(values, value) {
				values = append(values, value)
			}
		}
		place["enum"] = values
	}
}

// fill gives a value everything that it may hold: an element in every list, a pair in every map. Types that hold
// themselves, as those in outer do, end it.
func fill(v reflect.Value, outer []reflect.Type) {
	if slices.Contains(outer, v.Type()) {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(noValue)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), outer)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), outer)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(value, outer)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), append(slices.Clip(outer), v.Type()))
			}
		}
	default:
	}
}

// at follows the path of a fault, such as "spec.to[0].targetRef.kind", through schemas, nil when it leads to no text.
func (t *types) at(s schema, path string) schema {
	for segment := range strings.SplitSeq(path, ".") {
		name, index, _ := strings.Cut(segment, "[")
		if s = t.property(s, name); s == nil {
			return nil
		}
		for range strings.Count(segment, "[") {
			next, _ := t.resolve(s)["items"].(schema)
			if strings.HasPrefix(index, `"`) {
				next, _ = t.resolve(s)["additionalProperties"].(schema)
			}
			if s = next; s == nil {
				return nil
			}
		}
	}
	if s["type"] != "string" {
		return nil
	}
	return s
}

func (t *types) resolve(s schema) schema {
	if name, ok := s["$ref"].(string); ok {
		return t.components[strings.TrimPrefix(name, componentPrefix)]
	}
	return s
}

// property also looks into the parts of a schema.
func (t *types) property(s schema, name string) schema {
	s = t.resolve(s)
	if all, ok := s["allOf"].([]schema); ok {
		for _, part := range all {
			if p := t.property(part, name); p != nil {
				return p
			}
		}
		return nil
	}
	properties, _ := s["properties"].(schema)
	p, _ := properties[name].(schema)
	return p
}
