package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/internal/yamljson"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// kindPages makes a page for every kind that a person may write, by file name. The root is that of the tree.
func kindPages(root string) (map[string][]byte, error) {
	registry := resource.NewRegistry(all.Descriptors()...)
	examples, err := examplesOf(root, registry)
	if err != nil {
		return nil, err
	}
	docs := &docstrings{root: root, packages: map[string]*packageDocs{}}
	pages, index := map[string][]byte{}, &bytes.Buffer{}
	index.WriteString("# Kinds\n\nMade by `make generate`; do not edit.\n\n| Kind | Scope | Path |\n|---|---|---|\n")
	for _, d := range registry.All() {
		if d.ReadOnly || d.Hidden {
			continue
		}
		given := examples[d.Kind]
		if len(given) == 0 {
			return nil, fmt.Errorf("%s has no example: write one into testdata/examples.yaml beside its schema", d.Kind)
		}
		p := &page{docs: docs, kind: d, example: given[0].text, probe: &prober{registry: registry, kind: d}}
		for _, e := range given {
			p.probe.examples = append(p.probe.examples, e.body)
		}
		content, err := p.render()
		if err != nil {
			return nil, err
		}
		name := strings.ToLower(string(d.Kind)) + ".md"
		pages[name] = content
		fmt.Fprintf(index, "| [%s](%s) | %s | `%s` |\n", d.Kind, name, d.Scope, pathOf(d))
	}
	pages["README.md"] = index.Bytes()
	return pages, nil
}

// example is a document of an examples.yaml, as it is written and as JSON.
type example struct {
	text string
	body map[string]any
}

func examplesOf(root string, registry *resource.Registry) (map[resource.Kind][]example, error) {
	files, err := filepath.Glob(filepath.Join(root, "policy", "*", "testdata", "examples.yaml"))
	if err != nil {
		return nil, err
	}
	out := map[resource.Kind][]example{}
	for _, file := range append(files, filepath.Join(root, "resource", "testdata", "examples.yaml")) {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, doc := range resource.SplitYAML(data) {
			r, err := registry.DecodeYAML(doc)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			if faults := resource.Validate(r); len(faults) > 0 {
				return nil, fmt.Errorf("%s: %s is not valid: %v", file, r.Key, faults)
			}
			object, err := yamljson.ToJSON(doc)
			if err != nil {
				return nil, err
			}
			e := example{text: strings.TrimSpace(string(doc))}
			if err := json.Unmarshal(object, &e.body); err != nil {
				return nil, err
			}
			out[r.Kind] = append(out[r.Kind], e)
		}
	}
	return out, nil
}

func pathOf(d *resource.Descriptor) string {
	if d.Scope == resource.ScopeMesh {
		return "/meshes/{mesh}/" + d.Path + "/{name}"
	}
	return "/" + d.Path + "/{name}"
}

// page is one kind.
type page struct {
	docs    *docstrings
	kind    *resource.Descriptor
	example string
	probe   *prober
	out     bytes.Buffer
}

func (p *page) render() ([]byte, error) {
	spec := reflect.TypeOf(p.kind.NewSpec()).Elem()
	about, err := p.about(spec)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(&p.out, "# %s\n\nMade by `make generate` from the schema and the validation; do not edit.\n\n%s\n\n", p.kind.Kind, about)
	fmt.Fprintf(&p.out, "Scope: %s. Path: `%s`. ", p.kind.Scope, pathOf(p.kind))
	if p.kind.Flat {
		p.out.WriteString("Its fields lie beside `type` and `name`; on Kubernetes they are under `spec`.\n")
	} else {
		p.out.WriteString("Its fields lie under `spec`.\n")
	}
	fmt.Fprintf(&p.out, "\n## Example\n\n```yaml\n%s\n```\n", p.example)
	if t := p.kind.Policy; t != nil && t.TargetRef {
		p.writeTargets(spec)
	}
	p.out.WriteString("\n## Fields\n\nUnknown fields are dropped. On Universal nothing is filled in: what an absent field means is told with it. " +
		"On Kubernetes the API server fills in the value of the fourth column.\n\n" +
		"| Field | Type | Meaning | Kubernetes | Refused with |\n|---|---|---|---|---|\n")
	var root []step
	if !p.kind.Flat {
		root = []step{{name: "spec", typ: spec}}
		fmt.Fprintf(&p.out, "| `spec` | object | | | %s |\n", cell(quoted(p.probe.refusals(root))))
	}
	if err := p.writeFields(spec, root); err != nil {
		return nil, err
	}
	return p.out.Bytes(), nil
}

// about is the first sentence of the kind: the package's for a policy, the type's for others.
func (p *page) about(spec reflect.Type) (string, error) {
	docs, err := p.docs.of(spec.PkgPath())
	if err != nil {
		return "", err
	}
	text := polish(docs.texts[spec.Name()], string(p.kind.Kind), docs.constants, nil)
	if p.kind.Policy != nil && p.kind.Policy.TargetRef {
		text = polish(strings.TrimPrefix(docs.about, "Package "), strings.ToLower(string(p.kind.Kind)), docs.constants, nil)
	}
	if text == "" {
		return "", fmt.Errorf("%s: no docstring of %s", p.kind.Kind, spec)
	}
	return text, nil
}

