package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const securityPage = "docs/security.md"

// named is a test as the page names it: the folder of its package, its function, and a name given to t.Run if it is one of
// those: `test/e2e.TestPassthrough/modes`.
var named = regexp.MustCompile("`([a-z0-9/-]+)\\.((?:Test|Fuzz)[A-Za-z0-9_]+)(?:/([^`]+))?`")

// suite is what the tests of a package are called.
type suite struct {
	functions map[string]bool
	// texts are all strings in them, of which some name what t.Run runs.
	texts map[string]bool
}

func readSuite(t *testing.T, dir string) *suite {
	t.Helper()
	out := &suite{functions: map[string]bool{}, texts: map[string]bool{}}
	files, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil {
					out.functions[n.Name.Name] = true
				}
			case *ast.BasicLit:
				if text, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
					out.texts[text] = true
				}
			}
			return true
		})
	}
	return out
}

// TestSecurityPage: every assertion is in the table, what is said to hold names a test, and every test that is named is in
// the tree.
func TestSecurityPage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", securityPage))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| (\d+[ab]?) \|(.*)\|$`)
	seen := map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		number, cells := m[1], strings.Split(m[2], "|")
		if seen[number] || len(cells) != 4 {
			t.Errorf("row %s is there twice, or has %d cells after its number, want 4", number, len(cells))
			continue
		}
		seen[number] = true
		tests := len(named.FindAllString(cells[3], -1))
		if rest := strings.TrimSpace(named.ReplaceAllString(cells[3], "")); rest != "" {
			t.Errorf("row %s: %q names no test", number, rest)
		}
		switch holds := strings.TrimSpace(cells[1]); {
		case holds == "yes" && tests == 0:
			t.Errorf("row %s holds and names no test", number)
		case holds != "yes" && holds != "in part" && holds != "no":
			t.Errorf("row %s: holds %q, want yes, in part or no", number, holds)
		}
	}
	for n := 1; n <= 50; n++ {
		if !seen[strconv.Itoa(n)] {
			t.Errorf("assertion %d is missing", n)
		}
	}
	suites := map[string]*suite{}
	for _, m := range named.FindAllStringSubmatch(string(text), -1) {
		dir, function, run := m[1], m[2], m[3]
		if suites[dir] == nil {
			suites[dir] = readSuite(t, dir)
		}
		switch s := suites[dir]; {
		case !s.functions[function]:
			t.Errorf("%s names %s, which is not in %s", securityPage, function, dir)
		case run != "" && !s.texts[run]:
			t.Errorf("%s names %s/%s, and no test of %s is called so", securityPage, function, run, dir)
		}
	}
}
