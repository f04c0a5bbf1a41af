package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// blockPage is one of docs/reference that is written by hand except for blocks, which stand between two lines.
type blockPage struct {
	name   string
	blocks []block
}

type block struct {
	name string
	make func() (string, error)
}

// blockPages have blocks.
var blockPages = []blockPage{
	{"transparent-proxy.md", []block{{"settings", redirectionSettings}}},
	{"dns.md", []block{{"settings", dnsSettings}, {"metrics", dnsMetrics}}},
}

func (p blockPage) path(root string) string { return filepath.Join(root, "docs", "reference", p.name) }

func (p blockPage) write(root string) error {
	text, err := os.ReadFile(p.path(root))
	if err != nil {
		return err
	}
	if text, err = p.fill(text); err != nil {
		return fmt.Errorf("%s: %w", p.path(root), err)
	}
	return os.WriteFile(p.path(root), text, 0o644)
}

// fill exchanges the blocks of a page.
func (p blockPage) fill(text []byte) ([]byte, error) {
	for _, b := range p.blocks {
		begin, end := fmt.Sprintf("<!-- %s: made by `make generate`, do not edit -->\n", b.name), fmt.Sprintf("<!-- end of %s -->\n", b.name)
		head, rest, ok := bytes.Cut(text, []byte(begin))
		_, tail, closed := bytes.Cut(rest, []byte(end))
		if !ok || !closed {
			return nil, fmt.Errorf("the lines %q and %q are missing", begin, end)
		}
		content, err := b.make()
		if err != nil {
			return nil, err
		}
		text = bytes.Join([][]byte{head, []byte(begin + content + end), tail}, nil)
	}
	return text, nil
}

// row writes a line of a table. All cells but the last are code, unless they are empty.
func row(out *strings.Builder, cells ...string) {
	for i, cell := range cells {
		if cell != "" && i < len(cells)-1 {
			cell = "`" + cell + "`"
		}
		fmt.Fprintf(out, "| %s ", strings.ReplaceAll(cell, "|", `\|`))
	}
	out.WriteString("|\n")
}
