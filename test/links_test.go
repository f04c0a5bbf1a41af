package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
)

// pages are the texts of the tree by their path from its root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	root := os.DirFS("..")
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		text, err := fs.ReadFile(root, path)
		out[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// targets are the files of the tree that a page links to, as paths from its root.
func targets(page, text string) []string {
	var out []string
	for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
		to, _, _ := strings.Cut(m[1], "#")
		if to != "" && !strings.Contains(to, "://") {
			out = append(out, filepath.Join(filepath.Dir(page), to))
		}
	}
	return out
}

func TestLinksLeadSomewhere(t *testing.T) {
	checked := 0
	for page, text := range pages(t) {
		for _, to := range targets(page, text) {
			checked++
			if _, err := os.Stat(filepath.Join("..", to)); err != nil {
				t.Errorf("%s links to %s, which is not there", page, to)
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d links were found", checked)
	}
}

func TestEveryGuideIsInTheIndex(t *testing.T) {
	const index = "docs/guides/README.md"
	all := pages(t)
	listed := map[string]bool{index: true}
	for _, to := range targets(index, all[index]) {
		listed[to] = true
	}
	for page := range all {
		if strings.HasPrefix(page, "docs/guides/") && !listed[page] {
			t.Errorf("%s does not list %s", index, page)
		}
	}
}
