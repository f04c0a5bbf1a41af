package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// prober asks the validation of a kind what it refuses, by giving it bad values: the pages cannot say anything else than
// the control plane does.
type prober struct {
	registry *resource.Registry
	kind     *resource.Descriptor
	// examples are valid bodies; a value is tried in each, for what is refused may depend on its neighbours.
	examples []map[string]any
}

// faults decodes and validates a body.
func (p *prober) faults(body map[string]any) []resource.Violation {
	data, err := json.Marshal(body)
	if err != nil {
		return nil
	}
	r, err := p.registry.Decode(data)
	if wrong, ok := errors.AsType[*resource.DecodeError](err); ok {
		return wrong.Faults
	}
	if err != nil {
		return nil
	}
	return resource.Validate(r)
}

// step is one element of the way to a field; list says that the field is a list, whose first element comes next.
type step struct {
	name string
	typ  reflect.Type
	list bool
}

func where(steps []step) string {
	var p resource.Path
	for i, s := range steps {
		if p = p.Field(s.name); s.list && i < len(steps)-1 {
			p = p.Index(0)
		}
	}
	return string(p)
}

// refusals returns what validation says about bad values of a field, in the order of the values that are tried.
func (p *prober) refusals(steps []step) []string {
	var out []string
	for _, bad := range badValues(steps[len(steps)-1].typ) {
		for _, example := range p.examples {
			for _, f := range p.with(example, steps, bad) {
				if misplaced.Replace(f.Field) == where(steps) && !slices.Contains(out, f.Reason) && !strings.Contains(f.Reason, "must be of type") {
					out = append(out, f.Reason)
				}
			}
		}
	}
	return out
}

// misplaced are places that Kuma, and so the control plane, writes in another way than the field is called (contract
// policies.md §2.3, §3.5).
var misplaced = strings.NewReplacer(".default.conf", ".default", "transparentProxing", "transparentProxying")

var allowedValues = regexp.MustCompile(`one of \[([^ \]]+)`)

// with puts a value into a copy of the example and returns the faults; values that are required beside it, and are not in
// the example, are made up until the schema is content with them.
func (p *prober) with(example map[string]any, steps []step, value any) []resource.Violation {
	body := clone(example).(map[string]any)
	set(body, steps, value)
	for range 4 {
		faults := p.faults(body)
		changed := false
		for _, f := range faults {
			m := allowedValues.FindStringSubmatch(f.Reason)
			if f.Field != where(steps) && m != nil {
				changed = replace(body, f.Field, m[1]) || changed
			}
		}
		if !changed {
			return faults
		}
	}
	return p.faults(body)
}

// set makes the objects and lists on the way, with what they require.
func set(object map[string]any, steps []step, value any) {
	s := steps[0]
	if len(steps) == 1 {
		object[s.name] = value
		return
	}
	if s.list {
		list, _ := object[s.name].([]any)
		if len(list) == 0 {
			list = []any{least(s.typ.Elem())}
		}
		object[s.name] = list
		if next, ok := list[0].(map[string]any); ok {
			set(next, steps[1:], value)
		}
		return
	}
	next, ok := object[s.name].(map[string]any)
	if !ok {
		next, _ = least(s.typ).(map[string]any)
		object[s.name] = next
	}
	set(next, steps[1:], value)
}

// least is the smallest value of a type that has what is required.
func least(t reflect.Type) any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[resource.Duration]():
		return "1s"
	case t == reflect.TypeFor[resource.IntOrString]():
		return 1
	case t.Kind() == reflect.Struct:
		object := map[string]any{}
		for _, f := range membersOf(t) {
			if resource.Required(f.StructField) {
				object[f.json] = least(f.Type)
			}
		}
		return object
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		return []any{least(t.Elem())}
	case t.Kind() == reflect.Map:
		return map[string]any{}
	case t.Kind() == reflect.String:
		return "a"
	case t.Kind() == reflect.Bool:
		return false
	default:
		return 1
	}
}

// badValues are values of the right JSON type that a field may refuse.
func badValues(t reflect.Type) []any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[resource.Duration]():
		return []any{"0s", "-1s"}
	case t == reflect.TypeFor[resource.IntOrString]():
		return []any{"x", 0, 4294967295, "-1"}
	case t == reflect.TypeFor[json.RawMessage]():
		return nil
	}
	switch t.Kind() {
	case reflect.Bool:
		return []any{true, false}
	case reflect.String:
		return []any{"", "Bogus value!"}
	case reflect.Int32, reflect.Int64:
		return []any{0, -1, 2147483647}
	case reflect.Uint32, reflect.Uint64:
		return []any{0, 4294967295}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return []any{""}
		}
		if t.Elem().Kind() == reflect.String {
			return []any{[]any{}}
		}
		// Ten thousand would do no harm, a few are enough: the schema's limits are small.
		return []any{[]any{}, slices.Repeat([]any{least(t.Elem())}, 17)}
	case reflect.Map:
		return []any{map[string]any{}}
	case reflect.Struct:
		return []any{map[string]any{}}
	default:
		return nil
	}
}

// replace changes a value that exists, by its place as violations write it.
func replace(body map[string]any, field, value string) bool {
	var at any = body
	parts := strings.FieldsFunc(field, func(c rune) bool { return c == '.' || c == '[' || c == ']' })
	for i, part := range parts {
		switch v := at.(type) {
		case map[string]any:
			if i == len(parts)-1 {
				v[part] = value
				return true
			}
			at = v[part]
		case []any:
			n, err := strconv.Atoi(part)
			if err != nil || n >= len(v) || i == len(parts)-1 {
				return false
			}
			at = v[n]
		default:
			return false
		}
	}
	return false
}

func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, e := range v {
			out[k] = clone(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = clone(e)
		}
		return out
	default:
		return v
	}
}

// targetKinds are all kinds of targetRefs.
var targetKinds = []string{
	policy.Mesh, policy.MeshSubset, policy.MeshService, policy.MeshServiceSubset, policy.MeshExternalService,
	policy.MeshMultiZoneService, policy.MeshGateway, policy.MeshHTTPRoute,
}

// targets returns the kinds that a list ("to", "from", or "" for the top) allows under a top-level targetRef, for policies
// of the role.
func (p *prober) targets(list string, top map[string]any, role policy.Role) []string {
	var out []string
	for _, kind := range targetKinds {
		ref := map[string]any{"kind": kind}
		spec, field := map[string]any{"targetRef": ref}, "spec.targetRef.kind"
		if list != "" {
			spec = map[string]any{"targetRef": top, list: []any{map[string]any{"targetRef": ref, "default": map[string]any{}}}}
			field = fmt.Sprintf("spec.%s[0].targetRef.kind", list)
		}
		body := map[string]any{"type": string(p.kind.Kind), "mesh": "m", "name": "n", "spec": spec}
		if role != "" {
			body["labels"] = map[string]any{resource.LabelPolicyRole: role}
		}
		refused := slices.ContainsFunc(p.faults(body), func(f resource.Violation) bool {
			return f.Field == field && strings.HasPrefix(f.Reason, "value is not supported") || f.Field == "spec."+list
		})
		if !refused {
			out = append(out, kind)
		}
	}
	return out
}
