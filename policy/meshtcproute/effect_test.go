package meshtcproute_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/meshtcproute"
	"github.com/kuma-dp/kuma-dp/resource"
)

func own(protocol string) *effect.Target {
	return &effect.Target{
		Cluster: "own", Protocol: protocol,
		Service: resource.Key{Kind: resource.KindMeshService, Mesh: "m", Name: "s"}, Port: resource.ServicePort{Port: 80, AppProtocol: protocol},
	}
}

func known(ref policy.BackendRef, _ *resource.Resource) (*effect.Target, bool) {
	switch {
	case !ref.Real():
		return &effect.Target{Cluster: "t-" + ref.Name, Tags: map[string]string{resource.TagService: ref.Name}}, true
	case ref.Name == "nolabels":
		return nil, false
	case ref.Name == "nobody":
		return nil, true
	case ref.Name == "raw":
		return &effect.Target{Cluster: "c-raw"}, true
	}
	return &effect.Target{Cluster: "c-" + ref.Name, Protocol: effect.HTTP}, true
}

// TestRouteOutbound is contract effects-routing.md §4: connections with their weights, then what needs a cluster.
func TestRouteOutbound(t *testing.T) {
	requests := &effect.Routing{Targets: []*effect.Target{{Cluster: "of-requests"}}, Closed: true}
	ref := func(name string) string { return "{kind: MeshService, name: " + name + ", port: 80}" }
	for _, tt := range []struct {
		name, protocol, refs string
		requests             *effect.Routing
		want                 string
	}{
		{"no rule", effect.TCP, "", nil, "nothing"},
		{"no rule, requests", effect.HTTP, "", requests, "requests"},
		{"no rule, requests on another port", effect.TCP, "", requests, "own 1; of-requests own"},
		{"no rule, requests on a port that says nothing", "", "", requests, "; of-requests"},
		{"one", effect.TCP, ref("a"), nil, "c-a 1; c-a"},
		{"two", effect.Kafka, ref("a") + ", {kind: MeshService, name: b, port: 80, weight: 9}", nil, "c-a 1 c-b 9; c-a c-b"},
		{"a port that says nothing", "", ref("a"), nil, "c-a 1; c-a"},
		{"on requests", effect.HTTP, ref("a"), nil, "c-a 1; own c-a"},
		{"on requests with a rule", effect.HTTP, ref("a"), requests, "requests"},
		{"no weight", effect.TCP, "{kind: MeshService, name: a, port: 80, weight: 0}", nil, "; "},
		{"nobody", effect.TCP, ref("nobody"), nil, "; "},
		{"no protocol", effect.TCP, ref("raw"), nil, "; "},
		{"no labels", effect.TCP, ref("nolabels"), nil, "closed"},
		{"no labels, on requests", effect.HTTP, ref("nolabels"), nil, "nothing"},
		{"no labels, requests on another port", effect.TCP, ref("nolabels"), requests, "requests"},
		{"no labels, and nobody", effect.TCP, ref("nolabels") + ", " + ref("nobody"), nil, "; "},
		{"several zones without a port", effect.TCP, "{kind: MeshMultiZoneService, name: nobody}", nil, "; "},
		{"by tags, unknown", effect.TCP, "{kind: MeshService, name: x}", nil, "t-x 1; t-x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &policy.Rules{}
			target := own(tt.protocol)
			if tt.refs != "" {
				p, err := resource.NewRegistry(meshtcproute.Kind().Descriptor).DecodeYAML(
					[]byte("{type: MeshTCPRoute, mesh: m, name: r, spec: {to: [{targetRef: {kind: MeshService, name: s}, rules: [{default: {backendRefs: [" + tt.refs + "]}}]}]}}"))
				if err != nil {
					t.Fatal(err)
				}
				conf := p.Spec.(*meshtcproute.Spec).ToItems()[0].Conf
				r.ToResources = []policy.ResourceRule{{Target: target.Service, Conf: []any{conf}, Origin: []policy.RuleOrigin{{Policy: p}}}}
			}
			if got := text(meshtcproute.RouteOutbound(target, r, tt.requests, known), requests); got != tt.want {
				t.Errorf("routing is %q, want %q", got, tt.want)
			}
		})
	}
}

func text(r, requests *effect.Routing) string {
	switch {
	case r == nil:
		return "nothing"
	case r == requests:
		return "requests"
	case r.Closed:
		return "closed"
	}
	var shares, targets []string
	for _, s := range r.Connections {
		shares = append(shares, fmt.Sprint(s.Target.Cluster, " ", s.Weight))
	}
	for _, target := range r.Targets {
		targets = append(targets, target.Cluster)
	}
	return strings.Join(shares, " ") + "; " + strings.Join(targets, " ")
}
