package hostname

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/kuma-dp/kuma-dp/resource"
)

const (
	// maxTemplate bounds what is parsed, in bytes. A template that gives a hostname is far shorter.
	maxTemplate = 4096
	// maxOutput bounds what is printed, in bytes: well above any DNS name, so that the whole of a slightly too long one is shown.
	maxOutput = 1024
	maxName   = 253
	maxLabel  = 63
)

// meshedName is what a template sees (contract dns.md §1.3). The name of the type appears in errors, which are part of
// the contract.
type meshedName struct {
	Name        string
	DisplayName string
	Namespace   string
	Mesh        string
	Zone        string
}

// functions are the ones that a template may call: label, and those of text/template that choose and compare. None of
// them makes a string longer, and there are no loops and no templates that call each other, so that the work and the
// memory of a template are bounded by its length.
var functions = map[string]bool{
	"label": true, "and": true, "or": true, "not": true, "eq": true, "ne": true, "lt": true, "le": true, "gt": true, "ge": true, "len": true,
}

// compile parses a template. Fields that do not exist are left to the execution, as in 2.9, whose errors they give.
func compile(text string) (*template.Template, error) {
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("failed compiling gotemplate error=%q", "template is longer than "+strconv.Itoa(maxTemplate)+" bytes")
	}
	noLabels := template.FuncMap{"label": func(string) (string, error) { return "", errors.New("no labels") }}
	t, err := template.New("").Funcs(noLabels).Parse(text)
	if err == nil && len(t.Templates()) > 1 {
		err = errors.New("template must not define templates")
	}
	if err == nil && t.Tree != nil {
		err = check(t.Root)
	}
	if err != nil {
		return nil, fmt.Errorf("failed compiling gotemplate error=%q", err.Error())
	}
	return t, nil
}

// check refuses all of the template language that is not needed to make a name out of labels.
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
		*parse.DotNode, *parse.VariableNode, *parse.FieldNode, *parse.ChainNode:
		// Nothing hangs from the data but strings: a chain or a longer field fails when it is executed.
	case *parse.ActionNode:
		return check(n.Pipe)
	case *parse.IfNode:
		return errors.Join(check(n.Pipe), check(n.List), check(n.ElseList))
	case *parse.WithNode:
		return errors.Join(check(n.Pipe), check(n.List), check(n.ElseList))
	case *parse.PipeNode:
		for _, c := range n.Cmds {
			for _, arg := range c.Args {
				if err := check(arg); err != nil {
					return err
				}
			}
		}
	case *parse.IdentifierNode:
		if !functions[n.Ident] {
			return fmt.Errorf("function %q is not supported", n.Ident)
		}
	default:
		return fmt.Errorf("%s is not supported", node)
	}
	return nil
}

var errLong = errors.New("output is too long")

type limited struct{ strings.Builder }

func (w *limited) Write(p []byte) (int, error) {
	if w.Len()+len(p) > maxOutput {
		return 0, errLong
	}
	return w.Builder.Write(p)
}

// evaluate makes the hostname of a service. Errors are the messages of conditions (contract dns.md §1.3).
func evaluate(t *template.Template, r *resource.Resource, zone string) (string, error) {
	label := func(key string) (string, error) {
		v, ok := r.Labels[key]
		if !ok {
			return "", fmt.Errorf("label %s not found", key)
		}
		return v, nil
	}
	name := meshedName{Name: r.Name, DisplayName: r.DisplayName(), Namespace: r.Labels[resource.LabelNamespace], Mesh: r.Mesh, Zone: r.Labels[resource.LabelZone]}
	if name.Zone == "" {
		name.Zone = zone
	}
	own, err := t.Clone() // functions belong to a template, and label depends on the service
	if err != nil {
		return "", fmt.Errorf("pre evaluation of template with parameters failed with error=%q", err.Error())
	}
	var out limited
	if err := own.Funcs(template.FuncMap{"label": label}).Execute(&out, name); err != nil {
		if errors.Is(err, errLong) {
			return "", fmt.Errorf("generated hostname is not a valid DNS name: must be no more than %d characters", maxName)
		}
		return "", fmt.Errorf("pre evaluation of template with parameters failed with error=%q", err.Error())
	}
	host := out.String()
	if reasons := invalid(host); len(reasons) > 0 {
		return "", fmt.Errorf("generated hostname %q is not a valid DNS name: %s", host, strings.Join(reasons, ", "))
	}
	return host, nil
}

const badSubdomain = `a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and ` +
	`end with an alphanumeric character (e.g. 'example.com', regex used for validation is ` +
	`'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`

// invalid says why a name cannot be served by DNS.
func invalid(name string) (reasons []string) {
	if len(name) > maxName {
		reasons = append(reasons, fmt.Sprintf("must be no more than %d characters", maxName))
	}
	long, bad := false, false
	for part := range strings.SplitSeq(name, ".") {
		long = long || len(part) > maxLabel
		bad = bad || !isLabel(part)
	}
	if bad {
		reasons = append(reasons, badSubdomain)
	}
	if long {
		reasons = append(reasons, fmt.Sprintf("each part must be no more than %d characters", maxLabel))
	}
	return reasons
}

// isLabel takes the underscore besides the letters of RFC 1123: 2.9 publishes the names of services such as web_ns_svc_80
// (contract dns.md §1.3), and DNS carries them.
func isLabel(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_'
		if !alnum && (c != '-' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return s != ""
}
