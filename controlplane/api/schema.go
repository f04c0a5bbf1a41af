package api

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/resource"
)

// schema is a JSON schema, or another object of an OpenAPI document.
type schema map[string]any

const (
	componentPrefix = "#/components/schemas/"
	kubernetesForm  = "KubernetesObject"
)

// types turns Go types into schemas. A named struct becomes a component, so that a type may contain itself.
type types struct {
	components map[string]schema
	named      map[reflect.Type]string
}

func newTypes() *types {
	return &types{
		components: map[string]schema{kubernetesForm: {
			"type":     "object",
			"required": []string{"apiVersion", "kind", "metadata"},
			"properties": schema{
				"apiVersion": schema{"type": "string"}, "kind": schema{"type": "string"}, "metadata": schema{"type": "object"},
			},
		}},
		named: map[reflect.Type]string{},
	}
}

// addKind adds the universal form of a kind, and its overview when it has one.
func (t *types) addKind(d *resource.Descriptor) {
	head := func(typeName string) schema {
		return schema{
			"type":             schema{"type": "string", "const": typeName},
			"mesh":             schema{"type": "string"},
			"name":             schema{"type": "string"},
			"creationTime":     schema{"type": "string", "format": "date-time"},
			"modificationTime": schema{"type": "string", "format": "date-time"},
			"labels":           schema{"type": "object", "additionalProperties": schema{"type": "string"}},
		}
	}
	required := []string{"name", "type"}
	if d.Scope == resource.ScopeMesh {
		required = append(required, "mesh")
	}
	spec := t.of(d.NewSpec())
	whole := head(string(d.Kind))
	switch {
	case d.Flat:
		t.components[string(d.Kind)] = schema{"allOf": []schema{{"type": "object", "properties": whole, "required": required}, spec}}
	default:
		whole["spec"] = spec
		if d.NewStatus != nil {
			whole["status"] = t.of(d.NewStatus())
		}
		t.components[string(d.Kind)] = schema{"type": "object", "properties": whole, "required": required}
	}
	t.enumerate(d, t.components[string(d.Kind)])
	if _, ok := legacyOverviews[d.Kind]; !ok {
		return
	}
	name := string(d.Kind) + "Overview"
	field := strings.ToLower(string(d.Kind[:1])) + string(d.Kind[1:])
	view := head(name)
	view[field], view[field+"Insight"] = spec, schema{"type": "object"}
	t.components[name] = schema{"type": "object", "properties": view, "required": append(required, field)}
}

var (
	jsonMarshaler   = reflect.TypeFor[json.Marshaler]()
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textMarshaler   = reflect.TypeFor[encoding.TextMarshaler]()
)

// of returns the schema of a value's type; a schema is its own.
func (t *types) of(v any) schema {
	switch v := v.(type) {
	case schema:
		return v
	case AnyOf:
		any := make([]schema, len(v))
		for i := range v {
			any[i] = t.of(v[i])
		}
		return schema{"anyOf": any}
	}
	return t.ofType(reflect.TypeOf(v))
}

func (t *types) ofType(rt reflect.Type) schema {
	for rt.Kind() == reflect.Pointer {
		rt = rt.Elem()
	}
	switch {
	case rt == reflect.TypeFor[time.Time]():
		return schema{"type": "string", "format": "date-time"}
	case rt == reflect.TypeFor[resource.Duration]():
		return schema{"type": "string"}
	case implements(rt, jsonMarshaler) && (rt.Kind() != reflect.Struct || implements(rt, jsonUnmarshaler)):
		return schema{} // it decides for itself; a struct that only writes itself leaves fields out
	case implements(rt, textMarshaler):
		return schema{"type": "string"}
	}
	switch rt.Kind() {
	case reflect.String:
		return schema{"type": "string"}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return schema{"type": "integer"}
	case reflect.Float32, reflect.Float64:
		return schema{"type": "number"}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": t.ofType(rt.Elem())}
	case reflect.Slice, reflect.Array:
		if rt.Elem().Kind() == reflect.Uint8 {
			return schema{"type": "string", "contentEncoding": "base64"}
		}
		return schema{"type": "array", "items": t.ofType(rt.Elem())}
	case reflect.Struct:
		return t.ofStruct(rt)
	default:
		return schema{}
	}
}

func implements(rt, what reflect.Type) bool {
	return rt.Implements(what) || reflect.PointerTo(rt).Implements(what)
}

func (t *types) ofStruct(rt reflect.Type) schema {
	if rt.Name() == "" {
		return t.object(rt)
	}
	if name, ok := t.named[rt]; ok {
		return schema{"$ref": componentPrefix + name}
	}
	// The package tells types of one name apart; type arguments are no part of a name.
	name, _, generic := strings.Cut(rt.Name(), "[")
	name = rt.PkgPath()[strings.LastIndexByte(rt.PkgPath(), '/')+1:] + "." + name
	if generic {
		return t.object(rt)
	}
	t.named[rt] = name
	t.components[name] = nil // taken, while the type may ask for itself
	t.components[name] = t.object(rt)
	return schema{"$ref": componentPrefix + name}
}

// object lists the fields of a struct. Those of an embedded one are its own, as in JSON.
func (t *types) object(rt reflect.Type) schema {
	properties := schema{}
	t.fields(rt, properties)
	return schema{"type": "object", "properties": properties}
}

func (t *types) fields(rt reflect.Type, into schema) {
	for i := range rt.NumField() {
		f := rt.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := f.Type
		for inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case name == "-":
		case f.Anonymous && name == "" && inner.Kind() == reflect.Struct:
			t.fields(inner, into)
		case !f.IsExported():
		case strings.Contains(options, "string"):
			into[name] = schema{"type": "string"}
		default:
			if name == "" {
				name = f.Name
			}
			into[name] = t.ofType(f.Type)
		}
	}
}
