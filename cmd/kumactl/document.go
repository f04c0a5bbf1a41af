package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"sigs.k8s.io/yaml"

	"github.com/kuma-dp/kuma-dp/internal/yamljson"
	"github.com/kuma-dp/kuma-dp/resource"
)

// document is one resource of a file.
type document struct {
	Type   string            `json:"type"`
	Mesh   string            `json:"mesh"`
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	body   map[string]any
	source string
	// line is where it begins in its source.
	line     int
	warnings []string
}

// String is for messages: kind, name and place.
func (d document) String() string {
	return fmt.Sprintf("%s %q of %s, line %d", d.Type, d.Name, d.source, d.line)
}

// parse reads all documents of a text. Those without a mesh get the given one.
func parse(text []byte, values map[string]any, mesh string) ([]document, error) {
	if values != nil {
		rendered, err := render(string(text), values)
		if err != nil {
			return nil, err
		}
		text = []byte(rendered)
	}
	var docs []document
	for i, part := range resource.SplitYAML(text) {
		// Both end at the same byte of the same memory.
		before := text[:cap(text)-cap(part)]
		line := bytes.Count(before, []byte("\n")) + 1
		// A part begins behind its marker, or at an empty line.
		first := line + bytes.Count(part[:len(part)-len(bytes.TrimLeft(part, " \t\r\n"))], []byte("\n"))
		where := fmt.Sprintf("document %d, line %d", i+1, first)
		body, err := object(part)
		if bad, ok := errors.AsType[*yamljson.Error](err); ok && bad.Line > 0 {
			return nil, fmt.Errorf("document %d, line %d: %s", i+1, line+bad.Line-1, bad.Reason)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		if body == nil {
			continue // nothing but comments
		}
		items, err := unpack(body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		for _, item := range items {
			d, err := newDocument(item, mesh)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", where, err)
			}
			d.line = first
			docs = append(docs, *d)
		}
	}
	if len(docs) == 0 {
		return nil, errNothing
	}
	return docs, nil
}

// object reads one document, nil when it holds nothing. Numbers keep their digits.
func object(part []byte) (map[string]any, error) {
	text, err := yamljson.ToJSON(part)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var body map[string]any
	if err := d.Decode(&body); err != nil {
		return nil, errors.New("it is no mapping of fields such as type, name and spec")
	}
	return body, nil
}

// unpack returns the members of a list, as `kumactl get -o yaml` and `kubectl get -o yaml` print them, else the body.
func unpack(body map[string]any) ([]map[string]any, error) {
	items, ok := body["items"].([]any)
	if !ok || body["type"] != nil || body["kind"] != nil && body["kind"] != "List" {
		return []map[string]any{body}, nil
	}
	out := make([]map[string]any, len(items))
	for i, item := range items {
		if out[i], ok = item.(map[string]any); !ok {
			return nil, fmt.Errorf("item %d of the list is no resource", i+1)
		}
	}
	return out, nil
}

func newDocument(body map[string]any, mesh string) (*document, error) {
	d := &document{body: body}
	if body["type"] == nil || body["apiVersion"] != nil {
		if body["kind"] == nil {
			return nil, errors.New(`it has no type: write "type: Mesh", "type: MeshTimeout" or the like`)
		}
		var err error
		if d.body, d.warnings, err = fromKubernetes(body); err != nil {
			return nil, err
		}
	}
	text, err := json.Marshal(d.body)
	if err == nil {
		err = json.Unmarshal(text, d)
	}
	if bad, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return nil, fmt.Errorf("%s must be a text, not a %s: quote it", cmp.Or(bad.Field, "a field"), bad.Value)
	}
	switch {
	case err != nil:
		return nil, err
	case d.Type == "":
		return nil, errors.New("it has no type")
	case d.Name == "":
		return nil, fmt.Errorf("the %s has no name", d.Type)
	}
	d.Mesh = cmp.Or(d.Mesh, mesh)
	return d, nil
}

// dump prints documents in the universal form.
func dump(w io.Writer, docs []document) error {
	for i, d := range docs {
		text, err := json.Marshal(d.body)
		if err != nil {
			return err
		}
		b, err := yaml.JSONToYAML(text)
		if err != nil {
			return err
		}
		if i > 0 {
			b = append([]byte("---\n"), b...)
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}
