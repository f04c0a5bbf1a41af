package yamljson

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

// writer writes nodes as JSON.
type writer struct {
	out bytes.Buffer
	// aliases is how many aliases are being followed, copies how many nodes that added.
	aliases, copies int
}

func (w *writer) value(n *yaml.Node, depth int) error {
	if depth > maxDepth {
		return &Error{Line: n.Line, Reason: fmt.Sprintf("it is nested deeper than %d levels, or an alias holds itself", maxDepth)}
	}
	if w.aliases > 0 {
		if w.copies++; w.copies > maxCopies {
			return &Error{Line: n.Line, Reason: fmt.Sprintf("aliases add more than %d values", maxCopies)}
		}
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return w.value(n.Content[0], depth)
	case yaml.AliasNode:
		w.aliases++
		defer func() { w.aliases-- }()
		return w.value(n.Alias, depth+1)
	case yaml.MappingNode:
		return w.mapping(n, depth)
	case yaml.SequenceNode:
		return w.sequence(n, depth)
	default:
		text, err := scalar(n)
		w.out.WriteString(text)
		return err
	}
}

func (w *writer) sequence(n *yaml.Node, depth int) error {
	if !standard(n, "!!seq") {
		return unknownTag(n)
	}
	w.out.WriteByte('[')
	for i, item := range n.Content {
		if i > 0 {
			w.out.WriteByte(',')
		}
		if err := w.value(item, depth+1); err != nil {
			return err
		}
	}
	w.out.WriteByte(']')
	return nil
}

// member is a key of a mapping and its value.
type member struct {
	name   string
	value  *yaml.Node
	merged bool
}

func (w *writer) mapping(n *yaml.Node, depth int) error {
	members, err := w.members(n, depth)
	if err != nil {
		return err
	}
	slices.SortFunc(members, func(a, b member) int { return cmp.Compare(a.name, b.name) })
	w.out.WriteByte('{')
	for i, m := range members {
		if i > 0 {
			w.out.WriteByte(',')
		}
		w.out.WriteString(quote(m.name))
		w.out.WriteByte(':')
		if m.merged {
			w.aliases++ // its nodes are copies
		}
		err := w.value(m.value, depth+1)
		if m.merged {
			w.aliases--
		}
		if err != nil {
			return err
		}
	}
	w.out.WriteByte('}')
	return nil
}

// members lists what a mapping holds: its own keys, then those of its merges that it has not.
func (w *writer) members(n *yaml.Node, depth int) ([]member, error) {
	if !standard(n, "!!map") {
		return nil, unknownTag(n)
	}
	if depth > maxDepth {
		return nil, &Error{Line: n.Line, Reason: "a merge holds itself"}
	}
	var out []member
	var merges []*yaml.Node
	taken := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.ScalarNode && key.Tag == "!!merge" {
			merges = append(merges, value)
			continue
		}
		name, err := keyName(key)
		if err != nil {
			return nil, err
		}
		if taken[name] {
			return nil, &Error{Line: key.Line, Reason: fmt.Sprintf("key %q is given twice", name)}
		}
		taken[name] = true
		out = append(out, member{name: name, value: value})
	}
	for _, m := range merges {
		sources := []*yaml.Node{m}
		if m.Kind == yaml.SequenceNode {
			sources = m.Content
		}
		for _, source := range sources {
			line := source.Line
			if source.Kind == yaml.AliasNode {
				source = source.Alias
			}
			if source.Kind != yaml.MappingNode {
				return nil, &Error{Line: line, Reason: "<< wants a mapping, or a list of mappings"}
			}
			more, err := w.members(source, depth+1)
			if err != nil {
				return nil, err
			}
			if w.copies += len(more); w.copies > maxCopies {
				return nil, &Error{Line: line, Reason: fmt.Sprintf("merges add more than %d values", maxCopies)}
			}
			for _, m := range more {
				if !taken[m.name] {
					taken[m.name] = true
					out = append(out, member{name: m.name, value: m.value, merged: true})
				}
			}
		}
	}
	return out, nil
}

// keyName returns a key as JSON has it: the text of a string, a number, a boolean or null.
func keyName(key *yaml.Node) (string, error) {
	for range maxDepth {
		if key.Kind != yaml.AliasNode {
			break
		}
		key = key.Alias
	}
	if key.Kind != yaml.ScalarNode {
		return "", &Error{Line: key.Line, Reason: "a key must be a text"}
	}
	text, err := scalar(key)
	if err != nil {
		return "", err
	}
	if text[0] != '"' {
		return text, nil
	}
	var name string
	if err := json.Unmarshal([]byte(text), &name); err != nil {
		return "", &Error{Line: key.Line, Reason: err.Error()}
	}
	return name, nil
}
