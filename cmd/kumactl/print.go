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

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

var outputs = []string{"table", "yaml", "json"}

func outputFlag(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", "table", "output format: one of table|yaml|json")
}

func checkOutput(cmd *cobra.Command, output string) error {
	if !slices.Contains(outputs, output) {
		return usage(cmd, fmt.Sprintf("output format %q is none of %s", output, strings.Join(outputs, ", ")))
	}
	return nil
}

// show prints a body of the control plane, in the format table what make returns.
func (a *app) show(output string, body []byte, human func() (*table, error)) error {
	switch output {
	case "json":
		var b bytes.Buffer
		if err := json.Indent(&b, body, "", "  "); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		b.WriteByte('\n')
		_, err := b.WriteTo(a.stdout)
		return err
	case "yaml":
		b, err := yaml.JSONToYAML(body)
		if err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		_, err = a.stdout.Write(b)
		return err
	default:
		t, err := human()
		if err != nil {
			return err
		}
		return t.print(a.stdout)
	}
}

// showList is show for a list, of which a table tells when there is more.
func (a *app) showList(output string, l *client.List, human func() (*table, error)) error {
	body, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if err := a.show(output, body, human); err != nil || output != "table" {
		return err
	}
	offset, err := l.Offset()
	if err == nil && offset != "" {
		_, err = fmt.Fprintf(a.stdout, "\nRerun command with --offset=%s argument to retrieve more resources\n", offset)
	}
	return err
}

// table is text in columns, with a header.
type table struct {
	header []string
	rows   [][]string
}

// print writes the columns three blanks apart, as 2.9 does.
func (t *table) print(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(out, strings.Join(t.header, "\t"))
	for _, row := range t.rows {
		for i, cell := range row {
			row[i] = printable(cell)
		}
		fmt.Fprintln(out, strings.Join(row, "\t"))
	}
	return out.Flush()
}

// printable keeps what others wrote from moving the cursor of a terminal or breaking a row.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// column is a header and how to fill it.
type column[T any] struct {
	header string
	cell   func(*T) string
}

// tableOf reads every item into a T.
func tableOf[T any](items []json.RawMessage, columns []column[T]) (*table, error) {
	t := &table{}
	for _, c := range columns {
		t.header = append(t.header, c.header)
	}
	for _, item := range items {
		r := new(T)
		if err := json.Unmarshal(item, r); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = c.cell(r)
		}
		t.rows = append(t.rows, row)
	}
	return t, nil
}

// head is what all resources have.
type head struct {
	Type         string            `json:"type"`
	Mesh         string            `json:"mesh"`
	Name         string            `json:"name"`
	CreationTime *time.Time        `json:"creationTime"`
	Labels       map[string]string `json:"labels"`
}

// networking is what tables show of a Dataplane's networking.
type networking struct {
	Address string `json:"address"`
	Inbound []struct {
		Tags   map[string]string `json:"tags"`
		State  string            `json:"state"`
		Health *struct {
			Ready bool `json:"ready"`
		} `json:"health"`
	} `json:"inbound"`
	Gateway *struct {
		Tags map[string]string `json:"tags"`
	} `json:"gateway"`
}

func (n *networking) tags() string {
	var sets []map[string]string
	for _, in := range n.Inbound {
		sets = append(sets, in.Tags)
	}
	if n.Gateway != nil {
		sets = append(sets, n.Gateway.Tags)
	}
	return joinTags(sets)
}

// joinTags writes each tag once, with all its values.
func joinTags(sets []map[string]string) string {
	all := map[string][]string{}
	for _, set := range sets {
		for k, v := range set {
			if !slices.Contains(all[k], v) {
				all[k] = append(all[k], v)
			}
		}
	}
	var tags []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		tags = append(tags, k+"="+strings.Join(all[k], ","))
	}
	return strings.Join(tags, " ")
}

// ago is the time since t, "never" when there is no t.
func ago(t *time.Time) string {
	if t == nil || t.IsZero() {
		return "never"
	}
	return age(time.Since(*t))
}

// age is one number and one unit, as in 2.9. A clock that is behind the control plane's makes it 0s.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d < 2*365*day:
		return fmt.Sprintf("%dd", d/day)
	default:
		return fmt.Sprintf("%dy", d/(365*day))
	}
}
