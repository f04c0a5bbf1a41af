package resource

import (
	"strings"

	"github.com/kuma-dp/kuma-dp/resource/hostname"
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
	t, err := hostname.Parse(g.Template)
	if err != nil {
		f.Add(p, "couldn't parse template: "+err.Error())
		return
	}
	name, err := t.Render(hostname.Values{
		Name: "name", DisplayName: "displayname", Namespace: "namespace", Mesh: "mesh", Zone: "zone",
		Label: func(string) (string, error) { return "label", nil },
	})
	if err != nil {
		f.Add(p, "couldn't render template with stub values: "+err.Error())
		return
	}
	if reasons := hostname.Irregular(name); len(reasons) > 0 {
		f.Add(p, `template renders to "`+name+`" which is not a valid DNS name: `+strings.Join(reasons, ", "))
	}
}
