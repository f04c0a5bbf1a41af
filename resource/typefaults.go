package resource

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// typeFaults finds the values of a body that do not fit the Go value they are meant for, with the texts of Kuma's schema
// check: `in body must be of type string: "number"`.
func typeFaults(data []byte, into any, root Path) []Violation {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var value any
	if dec.Decode(&value) != nil {
		return nil
	}
	var f Faults
	f.checkType(root, value, reflect.TypeOf(into))
	return f
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// checkType walks value along t.
func (f *Faults) checkType(p Path, value any, t reflect.Type) {
	if value == nil || t == reflect.TypeFor[json.RawMessage]() {
		return
	}
	for t.Kind() == reflect.Pointer && !t.Implements(unmarshaler) {
		t = t.Elem()
	}
	if t.Implements(unmarshaler) || reflect.PointerTo(t).Implements(unmarshaler) {
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		f.tryType(p, value, t)
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		if object, ok := value.(map[string]any); ok {
			f.checkStruct(p, object, t)
		} else {
			f.wrongType(p, "object", value)
		}
	case reflect.Map:
		object, ok := value.(map[string]any)
		if !ok {
			f.wrongType(p, "object", value)
			return
		}
		for _, key := range sortedKeys(object) {
			f.checkType(p.Field(key), object[key], t.Elem())
		}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			f.tryType(p, value, t)
			return
		}
		list, ok := value.([]any)
		if !ok {
			f.wrongType(p, "array", value)
			return
		}
		for i, element := range list {
			if element == nil {
				f.wrongType(p.Index(i), "object", nil)
			}
			f.checkType(p.Index(i), element, t.Elem())
		}
	case reflect.Interface:
	default:
		f.tryType(p, value, t)
	}
}

func (f *Faults) checkStruct(p Path, object map[string]any, t reflect.Type) {
	for i := range t.NumField() {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous && name == "":
			f.checkType(p, object, field.Type)
		case name == "-" || !field.IsExported():
		case strings.Contains(options, "string"):
			if v, ok := object[name]; ok {
				f.tryQuoted(p.Field(name), v, field.Type)
			}
		default:
			if v, ok := object[name]; ok {
				f.checkType(p.Field(name), v, field.Type)
			}
		}
	}
}

// tryType decodes one value for itself and reports why that fails.
func (f *Faults) tryType(p Path, value any, t reflect.Type) {
	want := jsonType(t)
	if want != "" && want != kindOf(value) && (want != "integer" || kindOf(value) != "number") {
		f.wrongType(p, want, value)
		return
	}
	raw, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(raw, reflect.New(t).Interface())
	}
	if err == nil {
		return
	}
	if want == "integer" {
		f.Add(p, "in body must be a whole number within "+t.Kind().String())
		return
	}
	f.Add(p, strings.TrimPrefix(err.Error(), "json: "))
}

// tryQuoted is tryType for numbers that are JSON strings.
func (f *Faults) tryQuoted(p Path, value any, t reflect.Type) {
	s, ok := value.(string)
	if !ok {
		f.wrongType(p, "string", value)
		return
	}
	if json.Unmarshal([]byte(s), reflect.New(t).Interface()) != nil {
		f.Add(p, "in body must be a whole number in a string")
	}
}

func (f *Faults) wrongType(p Path, want string, got any) {
	f.Add(p, "in body must be of type "+want+`: "`+kindOf(got)+`"`)
}

// jsonType is the JSON type of a scalar, "" when the type decides for itself.
func jsonType(t reflect.Type) string {
	if t == reflect.TypeFor[Duration]() {
		return "string"
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "string"
	default:
		return ""
	}
}

func kindOf(value any) string {
	switch value.(type) {
	case string:
		return "string"
	case bool:
		return "boolean"
	case json.Number:
		return "number"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	default:
		return "null"
	}
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
