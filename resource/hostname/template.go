// Package hostname makes hostnames of services out of the templates of HostnameGenerators (contract dns.md §1.2, §1.3).
// A template is written by users and runs in the control plane, for every service: it can neither run long nor grow large,
// and reaches nothing but the documented fields and the labels of the service.
package hostname

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"text/template"
	"text/template/parse"
)

const (
	// maxTemplate bounds what is parsed, in bytes. A template that gives a hostname is far shorter.
	maxTemplate = 4096
	// maxText bounds what is printed, by the template and by each of its functions, in bytes: well above any DNS name, so that
	// the whole of a slightly too long one is shown.
	maxText = 1024
)

// ErrLong says that a template prints more than any name can have.
var ErrLong = errors.New("output is too long")

// Values are what a template sees of a service.
type Values struct {
	Name, DisplayName, Namespace, Mesh, Zone string
	// Label returns the label of a key.
	Label func(key string) (string, error)
}

// meshedName is the data of a template. The name of the type appears in errors, which are part of the contract.
type meshedName struct {
	Name        string
	DisplayName string
	Namespace   string
	Mesh        string
	Zone        string
}

// Template is one that was found harmless. It is safe for concurrent use.
type Template struct {
	mu sync.Mutex
	t  *template.Template
	// label is that of the service whose name is made.
	label func(key string) (string, error)
}

// Parse fails with Go's words when the text is not a template, and for what is not supported. Fields that do not exist are
// left to Render, as in 2.9.
func Parse(text string) (*Template, error) {
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("template is longer than %d bytes", maxTemplate)
	}
	out := &Template{}
	functions := functions()
	functions["label"] = func(key string) (string, error) { return out.label(key) }
	t, err := template.New("").Funcs(functions).Parse(text)
	if err != nil {
		return nil, err
	}
	if len(t.Templates()) > 1 {
		return nil, errors.New("define and block are not supported")
	}
	if t.Tree != nil {
		if err := check(t.Root); err != nil {
			return nil, err
		}
	}
	out.t = t
	return out, nil
}

// Render makes the text for a service, which need not be a name.
func (t *Template) Render(v Values) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.label = v.Label
	var out limited
	if err := t.t.Execute(&out, meshedName{v.Name, v.DisplayName, v.Namespace, v.Mesh, v.Zone}); err != nil {
		return "", err
	}
	return out.String(), nil
}

// check refuses what repeats, and what is not known to be harmless. Without loops, and templates that call each other,
// every action is done at most once, and none prints or keeps more than maxText.
func check(node parse.Node) error {
	switch n := node.(type) {
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		for _, c := range n.Nodes {
			if err := check(c); err != nil {
				return err
			}
		}
	case *parse.TextNode, *parse.CommentNode, *parse.StringNode, *parse.NumberNode, *parse.BoolNode, *parse.NilNode,
		*parse.DotNode, *parse.VariableNode, *parse.FieldNode:
		// Nothing hangs from the data but strings: a longer field fails when it is executed.
	case *parse.ChainNode:
		return check(n.Node)
	case *parse.ActionNode:
		return check(n.Pipe)
	case *parse.IfNode:
		return firstOf(check(n.Pipe), check(n.List), check(n.ElseList))
	case *parse.WithNode:
		return firstOf(check(n.Pipe), check(n.List), check(n.ElseList))
	case *parse.PipeNode:
		for _, c := range n.Cmds {
			for _, arg := range c.Args {
				if err := check(arg); err != nil {
					return err
				}
			}
		}
	case *parse.IdentifierNode:
		if n.Ident == "call" {
			return errors.New("call is not supported")
		}
	case *parse.RangeNode:
		return errors.New("range is not supported")
	case *parse.TemplateNode:
		return errors.New("template is not supported")
	default:
		return fmt.Errorf("%s is not supported", node)
	}
	return nil
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

type limited struct{ strings.Builder }

func (w *limited) Write(p []byte) (int, error) {
	if w.Len()+len(p) > maxText {
		return 0, ErrLong
	}
	return w.Builder.Write(p)
}
