package resource

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Required tells whether the schema wants a field of a spec to be in the body: its struct tag is `schema:"required"`. The
// decoded value does not tell an absent field from an empty one.
func Required(field reflect.StructField) bool { return field.Tag.Get("schema") == "required" }

// schemaFaults is the first stage of validation as far as fields are missing: none if nothing is missing, else what is
// missing and whatever else is wrong with the schema, by place (contract policies.md §1.3).
func schemaFaults(body json.RawMessage, spec Spec) []Violation {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var value any
	if dec.Decode(&value) != nil {
		return nil
	}
	var missing Faults
	missing.checkRequired("spec", value, reflect.TypeOf(spec))
	if len(missing) == 0 {
		return nil
	}
	out := slices.Clone(missing)
	if s, ok := spec.(SchemaChecker); ok {
		for _, f := range s.CheckSchema() {
			absent := func(m Violation) bool { return m.Field == f.Field || strings.HasPrefix(f.Field, m.Field+".") }
			if !slices.ContainsFunc(missing, absent) {
				out = append(out, f)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Violation) int { return comparePlaces(a.Field, b.Field) })
	return out
}

// checkRequired walks value along t, whose types it is known to fit.
func (f *Faults) checkRequired(p Path, value any, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if value == nil || t.Implements(unmarshaler) || reflect.PointerTo(t).Implements(unmarshaler) {
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		object, ok := value.(map[string]any)
		if !ok {
			return
		}
		for i := range t.NumField() {
			field := t.Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			v := object[name]
			switch {
			case field.Anonymous && name == "":
				f.checkRequired(p, object, field.Type)
			case v == nil && Required(field):
				f.Add(p.Field(name), "in body is required")
			case v != nil:
				f.checkRequired(p.Field(name), v, field.Type)
			}
		}
	case reflect.Slice:
		list, _ := value.([]any)
		for i, element := range list {
			f.checkRequired(p.Index(i), element, t.Elem())
		}
	case reflect.Map:
		object, _ := value.(map[string]any)
		for _, key := range sortedKeys(object) {
			f.checkRequired(p.Key(key), object[key], t.Elem())
		}
	}
}

// comparePlaces orders paths as they come in a body with sorted keys: a list's elements by number.
func comparePlaces(a, b string) int {
	split := func(c rune) bool { return c == '.' || c == '[' || c == ']' }
	return slices.CompareFunc(strings.FieldsFunc(a, split), strings.FieldsFunc(b, split), func(x, y string) int {
		m, err := strconv.Atoi(x)
		n, err2 := strconv.Atoi(y)
		if err == nil && err2 == nil {
			return m - n
		}
		return strings.Compare(x, y)
	})
}
