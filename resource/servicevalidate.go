package resource

import (
	"errors"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
)

// Validate applies contract policies.md §2.1. The length of the name is checked with the name.
func (s *MeshService) Validate(*Meta) []Violation {
	var f Faults
	seen := map[string]bool{}
	for i, port := range s.Ports {
		p := Path("spec.ports").Index(i)
		f.port(p.Field("port"), port.Port)
		if port.TargetPort.Str == "" && port.TargetPort.Int > 65535 {
			f.port(p.Field("targetPort"), port.TargetPort.Int)
		}
		if section := port.Section(); seen[section] {
			f.Add(p.Field("name"), "must be unique")
		} else {
			seen[section] = true
		}
	}
	return f
}

// CheckSchema checks the enumerations of a MeshService.
func (s *MeshService) CheckSchema() []Violation {
	var f Faults
	f.OneOf("spec.state", s.State, StateAvailable, StateUnavailable)
	for i, id := range s.Identities {
		f.OneOf(Path("spec.identities").Index(i).Field("type"), id.Type, IdentityServiceTag)
	}
	return f
}

// Section is the name of the port that targetRefs use: its own, else the decimal number.
func (p *ServicePort) Section() string {
	if p.Name != "" {
		return p.Name
	}
	return IntOrString{Int: p.Port}.String()
}

// Validate applies contract dns.md §1.2, with the stricter checks of later versions: the template must give a DNS name
// for made-up values.
func (g *HostnameGenerator) Validate(*Meta) []Violation {
	var f Faults
	selectors := 0
	for _, s := range []*LabelSelector{g.Selector.MeshService, g.Selector.MeshExternalService, g.Selector.MeshMultiZoneService} {
		if s != nil {
			selectors++
		}
	}
	if selectors != 1 {
		f.Add("spec.selector", "exact one selector (meshService, meshExternalService) must be defined")
	}
	g.validateTemplate(&f, "spec.template")
	if g.Extension != nil && g.Extension.Type == "" {
		f.Add("spec.extension.type", "must not be empty")
	}
	return f
}

func (g *HostnameGenerator) validateTemplate(f *Faults, p Path) {
	if g.Template == "" {
		f.Add(p, "must not be empty")
		return
	}
	label := func(string) string { return "label" }
	t, err := template.New("").Funcs(template.FuncMap{"label": label}).Parse(g.Template)
	if err != nil {
		f.Add(p, "couldn't parse template: "+err.Error())
		return
	}
	if slices.ContainsFunc(t.Templates(), func(t *template.Template) bool { return loops(t.Root) }) {
		f.Add(p, "couldn't parse template: range and template are not supported")
		return
	}
	stub := struct{ Name, DisplayName, Namespace, Mesh, Zone string }{"name", "displayname", "namespace", "mesh", "zone"}
	out := limitedBuilder{limit: maxRendered}
	if err := t.Execute(&out, stub); err != nil {
		f.Add(p, "couldn't render template with stub values: "+err.Error())
		return
	}
	if name := out.String(); len(name) > maxNameLength || !isSubdomain(name) {
		f.Add(p, `template renders to "`+name+`" which is not a valid DNS name: `+badSubdomain)
	}
}

// loops tells whether a template has an action that can repeat: range, or a call of a template, which may be its own caller.
// No hostname needs them, and counting to a large number would keep the control plane busy.
func loops(n parse.Node) bool {
	switch n := n.(type) {
	case *parse.RangeNode, *parse.TemplateNode:
		return true
	case *parse.ListNode:
		return n != nil && slices.ContainsFunc(n.Nodes, loops)
	case *parse.IfNode:
		return loops(n.List) || loops(n.ElseList)
	case *parse.WithNode:
		return loops(n.List) || loops(n.ElseList)
	default:
		return false
	}
}

var errTooLong = errors.New("hostname is too long")

// maxRendered bounds what a template may print: a format can ask for any width.
const maxRendered = 4096

type limitedBuilder struct {
	strings.Builder
	limit int
}

func (b *limitedBuilder) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.limit {
		return 0, errTooLong
	}
	return b.Builder.Write(p)
}
