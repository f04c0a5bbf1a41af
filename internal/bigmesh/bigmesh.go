// Package bigmesh writes a mesh of many services and of policies of every kind, for benchmarks and what is to hold at size.
package bigmesh

import (
	"fmt"
	"strings"
)

// Client is the proxy that reaches all services; the policies of Policies all apply to it. Mesh is where it lives.
const (
	Client = "client"
	Mesh   = "default"
)

// Size of a mesh.
type Size struct {
	// Zone is that of the control plane.
	Zone string
	// Services are called s-0 and so on; each is served by Replicas proxies s-0-0 and so on.
	Services, Replicas int
	// Reach is how many services the proxies of a service reach, the next ones; all when 0.
	Reach int
}

// Documents are the Mesh, the proxies, and the services with their addresses.
func Documents(size Size) []string {
	out := []string{`
type: Mesh
name: default
meshServices: {mode: Exclusive}
mtls: {enabledBackend: ca, backends: [{name: ca, type: builtin}]}
`, proxy(Client, "10.0.0.1", "client", "http", "")}
	for n := range size.Services {
		out = append(out, fmt.Sprintf(`
type: MeshService
mesh: default
name: s-%[1]d
labels: {k8s.kuma.io/namespace: shop, kuma.io/display-name: s-%[1]d, team: t-%[2]d}
spec:
  selector: {dataplaneTags: {kuma.io/service: s-%[1]d}}
  ports: [{name: main, port: 80, targetPort: 8080, appProtocol: %[3]s}]
  identities: [{type: ServiceTag, value: s-%[1]d}]
status:
  vips: [{ip: 241.0.%[4]d.%[5]d}]
  addresses: [{hostname: s-%[1]d.shop.svc.mesh.local, origin: HostnameGenerator}]
  tls: {status: Ready}
`, n, n%20, protocol(n), n/250, n%250+1))
		var refs []string
		for k := range size.Reach {
			refs = append(refs, fmt.Sprintf("{kind: MeshService, name: s-%d}", (n+k)%size.Services))
		}
		reach := ""
		if len(refs) > 0 {
			reach = ", reachableBackends: {refs: [" + strings.Join(refs, ", ") + "]}"
		}
		for k := range size.Replicas {
			out = append(out, proxy(fmt.Sprintf("s-%d-%d", n, k), fmt.Sprintf("10.%d.%d.%d", 1+k, n/250, n%250+1), fmt.Sprintf("s-%d", n), protocol(n), reach))
		}
	}
	return out
}

// protocol is TCP for every fifth service.
func protocol(n int) string {
	if n%5 == 4 {
		return "tcp"
	}
	return "http"
}

func proxy(name, address, service, protocol, reach string) string {
	return fmt.Sprintf(`
type: Dataplane
mesh: default
name: %s
labels: {k8s.kuma.io/namespace: shop}
networking:
  address: %s
  inbound: [{port: 8080, tags: {kuma.io/service: %s, kuma.io/protocol: %s, team: t-1}}]
  transparentProxying: {redirectPortInbound: 15006, redirectPortOutbound: 15001%s}
`, name, address, service, protocol, reach)
}
