package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
	"github.com/kuma-dp/kuma-dp/internal/command"
)

// Values of --dry-run.
const (
	dryRunNone   = "none"
	dryRunClient = "client"
	dryRunServer = "server"
)

// dryRun says what apply does instead of applying.
type dryRun struct {
	mode    string
	explain bool
	output  string
}

func (d *dryRun) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.mode, "dry-run", dryRunNone,
		"store nothing: in `mode` client print the resources, in mode server ask the control plane what they would change")
	cmd.Flags().Lookup("dry-run").NoOptDefVal = dryRunClient
	cmd.Flags().BoolVar(&d.explain, "explain", false, "with --dry-run=server, print the rules and the Envoy resources of each proxy, old and new")
	outputFlag(cmd, &d.output)
}

func (d *dryRun) check(cmd *cobra.Command) error {
	switch d.mode { // it was a switch once
	case "true":
		d.mode = dryRunClient
	case "false":
		d.mode = dryRunNone
	}
	if !slices.Contains([]string{dryRunNone, dryRunClient, dryRunServer}, d.mode) {
		return usage(cmd, fmt.Sprintf("--dry-run=%s is none of none, client, server", d.mode))
	}
	if d.mode != dryRunServer && (d.explain || cmd.Flags().Changed("output")) {
		return usage(cmd, "--explain and -o go with --dry-run=server")
	}
	return checkOutput(cmd, d.output)
}

// The answer of `_preview`, as far as it is printed.
type (
	preview struct {
		Resources []struct {
			Type       string
			Mesh, Name string
			Action     string
			Matched    int
			Shadows    []previewOverride
			ShadowedBy []previewOverride
			Warnings   []string
		}
		Proxies     []previewProxy
		ZoneProxies []string
	}
	previewOverride struct {
		Mesh, Name string
		Fields     []string
		Whole      bool
		Proxies    int
	}
	previewProxy struct {
		Mesh, Name string
		Rules      []struct {
			Type          string
			Before, After json.RawMessage
		}
		Diff []struct {
			Op, Path string
			Value    json.RawMessage
		}
		Warnings []string
		Error    string
	}
)

// preview asks what the documents would change.
func (a *app) preview(ctx context.Context, c *client.Client, kinds client.Kinds, docs []document, how dryRun, ready requireReady) error {
	bodies := make([]map[string]any, len(docs))
	for i, d := range docs {
		kind, err := kinds.ByType(d.Type)
		if err != nil {
			return fmt.Errorf("preview %s: %w", d, err)
		}
		if _, err := a.prepare(ctx, c, kind, d); err != nil {
			return fmt.Errorf("preview %s: %w", d, err)
		}
		bodies[i] = d.body
	}
	body, err := json.Marshal(bodies)
	if err != nil {
		return err
	}
	if len(bodies) == 1 {
		if body, err = json.Marshal(bodies[0]); err != nil {
			return err
		}
	}
	answer, err := c.Do(ctx, http.MethodPost, []string{"_preview"}, ready.query(), body)
	if err != nil {
		return fmt.Errorf("preview: %w", err)
	}
	if how.output != "table" {
		return a.show(how.output, answer, nil)
	}
	var p preview
	if err := json.Unmarshal(answer, &p); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	p.print(&printer{w: a.stdout}, how.explain)
	return nil
}

// printer writes lines of what others wrote.
type printer struct{ w io.Writer }

func (p *printer) line(format string, args ...any) {
	fmt.Fprintln(p.w, printable(fmt.Sprintf(format, args...)))
}

func (p *preview) print(out *printer, explain bool) {
	for _, r := range p.Resources {
		verb := map[string]string{"create": "would be created", "update": "would be updated", "none": "is stored like this already"}[r.Action]
		line := fmt.Sprintf("%s %q", r.Type, r.Name)
		if r.Mesh != "" {
			line += fmt.Sprintf(" of mesh %q", r.Mesh)
		}
		line += " " + verb
		if r.Matched > 0 {
			line += ", it applies to " + counted(r.Matched, "proxy", "proxies")
		}
		out.line("%s", line)
		for _, w := range r.Warnings {
			out.line("  warning: %s", command.OneLine(w))
		}
		for _, o := range r.Shadows {
			out.line("  overrides %s", o)
		}
		for _, o := range r.ShadowedBy {
			out.line("  is overridden by %s", o)
		}
	}
	for _, name := range p.ZoneProxies {
		out.line("zone proxy %s would get another configuration", name)
	}
	if len(p.Proxies) == 0 {
		out.line("no proxy would change")
		return
	}
	out.line("%s would change:", counted(len(p.Proxies), "proxy", "proxies"))
	for i := range p.Proxies {
		p.Proxies[i].print(out, explain)
	}
}

func (o previewOverride) String() string {
	s := fmt.Sprintf("%q", o.Name)
	if o.Whole {
		s += " wholly"
	}
	return s + " on " + counted(o.Proxies, "proxy", "proxies") + ": " + strings.Join(o.Fields, ", ")
}

func (p *previewProxy) print(out *printer, explain bool) {
	var kinds []string
	for _, r := range p.Rules {
		kinds = append(kinds, r.Type)
	}
	var resources []string
	for _, d := range p.Diff {
		if name, _ := split(d.Path); !slices.Contains(resources, name) {
			resources = append(resources, name)
		}
	}
	line := fmt.Sprintf("  %s of mesh %s", p.Name, p.Mesh)
	if len(kinds) > 0 {
		line += ", rules of " + strings.Join(kinds, ", ")
	}
	out.line("%s, %s of Envoy", line, counted(len(resources), "resource", "resources"))
	for _, w := range p.Warnings {
		out.line("    warning: %s", command.OneLine(w))
	}
	if p.Error != "" {
		out.line("    it would keep what it has: %s", command.OneLine(p.Error))
	}
	if !explain {
		return
	}
	for _, r := range p.Rules {
		out.line("    rules of %s", r.Type)
		out.line("      - %s", compact(r.Before))
		out.line("      + %s", compact(r.After))
	}
	last := ""
	for _, d := range p.Diff {
		name, path := split(d.Path)
		if name != last {
			out.line("    %s", name)
			last = name
		}
		switch d.Op {
		case "test":
			out.line("      - %s %s", path, compact(d.Value))
		case "add":
			out.line("      + %s %s", path, compact(d.Value))
		}
	}
}

// split takes the path of a patch apart: the resource, as in "Cluster backend", and what of it.
func split(pointer string) (resource, field string) {
	parts := strings.SplitN(strings.TrimPrefix(pointer, "/"), "/", 3)
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	for i := range min(len(parts), 2) {
		parts[i] = unescape.Replace(parts[i])
	}
	typ := parts[0][strings.LastIndexByte(parts[0], '.')+1:]
	switch len(parts) {
	case 1:
		return "all of type " + typ, ""
	case 2:
		return typ + " " + parts[1], ""
	default:
		return typ + " " + parts[1], "/" + parts[2]
	}
}

// compact is JSON in one line, "none" for what is not there.
func compact(v json.RawMessage) string {
	if len(v) == 0 || string(v) == "null" {
		return "none"
	}
	var any any
	if err := json.Unmarshal(v, &any); err != nil {
		return string(v)
	}
	b, err := json.Marshal(any)
	if err != nil {
		return string(v)
	}
	return string(b)
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
