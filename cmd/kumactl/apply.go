package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
	"github.com/kuma-dp/kuma-dp/internal/command"
)

func newApplyCommand(a *app) *cobra.Command {
	var files, vars []string
	var dry dryRun
	var ready requireReady
	cmd := &cobra.Command{
		Use: "apply -f FILE", Short: "Create or update resources",
		Long: "Create or update the resources of files, in their order. A file is YAML 1.2 or JSON with one or more documents,\n" +
			"in the universal form or in that of Kubernetes. All are read before the first is sent; when the control plane\n" +
			"refuses one, those before it stay applied and the error names them.\n\n" +
			"With -v a file is a Mustache template first: {{ name }} becomes the value of -v name=value, as it is, without\n" +
			"escaping. A template without a value for a name is an error.\n\n" +
			"With --dry-run=server nothing is stored: the control plane tells which proxies would change, with --explain also which\n" +
			"rules and which resources of Envoy, and which other policies are overridden.\n\n" +
			"Who would be shut out by strict mTLS is warned of; with --require-ready nothing is stored that shuts somebody out.",
		Example: "  kumactl apply -f mesh.yaml\n" +
			"  kumactl apply -f mesh.yaml -f policies/\n" +
			"  kumactl apply -f timeout.yaml -v service=web --dry-run\n" +
			"  kumactl apply -f timeout.yaml -v service=web --dry-run=server --explain\n" +
			"  kumactl apply -f strict.yaml --require-ready=24h",
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(files) == 0 {
				return usage(cmd, "-f is required; use - for the standard input")
			}
			if err := dry.check(cmd); err != nil {
				return err
			}
			values, err := variables(vars)
			if err != nil {
				return usage(cmd, err.Error())
			}
			docs, err := a.documents(cmd.Context(), files, values)
			if err != nil {
				return err
			}
			for _, d := range docs {
				for _, text := range d.warnings {
					fmt.Fprintf(a.stderr, "Warning: %s: %s\n", d, text)
				}
			}
			if dry.mode == dryRunClient {
				return dump(a.stdout, docs)
			}
			return a.withClient(cmd.Context(), func(c *client.Client, kinds client.Kinds) error {
				if err := ready.check(cmd.Context(), c, meshesOf(docs)...); err != nil {
					return fmt.Errorf("%w; nothing was applied", err)
				}
				if dry.mode == dryRunServer {
					return a.preview(cmd.Context(), c, kinds, docs, dry, ready)
				}
				return a.apply(cmd.Context(), c, kinds, docs, ready)
			})
		},
	}
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil,
		"path of a file, of a directory (its .yaml, .yml and .json files, by name), an http or https URL, or - for the standard input; may be repeated")
	cmd.Flags().StringArrayVarP(&vars, "var", "v", nil, "name=value of a variable of the template; may be repeated")
	dry.flags(cmd)
	ready.flag(cmd)
	return cmd
}

// meshesOf are those that documents are about.
func meshesOf(docs []document) (out []string) {
	for _, d := range docs {
		if d.Type == "Mesh" {
			out = append(out, d.Name)
		} else {
			out = append(out, d.Mesh)
		}
	}
	return out
}

// documents reads all files, so that a bad one changes nothing.
func (a *app) documents(ctx context.Context, files []string, values map[string]any) ([]document, error) {
	var docs []document
	for _, file := range files {
		sources, err := a.read(ctx, file)
		if err != nil {
			return nil, err
		}
		for _, s := range sources {
			more, err := parse(s.text, values, a.mesh)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", s.name, err)
			}
			for i := range more {
				more[i].source = s.name
			}
			docs = append(docs, more...)
		}
	}
	return docs, nil
}

func (a *app) apply(ctx context.Context, c *client.Client, kinds client.Kinds, docs []document, ready requireReady) error {
	found := make([]*client.Kind, len(docs))
	for i, d := range docs {
		var err error
		if found[i], err = kinds.ByType(d.Type); err != nil {
			return fmt.Errorf("apply %s: %w; nothing was applied", d, err)
		}
	}
	for i, d := range docs {
		if err := a.put(ctx, c, found[i], d, ready.query()); err != nil {
			return fmt.Errorf("apply %s: %w%s", d, err, progress(docs, i))
		}
	}
	return nil
}

// progress tells what a failure at a document leaves behind, for a single document nothing.
func progress(docs []document, at int) string {
	if len(docs) == 1 {
		return ""
	}
	before := make([]string, at)
	for i, d := range docs[:at] {
		before[i] = fmt.Sprintf("%s %q", d.Type, d.Name)
	}
	done := "nothing"
	if at > 0 {
		done = strings.Join(before, ", ")
	}
	return fmt.Sprintf("; applied before it: %s; not tried after it: %d", done, len(docs)-at-1)
}

// computed are labels that the control plane gives on create and, as 2.9 does, drops on an update whose body lacks them.
var computed = []string{"kuma.io/mesh", "kuma.io/origin", "kuma.io/zone", "kuma.io/env"}

// prepare completes the body of a document, with the labels of what is stored, and returns its path.
func (a *app) prepare(ctx context.Context, c *client.Client, kind *client.Kind, d document) ([]string, error) {
	path := kind.URL(d.Mesh, d.Name)
	if kind.Scope == "Mesh" {
		d.body["mesh"] = d.Mesh
	}
	existing, err := c.Do(ctx, http.MethodGet, path, nil, nil)
	switch {
	case err == nil:
		var old document
		if err := json.Unmarshal(existing, &old); err != nil {
			return nil, fmt.Errorf("read what is there: %w", err)
		}
		keep(d, old.Labels)
	case !client.IsNotFound(err):
		return nil, err
	}
	return path, nil
}

func (a *app) put(ctx context.Context, c *client.Client, kind *client.Kind, d document, query url.Values) error {
	path, err := a.prepare(ctx, c, kind, d)
	if err != nil {
		return err
	}
	body, err := json.Marshal(d.body)
	if err != nil {
		return err
	}
	answer, err := c.Do(ctx, http.MethodPut, path, query, body)
	if err != nil {
		return err
	}
	a.warn(answer, d.Type, d.Name)
	return nil
}

// warn tells what an answer warns of.
func (a *app) warn(answer []byte, kind, name string) {
	var w struct {
		Warnings []string `json:"warnings"`
	}
	if len(answer) > 0 && json.Unmarshal(answer, &w) == nil {
		for _, text := range w.Warnings {
			fmt.Fprintf(a.stderr, "Warning: %s %q: %s\n", kind, name, command.OneLine(text))
		}
	}
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

// errNothing is for files without a document.
var errNothing = errors.New("it holds no resource")
