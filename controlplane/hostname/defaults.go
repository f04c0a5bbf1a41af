package hostname

import "github.com/kuma-dp/kuma-dp/resource"

// Defaults returns the generators that a universal zone creates at start-up when they are absent (contract dns.md §1.4).
// The caller may change them.
func Defaults() []*resource.Resource {
	local := func(name, template string, sel resource.GeneratorSelector) *resource.Resource {
		return &resource.Resource{
			Meta: resource.Meta{
				Key:    resource.Key{Kind: resource.KindHostnameGenerator, Name: name},
				Labels: map[string]string{resource.LabelOrigin: resource.OriginZone},
			},
			Spec: &resource.HostnameGenerator{Selector: sel, Template: template},
		}
	}
	zone := func() *resource.LabelSelector {
		return &resource.LabelSelector{MatchLabels: map[string]string{resource.LabelOrigin: resource.OriginZone}}
	}
	return []*resource.Resource{
		local("local-mesh-external-service", "{{ .DisplayName }}.extsvc.mesh.local", resource.GeneratorSelector{MeshExternalService: zone()}),
		local("local-universal-mesh-service", "{{ .DisplayName }}.svc.mesh.local", resource.GeneratorSelector{MeshService: zone()}),
	}
}
