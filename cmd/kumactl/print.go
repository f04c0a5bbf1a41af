package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

// show writes body in a format; tables show items.
func show(w io.Writer, format string, body []byte, items []json.RawMessage, kind *client.Kind) error {
	switch format {
	case "json":
		var b bytes.Buffer
		if err := json.Indent(&b, body, "", "  "); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		b.WriteByte('\n')
		_, err := b.WriteTo(w)
		return err
	case "yaml":
		b, err := yaml.JSONToYAML(body)
		if err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		_, err = w.Write(b)
		return err
	default:
		return table(w, items, kind)
	}
}

// table has the columns of 2.9 for meshes and dataplanes, and MESH, NAME, AGE for the others.
func table(w io.Writer, items []json.RawMessage, kind *client.Kind) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	header := []string{"NAME", "AGE"}
	switch {
	case kind.Name == "Mesh":
		header = []string{"NAME", "mTLS", "AGE"}
	case kind.Name == "Dataplane":
		header = []string{"MESH", "NAME", "TAGS", "ADDRESS", "AGE"}
	case kind.Scope == "Mesh":
		header = []string{"MESH", "NAME", "AGE"}
	}
	fmt.Fprintln(t, strings.Join(header, "\t"))
	now := time.Now()
	for _, item := range items {
		var r row
		if err := json.Unmarshal(item, &r); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		cells := make([]string, len(header))
		for i, column := range header {
			cells[i] = r.cell(column, now)
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

func (r *row) cell(column string, now time.Time) string {
	switch column {
	case "MESH":
		return r.Mesh
	case "NAME":
		return r.Name
	case "ADDRESS":
		return r.Networking.Address
	case "TAGS":
		sets := map[string][]string{}
		for _, in := range r.Networking.Inbound {
			for k, v := range in.Tags {
				if !slices.Contains(sets[k], v) {
					sets[k] = append(sets[k], v)
				}
			}
		}
		var tags []string
		for _, k := range slices.Sorted(maps.Keys(sets)) {
			tags = append(tags, k+"="+strings.Join(sets[k], ","))
		}
		return strings.Join(tags, " ")
	case "mTLS":
		for _, b := range r.MTLS.Backends {
			if b.Name == r.MTLS.EnabledBackend {
				return b.Type + "/" + b.Name
			}
		}
		return "off"
	default:
		return age(now.Sub(r.CreationTime))
	}
}

// age is one number and one unit, as in 2.9.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "never"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/day)
	}
}
