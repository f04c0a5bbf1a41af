package main

import (
	"fmt"
	"strings"

	"github.com/cbroglie/mustache"
)

// variables reads name=value pairs. Dots in a name make parts, as Mustache reads them.
func variables(given []string) (map[string]any, error) {
	if len(given) == 0 {
		return nil, nil //nolint:nilnil // without variables there is no template
	}
	list, err := pairs(given)
	if err != nil {
		return nil, fmt.Errorf("-v %w", err)
	}
	out := map[string]any{}
	for _, p := range list {
		parts, at := strings.Split(p.key, "."), out
		for _, part := range parts[:len(parts)-1] {
			next, ok := at[part].(map[string]any)
			if !ok {
				if at[part] != nil {
					return nil, fmt.Errorf("-v %s is both a value and a part of another name", part)
				}
				next = map[string]any{}
				at[part] = next
			}
			at = next
		}
		last := parts[len(parts)-1]
		if _, isPart := at[last].(map[string]any); isPart {
			return nil, fmt.Errorf("-v %s is both a value and a part of another name", p.key)
		}
		at[last] = p.value
	}
	return out, nil
}

// render fills in a template. A variable without a value is an error: an empty one would silently change the meaning.
func render(text string, values map[string]any) (string, error) {
	// Partials would read other files.
	t, err := mustache.ParseStringPartialsRaw(text, &mustache.StaticProvider{}, true)
	if err != nil {
		return "", fmt.Errorf("template: %w", err)
	}
	var missing []string
	walk(t.Tags(), func(name string) {
		if !has(values, name) {
			missing = append(missing, name)
		}
	})
	if len(missing) > 0 {
		return "", fmt.Errorf("template: no value for %s: give it with -v", strings.Join(missing, ", "))
	}
	out, err := t.Render(values)
	if err != nil {
		return "", fmt.Errorf("template: %w", err)
	}
	return out, nil
}

func walk(tags []mustache.Tag, variable func(name string)) {
	for _, t := range tags {
		switch t.Type() {
		case mustache.Variable:
			variable(t.Name())
		case mustache.Section, mustache.InvertedSection:
			walk(t.Tags(), variable)
		case mustache.Invalid, mustache.Partial:
		}
	}
}

func has(values map[string]any, name string) bool {
	if name == "." {
		return true
	}
	var at any = values
	for part := range strings.SplitSeq(name, ".") {
		m, ok := at.(map[string]any)
		if !ok || m[part] == nil {
			return false
		}
		at = m[part]
	}
	return true
}
