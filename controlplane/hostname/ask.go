package hostname

import (
	"fmt"
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
)

// Of returns the hostnames that generators give to a service, sorted, whoever else has them (contract dns.md §1.7). Zone is
// the `.Zone` of a service that says nothing about its own. It fails when one of the generators does.
func Of(service *resource.Resource, generators []*resource.Resource, zone string) ([]string, error) {
	of := kindOf(service.Kind)
	if of == nil {
		return nil, fmt.Errorf("%s has no hostnames", service.Kind)
	}
	var out []string
	for _, g := range generators {
		spec := resource.SpecOf[*resource.HostnameGenerator](g)
		sel := of.selector(&spec.Selector)
		if sel == nil || !matches(service.Labels, sel.MatchLabels) {
			continue
		}
		t, err := compile(spec.Template)
		if err != nil {
			return nil, fmt.Errorf("HostnameGenerator %s: %w", g.Name, err)
		}
		host, err := evaluate(t, service, zone)
		if err != nil {
			return nil, fmt.Errorf("HostnameGenerator %s: %w", g.Name, err)
		}
		out = append(out, host)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func kindOf(kind resource.Kind) *serviceKind {
	for _, k := range []*serviceKind{external(), meshService(), multiZone()} {
		if k.kind == kind {
			return k
		}
	}
	return nil
}
