package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

const module = "github.com/kuma-dp/kuma-dp/"

// docstrings holds what the sources say about types and fields, and the values of constants that they mention.
type docstrings struct {
	root string
	// packages is keyed by import path, their texts by "Type" and "Type.Field".
	packages map[string]*packageDocs
}

type packageDocs struct {
	texts, constants map[string]string
	// about is the comment of the package.
	about string
}

func (d *docstrings) of(pkg string) (*packageDocs, error) {
	if p := d.packages[pkg]; p != nil {
		return p, nil
	}
	p := &packageDocs{texts: map[string]string{}, constants: map[string]string{}}
	dir := path.Join(d.root, strings.TrimPrefix(pkg, module))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			file, err := parser.ParseFile(token.NewFileSet(), path.Join(dir, name), nil, parser.ParseComments)
			if err != nil {
				return nil, err
			}
			p.read(file)
		}
	}
	d.packages[pkg] = p
	return p, nil
}

func (p *packageDocs) read(file *ast.File) {
	if file.Doc != nil {
		p.about = file.Doc.Text()
	}
	for _, decl := range file.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range g.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				p.readType(g, s)
			case *ast.ValueSpec:
				for i, name := range s.Names {
					if i >= len(s.Values) || g.Tok != token.CONST {
						continue
					}
					if lit, ok := s.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
						p.constants[name.Name], _ = strconv.Unquote(lit.Value)
					}
				}
			}
		}
	}
}

func (p *packageDocs) readType(g *ast.GenDecl, s *ast.TypeSpec) {
	doc := s.Doc
	if doc == nil {
		doc = g.Doc
	}
	p.texts[s.Name.Name] = doc.Text()
	body, ok := s.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, field := range body.Fields.List {
		for _, name := range field.Names {
			p.texts[s.Name.Name+"."+name.Name] = field.Doc.Text()
		}
	}
}

// Places in the contracts are for those who build the product, not for its users.
var references = regexp.MustCompile(`\s*\((see )?contract [^)]*\)|, see [A-Z]\w+|\s*\(see [A-Z]\w+\)`)

// words are what may be a Go name.
var words = regexp.MustCompile(`\b[A-Z]\w+\b`)

// text is the docstring of a type, or of a field when it has one, as one line for users: constants have become their
// values, and names of fields those of JSON.
func (d *docstrings) text(t reflect.Type, field string, jsonNames map[string]string) (string, error) {
	p, err := d.of(t.PkgPath())
	if err != nil {
		return "", err
	}
	// A generic type is called Entry[...].
	key, _, _ := strings.Cut(t.Name(), "[")
	subject := key
	if field != "" {
		key += "." + field
		subject = field
	}
	return polish(p.texts[key], subject, p.constants, jsonNames), nil
}

func polish(text, subject string, constants, jsonNames map[string]string) string {
	text = references.ReplaceAllString(strings.Join(strings.Fields(text), " "), "")
	if rest, ok := strings.CutPrefix(text, subject+" "); ok {
		for _, verb := range []string{"is ", "are "} {
			rest = strings.TrimPrefix(rest, verb)
		}
		text = strings.ToUpper(rest[:1]) + rest[1:]
	}
	text = strings.ReplaceAll(text, "policy.Decimal", "whole number, or a decimal fraction in a string")
	first := true
	return words.ReplaceAllStringFunc(text, func(w string) string {
		begins := first
		first = false
		if name := jsonNames[w]; name != "" && name != w && !begins && w != strings.ToUpper(w) {
			return "`" + name + "`"
		}
		if value := constants[w]; value != "" {
			return "`" + value + "`"
		}
		return w
	})
}
