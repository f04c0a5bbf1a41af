package all_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// unknown is the name of fields that no kind has.
const unknown = "zz-unknown"

// TestRoundTrip writes arbitrary bodies of every kind, with fields that nobody knows: the resource is the same after every
// way through JSON, YAML, the store and a clone; what is known is kept, what is unknown is not.
func TestRoundTrip(t *testing.T) {
	registry := resource.NewRegistry(all.Descriptors()...)
	for _, d := range registry.All() {
		t.Run(string(d.Kind), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				given := body(t, d)
				data := unescaped(given)
				r, err := registry.Decode(data)
				if err != nil {
					t.Fatalf("%s: %v", data, err)
				}
				resource.Validate(r) // must not panic
				first := must(registry.Encode(r, resource.FormUniversal))
				if bytes.Contains(first, []byte(unknown)) {
					t.Fatalf("an unknown field is kept: %s", first)
				}
				same(t, "kept", substance(given), substance(decoded(first)))
				for name, again := range map[string]func() (*resource.Resource, error){
					"JSON": func() (*resource.Resource, error) { return registry.Decode(first) },
					"YAML": func() (*resource.Resource, error) { return registry.DecodeYAML(first) },
					"Kubernetes": func() (*resource.Resource, error) {
						back, err := fromKubernetes(registry, must(registry.EncodeKubernetes(r, "ns")))
						// The form has no such labels and no such precision: see resource.KeepHidden.
						if err == nil {
							resource.KeepHidden(r, back)
							back.CreationTime, back.ModificationTime = r.CreationTime, r.ModificationTime
						}
						return back, err
					},
					"clone": func() (*resource.Resource, error) { return r.Clone(), nil },
					"store": func() (*resource.Resource, error) {
						back, _, err := registry.DecodeStored(must(registry.EncodeStored(r, resource.Key{})))
						return back, err
					},
				} {
					back, err := again()
					if err != nil {
						t.Fatalf("%s: %v\n%s", name, err, first)
					}
					same(t, name, string(first), string(must(registry.Encode(back, resource.FormUniversal))))
				}
			})
		})
	}
}

func fromKubernetes(registry *resource.Registry, object []byte) (*resource.Resource, error) {
	universal, namespace, err := resource.UniversalFromKubernetes(object)
	if err != nil {
		return nil, err
	}
	r, err := registry.Decode(universal)
	if err == nil && namespace != "ns" && bytes.Contains(object, []byte(`"namespace":"ns"`)) {
		return nil, fmt.Errorf("the namespace is %q", namespace)
	}
	return r, err
}

// unescaped is JSON as people write it: raw parts keep the form that their author gave them, so that "<" must not be
// "\u003c" here.
func unescaped(v any) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func must(data []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return data
}

func same(t *rapid.T, what string, want, got any) {
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

func decoded(data []byte) (v any) {
	if err := json.Unmarshal(data, &v); err != nil {
		panic(err)
	}
	return v
}

func body(t *rapid.T, d *resource.Descriptor) map[string]any {
	spec := value(t, reflect.TypeOf(d.NewSpec())).(map[string]any)
	out := map[string]any{"spec": spec}
	if d.Flat {
		out = spec
	}
	if d.NewStatus != nil {
		out["status"] = value(t, reflect.TypeOf(d.NewStatus()))
	}
	out["type"], out["name"] = string(d.Kind), "n"
	if d.Scope == resource.ScopeMesh {
		out["mesh"] = "m"
	}
	return out
}

var texts = rapid.SampledFrom([]string{"a", "kuma.io/service", "y", "1", "<&>", "é", "null", " b"})

// value makes JSON that fits a Go type.
func value(t *rapid.T, typ reflect.Type) any {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch typ {
	case reflect.TypeFor[resource.Duration]():
		return time.Duration(rapid.Int64Range(-10, 1e15).Draw(t, "duration")).String()
	case reflect.TypeFor[resource.IntOrString]():
		if rapid.Bool().Draw(t, "text") {
			return texts.Draw(t, "number")
		}
		return float64(rapid.Uint32().Draw(t, "number"))
	case reflect.TypeFor[json.RawMessage]():
		return map[string]any{"a": texts.Draw(t, "raw"), "b": []any{1.5, true}}
	}
	switch typ.Kind() {
	case reflect.Struct:
		object := map[string]any{}
		fields(t, typ, object)
		if rapid.IntRange(0, 5).Draw(t, "more") == 0 {
			object[unknown] = []any{nil, map[string]any{"a": 1.0}}
		}
		return object
	case reflect.Map:
		object := map[string]any{}
		for range rapid.IntRange(0, 2).Draw(t, "pairs") {
			object[texts.Draw(t, "key")] = value(t, typ.Elem())
		}
		return object
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Uint8 {
			return base64.StdEncoding.EncodeToString([]byte(texts.Draw(t, "bytes")))
		}
		list := []any{}
		for range rapid.IntRange(0, 2).Draw(t, "length") {
			list = append(list, value(t, typ.Elem()))
		}
		return list
	case reflect.String:
		return texts.Draw(t, "text")
	case reflect.Bool:
		return rapid.Bool().Draw(t, "bool")
	case reflect.Interface:
		return map[string]any{"a": texts.Draw(t, "any")}
	case reflect.Float64:
		return rapid.Float64Range(-1e6, 1e6).Draw(t, "fraction")
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint32, reflect.Uint64:
		return float64(rapid.Int32Range(0, 1<<30).Draw(t, "whole"))
	default:
		panic("no generator for " + typ.String())
	}
}

func fields(t *rapid.T, typ reflect.Type, object map[string]any) {
	for i := range typ.NumField() {
		field := typ.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous && name == "":
			fields(t, field.Type, object)
		case name == "" || name == "-" || !field.IsExported():
		case !resource.Required(field) && rapid.Bool().Draw(t, "absent"):
		case strings.Contains(options, "string"):
			object[name] = "7"
		default:
			object[name] = value(t, field.Type)
		}
	}
}

// substance is JSON without what kinds need not keep: unknown fields, zeroes, and what is empty.
func substance(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, member := range v {
			if member = substance(member); member != nil && key != unknown {
				out[key] = member
			}
		}
		if len(out) > 0 {
			return out
		}
		return nil
	case []any:
		var out []any
		for _, element := range v {
			if element = substance(element); element != nil {
				out = append(out, element)
			}
		}
		if out != nil {
			return out
		}
		return nil
	case string:
		if v != "" && v != "0s" {
			return v
		}
		return nil
	case float64:
		if v != 0 {
			return v
		}
		return nil
	case bool:
		if v {
			return v
		}
		return nil
	default:
		return v
	}
}