func (p *page) writeTargets(spec reflect.Type) {
	p.out.WriteString("\n## What it selects\n\n| Where | Kinds of targetRef |\n|---|---|\n")
	row := func(where string, kinds []string) {
		text := "may not be given"
		if len(kinds) > 0 {
			text = "`" + strings.Join(kinds, "`, `") + "`"
		}
		fmt.Fprintf(&p.out, "| %s | %s |\n", where, text)
	}
	system, others := p.probe.targets("", nil, ""), p.probe.targets("", nil, policy.RoleProducer)
	if slices.Equal(system, others) {
		row("`targetRef`", system)
	} else {
		row("`targetRef`, role system", system)
		row("`targetRef`, other roles", others)
	}
	for _, list := range []string{"to", "from"} {
		if !slices.ContainsFunc(membersOf(spec), func(m member) bool { return m.json == list }) {
			continue
		}
		tops := []struct {
			name string
			ref  map[string]any
		}{
			{"the whole mesh", map[string]any{"kind": policy.Mesh}},
			{"sidecars", map[string]any{"kind": policy.Mesh, "proxyTypes": []any{policy.ProxySidecar}}},
			{policy.MeshGateway, map[string]any{"kind": policy.MeshGateway, "name": "n"}},
			{policy.MeshHTTPRoute, map[string]any{"kind": policy.MeshHTTPRoute, "name": "n"}},
		}
		for _, top := range tops {
			if kind, _ := top.ref["kind"].(string); slices.Contains(system, kind) {
				row(fmt.Sprintf("`%s` of %s", list, top.name), p.probe.targets(list, top.ref, ""))
			}
		}
	}
}

// member is a field that JSON has.
type member struct {
	reflect.StructField
	json  string
	owner reflect.Type
}

// membersOf returns the fields of a struct and of those that it embeds.
func membersOf(t reflect.Type) []member {
	var out []member
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			out = append(out, membersOf(f.Type)...)
		case f.IsExported() && name != "" && name != "-":
			out = append(out, member{f, name, t})
		}
	}
	return out
}

func (p *page) writeFields(t reflect.Type, way []step) error {
	members := membersOf(t)
	names := map[string]string{}
	for _, m := range members {
		names[m.Name] = m.json
	}
	for _, m := range members {
		kind, element := shapeOf(m.Type)
		at := append(slices.Clone(way), step{m.json, m.Type, kind == "list"})
		meaning, err := p.docs.text(m.owner, m.Name, names)
		if err != nil {
			return err
		}
		if meaning == "" && element != nil {
			if meaning, err = p.docs.text(element, "", nil); err != nil {
				return err
			}
		}
		refused := quoted(p.probe.refusals(at))
		if resource.Required(m.StructField) {
			const missing = "`in body is required`"
			refused = append([]string{missing}, slices.DeleteFunc(refused, func(r string) bool { return r == missing })...)
		}
		fmt.Fprintf(&p.out, "| `%s` | %s | %s | %s | %s |\n",
			shown(at), typeName(m.Type), escape(meaning), cell(quoted([]string{m.Tag.Get("k8s")})), cell(refused))
		if element == nil || element == reflect.TypeFor[policy.TargetRef]() && len(way) > 1 {
			continue
		}
		if err := p.writeFields(element, at); err != nil {
			return err
		}
	}
	return nil
}

// shapeOf tells whether a type is a list, and the struct that it is made of.
func shapeOf(t reflect.Type) (kind string, element reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Slice && t != reflect.TypeFor[json.RawMessage]() && t.Elem().Kind() != reflect.Uint8 {
		_, element = shapeOf(t.Elem())
		return "list", element
	}
	if t.Kind() == reflect.Struct && typeName(t) == "object" && t.NumField() > 0 {
		return "object", t
	}
	return "", nil
}

func typeName(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[resource.Duration]():
		return "duration"
	case reflect.TypeFor[resource.IntOrString]():
		return "number or string"
	case reflect.TypeFor[json.RawMessage]():
		return "any"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "string"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "base64"
		}
		return "list of " + typeName(t.Elem())
	case reflect.Map:
		return "map of " + typeName(t.Elem())
	case reflect.Struct:
		return "object"
	case reflect.Interface:
		return "any"
	default:
		return "number"
	}
}

// shown is a way as users write it: to[].default.
func shown(way []step) string {
	var parts []string
	for i, s := range way {
		name := s.name
		if s.list && i < len(way)-1 {
			name += "[]"
		}
		if i > 0 || name != "spec" {
			parts = append(parts, name)
		}
	}
	return strings.Join(parts, ".")
}

func quoted(texts []string) []string {
	var out []string
	for _, t := range texts {
		switch {
		case t == "":
		case strings.Contains(t, "`"):
			out = append(out, "`` "+t+" ``")
		default:
			out = append(out, "`"+t+"`")
		}
	}
	return out
}

func cell(texts []string) string { return escape(strings.Join(texts, "<br>")) }

func escape(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
