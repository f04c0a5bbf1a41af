// Package mustache fills in the templates of Dataplanes (contract agent.md §1.4), as mustache(5) says and the library does
// that kumactl uses; a test compares the two. The library finds values by reflection, which makes the linker keep every
// exported method of the program: 2.5 MB of kuma-dp, most of it resident beside every workload.
package mustache

import (
	"fmt"
	"html"
	"strings"
)

// maxDepth bounds how deep sections are nested.
const maxDepth = 100

// Render fills in a template. Values are strings or maps of values, by name: {{a.b}} is b of a. What has no value is
// empty. Partials are refused, since they would read other files.
func Render(template string, values map[string]any) (string, error) {
	p := parser{text: template, open: "{{", close: "}}"}
	nodes, err := p.parse("", 0)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	render(&out, nodes, []any{values})
	return out.String(), nil
}

func render(out *strings.Builder, nodes []node, chain []any) {
	for _, n := range nodes {
		switch n.kind {
		case text:
			out.WriteString(n.text)
		case escaped, raw:
			value, ok := lookup(chain, n.text)
			if !ok {
				continue
			}
			s := fmt.Sprint(value)
			if n.kind == escaped {
				s = html.EscapeString(s)
			}
			out.WriteString(s)
		case section:
			if value, ok := lookup(chain, n.text); ok && !blank(value) {
				render(out, n.inside, append([]any{value}, chain...))
			}
		case inverted:
			if value, ok := lookup(chain, n.text); !ok || blank(value) {
				render(out, n.inside, chain)
			}
		}
	}
}

// lookup finds a name in the nearest context that has it; what follows a dot is looked for in what was found alone.
func lookup(chain []any, name string) (any, bool) {
	if name == "." {
		return chain[0], true
	}
	first, rest, dotted := strings.Cut(name, ".")
	for _, context := range chain {
		names, ok := context.(map[string]any)
		if !ok {
			continue
		}
		value, ok := names[first]
		if !ok {
			continue
		}
		if dotted {
			return lookup([]any{value}, rest)
		}
		return value, true
	}
	return nil, false
}

// blank is what sections take for false.
func blank(value any) bool {
	s, ok := value.(string)
	return ok && strings.TrimSpace(s) == ""
}
