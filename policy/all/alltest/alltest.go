// Package alltest draws meshes and policies of every kind for property tests. Names are few, so that what is drawn meets.
package alltest

import (
	"fmt"
	"sync"

	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Zone is the zone that everything is in, Mesh the mesh.
const (
	Zone = "zone-a"
	Mesh = "m"
)

// Egress is the ZoneEgress of World.
const Egress = "egress"

// Proxies are those of World: two http servers, one tcp server, and a delegated gateway.
func Proxies() []string { return []string{"edge-1", "store-1", "web-1", "web-2"} }

// Modes are the values of meshServices.mode.
func Modes() []string {
	return []string{
		resource.MeshServicesExclusive, resource.MeshServicesEverywhere, resource.MeshServicesReachableBackends, resource.MeshServicesDisabled,
	}
}

func pick(t *rapid.T, label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }

// MeshIn draws the Mesh in a mode, of all when it is "".
func MeshIn(t *rapid.T, mode string) *resource.Resource {
	if mode == "" {
		mode = pick(t, "mode", Modes()...)
	}
	mtls := pick(t, "mtls", "", "", "mtls: {enabledBackend: ca, backends: [{name: ca, type: builtin}]}", "mtls: {enabledBackend: ca, backends: [{name: ca, type: builtin, mode: PERMISSIVE}]}")
	return decode(t, fmt.Sprintf("type: Mesh\nname: m\nmeshServices: {mode: %s}\n%s\nnetworking: {outbound: {passthrough: %t}}\nrouting: {zoneEgress: %t}\n%s",
		mode, mtls, rapid.Bool().Draw(t, "passthrough"), mtls != "" && rapid.Bool().Draw(t, "through the egress"), olderBackends))
}

// World draws what is in the mesh but policies.
func World(t *rapid.T) []*resource.Resource {
	out := []*resource.Resource{vips(t)}
	for _, name := range Proxies() {
		out = append(out, proxy(t, name))
	}
	for _, name := range []string{"web", "store"} {
		out = append(out, service(t, name))
	}
	return append(out, external(t), decode(t, `
type: MeshMultiZoneService
mesh: m
name: both
spec: {selector: {meshService: {matchLabels: {tier: gold}}}, ports: [{port: 80, appProtocol: http}]}
status: {vips: [{ip: 243.0.0.1}]}
`), decode(t, `
type: ZoneEgress
name: egress
networking: {address: 10.0.1.1, port: 10002}
`))
}

func external(t *rapid.T) *resource.Resource {
	return decode(t, fmt.Sprintf(`
type: MeshExternalService
mesh: m
name: outside
labels: {tier: %s}
spec: {match: {type: HostnameGenerator, port: 80, protocol: %s}, endpoints: [{address: 192.0.2.9, port: 8080}]}
status: {vip: {ip: 242.0.0.1}}
`, pick(t, "tier outside", "gold", "tin"), pick(t, "protocol outside", "http", "tcp")))
}

// More draws one resource of the mesh that is no policy, in place of another one or new.
func More(t *rapid.T) *resource.Resource {
	switch pick(t, "what", "proxy", "service", "mesh", "vips", "outside", "external") {
	case "proxy":
		return proxy(t, pick(t, "proxy", append(Proxies(), "web-3")...))
	case "service":
		return service(t, pick(t, "service", "web", "store", "late"))
	case "mesh":
		return MeshIn(t, "")
	case "vips":
		return vips(t)
	case "outside":
		return external(t)
	}
	return decode(t, fmt.Sprintf(`
type: ExternalService
mesh: m
name: out
tags: {kuma.io/service: %s, kuma.io/protocol: http}
networking: {address: "192.0.2.%d:80"}
`, pick(t, "outside", "out", "store"), rapid.IntRange(1, 2).Draw(t, "address")))
}

func proxy(t *rapid.T, name string) *resource.Resource {
	host := map[string]int{"web-1": 1, "web-2": 2, "web-3": 3, "store-1": 4, "edge-1": 5}[name]
	team := pick(t, "team", "a", "b")
	ports := fmt.Sprintf("inbound: [{port: 8080, tags: {kuma.io/service: web, kuma.io/protocol: http, team: %s}}]", team)
	switch name {
	case "store-1":
		ports = fmt.Sprintf("inbound: [{port: 9000, tags: {kuma.io/service: store, kuma.io/protocol: tcp, team: %s}}, {port: 9001, name: admin, tags: {kuma.io/service: store-admin, kuma.io/protocol: grpc}}]", team)
	case "edge-1":
		ports = fmt.Sprintf("gateway: {tags: {kuma.io/service: edge, team: %s}}", team)
	}
	reach := pick(t, "reach", "", "", ", reachableBackends: {refs: [{kind: MeshService, name: web}]}", ", reachableServices: [store]", ", directAccessServices: [store]")
	return decode(t, fmt.Sprintf(`
type: Dataplane
mesh: m
name: %s
labels: {k8s.kuma.io/namespace: %s}
networking:
  address: 10.0.0.%d
  %s
  transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001%s}
`, name, pick(t, "namespace", "ns", "other"), host, ports, reach))
}

func service(t *rapid.T, name string) *resource.Resource {
	n := map[string]int{"web": 1, "store": 2, "late": 3}[name]
	protocol := map[string]string{"web": "http", "store": "tcp"}[name]
	if protocol == "" {
		protocol = pick(t, "protocol", "http", "tcp", "grpc")
	}
	return decode(t, fmt.Sprintf(`
type: MeshService
mesh: m
name: %[1]s
labels: {tier: %[2]s, k8s.kuma.io/namespace: ns}
spec:
  selector: {dataplaneTags: {kuma.io/service: %[1]s}}
  ports: [{name: main, port: 80, targetPort: %[3]d, appProtocol: %[4]s}, {port: 81, targetPort: 9001, appProtocol: grpc}]
  identities: [{type: ServiceTag, value: %[1]s}]
status:
  vips: [{ip: 241.0.0.%[5]d}]
  addresses: [{hostname: %[1]s.mesh.local}]
  tls: {status: %[6]s}
`, name, pick(t, "tier", "gold", "tin"), map[string]int{"web": 8080, "store": 9000, "late": 8080}[name], protocol, n, pick(t, "tls", "Ready", "NotReady")))
}

// vips are the addresses of kuma.io/service values.
func vips(t *rapid.T) *resource.Resource {
	v := resource.ServiceVIPs{}
	for i, name := range []string{"web", "store", "store-admin", "edge"} {
		if i < 2 || rapid.Bool().Draw(t, "address of "+name) {
			v[resource.ServiceVIPKey(name)] = resource.ServiceVIP{
				Address: fmt.Sprintf("240.0.0.%d", i+1), Outbounds: []resource.ServiceVIPPort{{Port: 80}},
			}
		}
	}
	c, err := v.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindConfig, Name: resource.ServiceVIPsName(Mesh)}}, Spec: c}
}

// decode reads what a test of this repository has written as a control plane in Zone would.
func decode(t rapid.TB, document string) *resource.Resource {
	t.Helper()
	r, faults, err := read(document)
	if err != nil || len(faults) > 0 {
		t.Fatalf("%v %v in %s", err, faults, document)
	}
	return r
}

var registry = sync.OnceValue(func() *resource.Registry { return resource.NewRegistry(all.Descriptors()...) })

func read(document string) (*resource.Resource, []resource.Violation, error) {
	r, err := registry().DecodeYAML([]byte(document))
	if err != nil {
		return nil, nil, err
	}
	info := resource.ZoneInfo{Zone: Zone}
	resource.ComputeLabels(r, info)
	resource.SetDefaults(r, info)
	return r, resource.Validate(r), nil
}
