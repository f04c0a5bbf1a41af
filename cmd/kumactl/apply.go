package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/cbroglie/mustache"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
	"github.com/kuma-dp/kuma-dp/resource"
)

// maxInput bounds a file to apply: far above a federation export.
const maxInput = 64 << 20

func newApplyCommand(a *app) *cobra.Command {
	var file string
	var vars []string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "apply -f FILE", Short: "Create or update resources",
		Long: "Create or update the resources of a file, in its order. The file is YAML or JSON with one or more documents.\n" +
			"With -v it is a Mustache template first: {{ name }} becomes the value of -v name=value, as it is, without escaping.",
		Example: "  kumactl apply -f mesh.yaml\n  kumactl apply -f timeout.yaml -v service=web --dry-run",
		Args:    args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usage(cmd, "-f is required; use - for the standard input")
			}
			values, err := variables(vars)
			if err != nil {
				return usage(cmd, err.Error())
			}
			text, err := a.read(file)
			if err != nil {
				return err
			}
			docs, err := parse(text, values, a.mesh)
			if err != nil {
				return fmt.Errorf("read %s: %w", file, err)
			}
			if dryRun {
				return dump(a.stdout, docs)
			}
			return a.apply(cmd.Context(), docs)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "path of the file, or - for the standard input")
	cmd.Flags().StringArrayVarP(&vars, "var", "v", nil, "name=value of a variable of the template")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the resources instead, without asking the control plane")
	return cmd
}

func (a *app) read(file string) ([]byte, error) {
	in := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read resources: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read resources: %w", err)
	}
	if len(b) > maxInput {
		return nil, fmt.Errorf("read resources: %s is larger than %d bytes", file, maxInput)
	}
	return b, nil
}

// variables reads name=value. Dots in a name make parts, as Mustache reads them.
func variables(given []string) (map[string]any, error) {
	if len(given) == 0 {
		return nil, nil //nolint:nilnil // without variables there is no template
	}
	out := map[string]any{}
	for _, v := range given {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("-v %q is not of the form name=value", v)
		}
		parts, at := strings.Split(name, "."), out
		for _, p := range parts[:len(parts)-1] {
			next, ok := at[p].(map[string]any)
			if !ok {
				if at[p] != nil {
					return nil, fmt.Errorf("-v %s is both a value and a part of another name", p)
				}
				next = map[string]any{}
				at[p] = next
			}
			at = next
		}
		if at[parts[len(parts)-1]] != nil {
			return nil, fmt.Errorf("-v %s is given twice", name)
		}
		at[parts[len(parts)-1]] = value
	}
	return out, nil
}

// document is one resource of a file.
type document struct {
	Type   string            `json:"type"`
	Mesh   string            `json:"mesh"`
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	body   map[string]any
}

// parse reads all documents before any is applied, so that a bad file changes nothing.
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
		d := document{}
		err := yaml.Unmarshal(part, &d.body)
		if err == nil && d.body == nil {
			continue // nothing but comments
		}
		if err == nil {
			err = yaml.Unmarshal(part, &d)
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("document %d: %w", i+1, err)
		case d.body["kind"] != nil && d.Type == "":
			return nil, fmt.Errorf("document %d has the form of Kubernetes: give it type, mesh and name instead of kind and metadata", i+1)
		case d.Type == "":
			return nil, fmt.Errorf("document %d has no type", i+1)
		case d.Name == "":
			return nil, fmt.Errorf("document %d (%s) has no name", i+1, d.Type)
		}
		d.Mesh = cmp.Or(d.Mesh, mesh)
		docs = append(docs, d)
	}
	if len(docs) == 0 {
		return nil, errors.New("it holds no resource")
	}
	return docs, nil
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

func dump(w io.Writer, docs []document) error {
	for i, d := range docs {
		b, err := yaml.Marshal(d.body)
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

func (a *app) apply(ctx context.Context, docs []document) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	kinds, err := c.Kinds(ctx)
	if err != nil {
		return err
	}
	found := make([]*client.Kind, len(docs))
	for i, d := range docs {
		if found[i], err = kinds.ByType(d.Type); err != nil {
			return err
		}
	}
	for i, d := range docs {
		if err := a.put(ctx, c, found[i], d); err != nil {
			return fmt.Errorf("apply %s %q: %w", d.Type, d.Name, err)
		}
	}
	return nil
}

// computed are labels that the control plane gives on create and, as 2.9 does, drops on an update whose body lacks them.
var computed = []string{"kuma.io/mesh", "kuma.io/origin", "kuma.io/zone", "kuma.io/env"}

func (a *app) put(ctx context.Context, c *client.Client, kind *client.Kind, d document) error {
	path := kind.URL(d.Mesh, d.Name)
	if kind.Scope == "Mesh" {
		d.body["mesh"] = d.Mesh
	}
	existing, err := c.Do(ctx, http.MethodGet, path, nil, nil)
	switch {
	case err == nil:
		var old document
		if err := json.Unmarshal(existing, &old); err != nil {
			return fmt.Errorf("read what is there: %w", err)
		}
		keep(d, old.Labels)
	case !client.IsNotFound(err):
		return err
	}
	body, err := json.Marshal(d.body)
	if err != nil {
		return err
	}
	answer, err := c.Do(ctx, http.MethodPut, path, nil, body)
	if err != nil {
		return err
	}
	var w struct {
		Warnings []string `json:"warnings"`
	}
	if len(answer) > 0 && json.Unmarshal(answer, &w) == nil {
		for _, text := range w.Warnings {
			fmt.Fprintf(a.stderr, "Warning: %s %q: %s\n", d.Type, d.Name, oneLine(text))
		}
	}
	return nil
}

// keep adds the computed labels of the stored resource to those of the file.
func keep(d document, old map[string]string) {
	labels := map[string]any{}
	for k, v := range d.Labels {
		labels[k] = v
	}
	for _, k := range computed {
		if _, given := labels[k]; !given && old[k] != "" {
			labels[k] = old[k]
		}
	}
	if len(labels) > 0 {
		d.body["labels"] = labels
	}
}
