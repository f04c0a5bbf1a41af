package topology

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
)

// TestIdentitiesFollowTheSelector: whoever is told of an endpoint is told at the same time which identity it has.
func TestIdentitiesFollowTheSelector(t *testing.T) {
	synctest.Test(t, identitiesFollowTheSelector)
}

func identitiesFollowTheSelector(t *testing.T) {
	service := func(version, identities string) string {
		return `{type: MeshService, mesh: m, name: front, labels: {all: "yes"}, spec: {selector: {dataplaneTags: {version: ` + version + `}}, ports: [{port: 80, targetPort: 8080}], identities: [` + identities + `]}}`
	}
	const proxies = `
{type: Mesh, name: m}
---
{type: MeshMultiZoneService, mesh: m, name: all, spec: {selector: {meshService: {matchLabels: {all: "yes"}}}, ports: [{port: 80}]}}
---
{type: Dataplane, mesh: m, name: blue-1, networking: {address: 10.0.0.1, inbound: [{port: 8080, tags: {kuma.io/service: blue, version: blue}}]}}
---
{type: Dataplane, mesh: m, name: green-1, networking: {address: 10.0.0.2, inbound: [{port: 8080, tags: {kuma.io/service: green, version: green}}]}}
`
	const blue, green = "{type: ServiceTag, value: blue}", "{type: ServiceTag, value: green}"
	s := memory.Open(registry())
	defer s.Close()
	for _, r := range yaml(t, proxies) {
		put1(t, s, r)
	}
	tr, stop := start(t, s)
	defer stop()
	for _, step := range []struct {
		name, service string
		pause         time.Duration
		address       string
		want          []string
	}{
		{"nothing stored", service("blue", ""), 0, "10.0.0.1", []string{"blue"}},
		{"stored", service("blue", blue), 0, "10.0.0.1", []string{"blue"}},
		{"moved", service("green", blue), 0, "10.0.0.2", []string{"blue", "green"}},
		{"stored after that", service("green", green), 0, "10.0.0.2", []string{"blue", "green"}},
		{"long after that", service("green", green), identityLinger, "10.0.0.2", []string{"green"}},
		{"moved back", service("blue", green), 0, "10.0.0.1", []string{"blue", "green"}},
		{"all proxies gone", service("none", ""), 0, "", []string{"blue", "green"}},
		{"long gone", service("none", ""), identityLinger, "", nil},
	} {
		put1(t, s, yaml(t, step.service)[0])
		<-time.After(step.pause)
		synctest.Wait()
		m := tr.Current().Meshes["m"]
		for _, svc := range []*Service{m.Service("front"), m.MultiZoneService("all")} {
			var got []string
			for _, id := range svc.Spec.Identities {
				got = append(got, id.Value)
			}
			if a := addresses(svc); !slices.Equal(got, step.want) || strings.Join(a, " ") != step.address {
				t.Errorf("%s: %s has identities %v and endpoints %v", step.name, svc.Name, got, a)
			}
		}
	}
}
