package xds

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/resource"
)

// capturedNode is the node of a kuma-dp 2.9.13 (contract appendix_xds.json), shortened.
const capturedNode = `{"id":"default.frontend-1","cluster":"frontend","metadata":{"ipv6Enabled":false,` +
	`"dataplane.admin.port":"9933","dataplane.admin.address":"127.0.0.1","dataplane.dns.port":"15054",` +
	`"dataplane.readinessReporter.port":"9902","version":{"kumaDp":{"version":"2.9.13","buildDate":"unknown"},` +
	`"envoy":{"version":"1.40.0","build":"a/b","kumaDpCompatible":true}},"workdir":"/tmp/x",` +
	`"features":["feature-tcp-accesslog-via-named-pipe"],"dataplane.proxyType":"dataplane",` +
	`"dataplane.appProbeProxy.enabled":"true","dynamicMetadata":{"version.dependencies.coredns":"1.11"},` +
	`"dataplane.resource":"{}"}}`

func TestParseMeta(t *testing.T) {
	node := &corev3.Node{}
	if err := protojson.Unmarshal([]byte(capturedNode), node); err != nil {
		t.Fatal(err)
	}
	got, err := ParseMeta(node)
	if err != nil {
		t.Fatal(err)
	}
	want := Meta{
		AdminAddress: "127.0.0.1", AdminPort: 9933, DNSPort: 15054, ReadinessPort: 9902, WorkDir: "/tmp/x",
		Features: []string{"feature-tcp-accesslog-via-named-pipe"}, AppProbeProxy: true, ProxyType: "dataplane", Resource: "{}",
		Version: &resource.ProxyVersion{
			KumaDp:       &resource.AgentVersion{Version: "2.9.13", BuildDate: "unknown"},
			Envoy:        &resource.EnvoyVersion{Version: "1.40.0", Build: "a/b", KumaDpCompatible: true},
			Dependencies: map[string]string{"coredns": "1.11"},
		},
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("metadata differs (-want +got):\n%s", diff)
	}
}

func TestParseMetaRefusesPorts(t *testing.T) {
	for _, port := range []string{`"70000"`, `"-1"`, `1.5`, `"x"`, `[]`, `1e9`} {
		node := &corev3.Node{}
		if err := protojson.Unmarshal([]byte(`{"metadata":{"dataplane.dns.port":`+port+`}}`), node); err != nil {
			t.Fatal(err)
		}
		if m, err := ParseMeta(node); err == nil {
			t.Errorf("port %s is taken for %d", port, m.DNSPort)
		}
	}
}

func FuzzParseMeta(f *testing.F) {
	f.Add(capturedNode)
	f.Add(`{"id":".ingress","metadata":{"features":[1,null],"version":{"kumaDp":[]},"dataplane.dns.port":53}}`)
	f.Fuzz(func(t *testing.T, body string) {
		node := &corev3.Node{}
		if protojson.Unmarshal([]byte(body), node) != nil {
			return
		}
		m, err := ParseMeta(node)
		if err == nil && (m.DNSPort > 65535 || m.AdminPort > 65535 || m.ReadinessPort > 65535) {
			t.Errorf("port out of range in %+v", m)
		}
		if id, err := parseNodeID(node.Id); err == nil && id.Mesh+"."+id.Name != node.Id {
			t.Errorf("node id %q became %v", node.Id, id)
		}
	})
}

func TestParseNodeID(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want topology.ProxyID
		ok   bool
	}{
		{"default.web-1", topology.ProxyID{Mesh: "default", Name: "web-1"}, true},
		{"default.web.ns", topology.ProxyID{Mesh: "default", Name: "web.ns"}, true},
		{".ingress", topology.ProxyID{Name: "ingress"}, true},
		{"", topology.ProxyID{}, false},
		{"web", topology.ProxyID{}, false},
		{"default.", topology.ProxyID{}, false},
	} {
		got, err := parseNodeID(tt.in)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("parseNodeID(%q) = %v, %v", tt.in, got, err)
		}
	}
}

func TestCompatible(t *testing.T) {
	for _, tt := range []struct {
		agent, cp string
		want      bool
	}{
		{"2.9.1", "2.9.13+kdp.0.1.0", true},
		{"2.7.0", "2.9.13", true},
		{"2.6.0", "2.9.13", false},
		{"2.12.0", "2.9.13", false},
		{"1.9.0", "2.9.13", false},
		{"unknown", "2.9.13", true},
		{"0.0.0-preview.1", "2.9.13", true},
	} {
		if got := compatible(tt.agent, tt.cp); got != tt.want {
			t.Errorf("compatible(%s, %s) = %v", tt.agent, tt.cp, got)
		}
	}
}
