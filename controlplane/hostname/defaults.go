package hostname

import (
	"maps"

	"github.com/kuma-dp/kuma-dp/resource"
)

// Modes of a control plane.
const (
	ModeZone   = "zone"
	ModeGlobal = "global"
)

// Defaults returns the generators that a control plane creates at start-up when they are absent, by its mode and what its
// zone runs on, resource.EnvUniversal or EnvKubernetes (contract dns.md §1.4). Those of a global one name what zones
// synchronise to each other. On Kubernetes a MeshService of the zone has the name that the cluster gives it. The caller may
// change them.
func Defaults(mode, environment string) []*resource.Resource {
	if mode == ModeGlobal {
		return globalDefaults()
	}
	zone := map[string]string{resource.LabelOrigin: resource.OriginZone}
	out := []*resource.Resource{
		generatorOf("local-mesh-external-service", "{{ .DisplayName }}.extsvc.mesh.local", resource.GeneratorSelector{MeshExternalService: matching(zone)}),
	}
	if environment != resource.EnvKubernetes {
		out = append(out, generatorOf("local-universal-mesh-service", "{{ .DisplayName }}.svc.mesh.local", resource.GeneratorSelector{MeshService: matching(zone)}))
	}
	for _, r := range out {
		r.Labels = map[string]string{resource.LabelOrigin: resource.OriginZone}
	}
	return out
}

func globalDefaults() []*resource.Resource {
	// synced selects what came from another zone and has these labels too.
	synced := func(labels map[string]string) *resource.LabelSelector {
		all := map[string]string{resource.LabelOrigin: resource.OriginGlobal}
		maps.Copy(all, labels)
		return matching(all)
	}
	const headless = "k8s.kuma.io/is-headless-service"
	kube := func(isHeadless string) map[string]string {
		return map[string]string{headless: isHeadless, resource.LabelEnv: resource.EnvKubernetes}
	}
	return []*resource.Resource{
		generatorOf("synced-mesh-multi-zone-service", "{{ .DisplayName }}.mzsvc.mesh.local", resource.GeneratorSelector{MeshMultiZoneService: synced(nil)}),
		generatorOf("synced-kube-mesh-service", "{{ .DisplayName }}.{{ .Namespace }}.svc.{{ .Zone }}.mesh.local",
			resource.GeneratorSelector{MeshService: synced(kube("false"))}),
		generatorOf("synced-headless-kube-mesh-service",
			`{{ label "statefulset.kubernetes.io/pod-name" }}.{{ label "k8s.kuma.io/service-name" }}.{{ .Namespace }}.svc.{{ .Zone }}.mesh.local`,
			resource.GeneratorSelector{MeshService: synced(kube("true"))}),
		generatorOf("synced-universal-mesh-service", "{{ .DisplayName }}.svc.{{ .Zone }}.mesh.local",
			resource.GeneratorSelector{MeshService: synced(map[string]string{resource.LabelEnv: resource.EnvUniversal})}),
		generatorOf("synced-mesh-external-service", "{{ .DisplayName }}.extsvc.mesh.local", resource.GeneratorSelector{MeshExternalService: synced(nil)}),
	}
}

func generatorOf(name, template string, selector resource.GeneratorSelector) *resource.Resource {
	return &resource.Resource{
		Meta: resource.Meta{Key: resource.Key{Kind: resource.KindHostnameGenerator, Name: name}},
		Spec: &resource.HostnameGenerator{Selector: selector, Template: template},
	}
}

func matching(labels map[string]string) *resource.LabelSelector {
	return &resource.LabelSelector{MatchLabels: labels}
}
