package resource_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/resource"
)

// Bodies captured from Kuma 2.9.13 (contract controlplane.md appendix A and the exchange of contract zones.md), byte for
// byte but for shortened identifiers.
var capturedZones = []struct{ name, universal, kubernetes string }{
	{
		name: "multi zone service",
		universal: `{"type":"MeshMultiZoneService","mesh":"default","name":"backend-mz","creationTime":"2026-11-23T02:02:49.35045498Z","modificationTime":"2026-11-23T02:02:52.526130264Z",` +
			`"labels":{"kuma.io/env":"universal","kuma.io/mesh":"default","kuma.io/origin":"zone","kuma.io/zone":"zone-1"},` + multiZoneBody,
		kubernetes: `{"kind":"MeshMultiZoneService","apiVersion":"kuma.io/v1alpha1","metadata":{"name":"backend-mz","namespace":"kuma-system","creationTimestamp":"2026-11-23T02:02:49Z","labels":{"kuma.io/mesh":"default"}},` + multiZoneBody,
	},
	{
		name: "external service",
		universal: `{"type":"MeshExternalService","mesh":"default","name":"ext","creationTime":"2026-11-23T02:02:49.353051785Z","modificationTime":"2026-11-23T02:02:49.738602888Z",` +
			`"labels":{"kuma.io/env":"universal","kuma.io/mesh":"default","kuma.io/origin":"zone","kuma.io/zone":"zone-1"},` +
			`"spec":{"match":{"type":"HostnameGenerator","port":443,"protocol":"tcp"},"endpoints":[{"address":"127.0.0.1","port":9443}]},` +
			`"status":{"vip":{"ip":"242.0.0.0"},"addresses":[{"hostname":"ext.extsvc.mesh.local","origin":"HostnameGenerator","hostnameGeneratorRef":{"coreName":"local-mesh-external-service"}}],` +
			`"hostnameGenerators":[{"hostnameGeneratorRef":{"coreName":"local-mesh-external-service"},"conditions":[{"type":"Generated","status":"True","reason":"Generated","message":""}]}]}}`,
	},
	{
		name: "ingress of another zone",
		universal: `{"type":"ZoneIngress","name":"zi-2-xzb925527zxb4w4v","labels":{"kuma.io/display-name":"zi-2","kuma.io/origin":"global","kuma.io/zone":"zone-2"},` +
			`"zone":"zone-2","networking":{"address":"192.168.240.22","advertisedAddress":"192.168.240.22","port":10001,"advertisedPort":10001,"admin":{"port":9901}}}`,
	},
	{
		name:       "egress",
		universal:  `{"type":"ZoneEgress","name":"ze-1","networking":{"address":"10.77.0.1","port":10002,"admin":{"port":9942}}}`,
		kubernetes: `{"kind":"ZoneEgress","apiVersion":"kuma.io/v1alpha1","metadata":{"name":"ze-1","namespace":"kuma-system"},"spec":{"networking":{"address":"10.77.0.1","port":10002,"admin":{"port":9942}}}}`,
	},
	{
		name: "egress insight",
		universal: `{"type":"ZoneEgressInsight","name":"ze-1","subscriptions":[{"id":"2890","controlPlaneInstanceId":"vm-5a8d","connectTime":"2026-11-23T02:01:52.791871278Z",` +
			`"status":{"lastUpdateTime":"2026-11-23T02:02:49.839339775Z","total":{"responsesSent":"5","responsesAcknowledged":"5"},"cds":{"responsesSent":"2","responsesAcknowledged":"2"},"eds":{},"lds":{"responsesSent":"2","responsesAcknowledged":"2"},"rds":{}}}]}`,
	},
	{
		name: "mesh insight",
		universal: `{"type":"MeshInsight","name":"default","creationTime":"2026-11-23T01:59:51.455199072Z","modificationTime":"2026-11-23T02:02:49.455779559Z",` +
			`"dataplanes":{"total":2,"online":2},"policies":{"MeshCircuitBreaker":{"total":1},"MeshTimeout":{"total":2}},` +
			`"dpVersions":{"kumaDp":{"unknown":{"total":2,"online":2}},"envoy":{"1.40.0":{"total":2,"online":2}}},` +
			`"mTLS":{"issuedBackends":{"ca-1":{"total":2,"online":2}},"supportedBackends":{"ca-1":{"total":2,"online":2}}},"services":{"total":2,"internal":2},` +
			`"dataplanesByType":{"standard":{"total":2,"online":2},"gateway":{},"gatewayBuiltin":{},"gatewayDelegated":{}},"resources":{"Dataplane":{"total":2},"MeshService":{"total":2}}}`,
	},
	{
		name: "service insight as shown",
		universal: `{"type":"ServiceInsight","mesh":"default","name":"backend","creationTime":"2026-11-23T02:01:04.454937348Z","modificationTime":"2026-11-23T02:02:04.455633725Z",` +
			`"status":"online","dataplanes":{"total":1,"online":1},"issuedBackends":{"ca-1":1},"addressPort":"backend.mesh:80","zones":["zone-1"]}`,
	},
	{name: "service insight as stored", universal: `{"type":"ServiceInsight","mesh":"default","name":"all-services-default","services":{"backend":{"status":"online","zones":["zone-1"]}}}`},
	{
		name: "zone insight",
		universal: `{"type":"ZoneInsight","name":"zone-1","subscriptions":[{"id":"1","globalInstanceId":"g","connectTime":"2026-01-01T00:00:00Z",` +
			`"status":{"total":{"responsesSent":"1"},"stat":{"Mesh":{"responsesSent":"1"}}},"version":{"kumaCp":{"version":"2.9.13"}},"zoneInstanceId":"z","generation":1}],` +
			`"envoyAdminStreams":{"configDumpGlobalInstanceId":"g"},"healthCheck":{"time":"2026-01-01T00:00:00Z"}}`,
	},
}

const multiZoneBody = `"spec":{"selector":{"meshService":{"matchLabels":{"kuma.io/display-name":"backend"}}},"ports":[{"port":8080,"appProtocol":"http"}]},` +
	`"status":{"addresses":[{"hostname":"backend-mz.mzsvc.mesh.local","origin":"HostnameGenerator","hostnameGeneratorRef":{"coreName":"mz"}}],"vips":[{"ip":"243.0.0.0"}],` +
	`"meshServices":[{"name":"backend","namespace":"","zone":"","mesh":"default"}],"hostnameGenerators":[{"hostnameGeneratorRef":{"coreName":"mz"},"conditions":[{"type":"Generated","status":"True","reason":"Generated","message":""}]}]}}`

// TestCoreKinds holds the facts of `/_resources` that follow from each kind.
func TestCoreKinds(t *testing.T) {
	type facts struct {
		Path, Singular, Plural                          string
		Scope                                           resource.Scope
		ReadOnly, Volatile, Flat, Federation, Creatable bool
	}
	insight := func(path, name string, scope resource.Scope) facts {
		return facts{Path: path, Singular: name, Plural: name + "s", Scope: scope, ReadOnly: true, Volatile: true, Flat: true}
	}
	reg := registry()
	for kind, want := range map[resource.Kind]facts{
		resource.KindMeshMultiZoneService: {Path: "meshmultizoneservices", Singular: "Mesh Multi Zone Service", Plural: "Mesh Multi Zone Services", Scope: resource.ScopeMesh, Federation: true, Creatable: true},
		resource.KindMeshExternalService:  {Path: "meshexternalservices", Singular: "Mesh External Service", Plural: "Mesh External Services", Scope: resource.ScopeMesh, Federation: true, Creatable: true},
		resource.KindZoneIngress:          {Path: "zone-ingresses", Singular: "Zone Ingress", Plural: "Zone Ingresses", Scope: resource.ScopeGlobal, Flat: true, Creatable: true},
		resource.KindZoneEgress:           {Path: "zoneegresses", Singular: "Zone Egress", Plural: "Zone Egresses", Scope: resource.ScopeGlobal, Flat: true, Creatable: true},
		resource.KindMeshGateway:          {Path: "meshgateways", Singular: "Mesh Gateway", Plural: "Mesh Gateways", Scope: resource.ScopeMesh, Flat: true, Federation: true, Creatable: true},
		resource.KindMeshGatewayRoute:     {Path: "meshgatewayroutes", Singular: "Mesh Gateway Route", Plural: "Mesh Gateway Routes", Scope: resource.ScopeMesh, Flat: true, Federation: true},
		resource.KindDataplaneInsight:     insight("dataplane-insights", "Dataplane Insight", resource.ScopeMesh),
		resource.KindMeshInsight:          insight("mesh-insights", "Mesh Insight", resource.ScopeGlobal),
		resource.KindServiceInsight:       insight("service-insights", "Service Insight", resource.ScopeMesh),
		resource.KindZoneInsight:          insight("zone-insights", "Zone Insight", resource.ScopeGlobal),
		resource.KindZoneIngressInsight:   insight("zone-ingress-insights", "Zone Ingress Insight", resource.ScopeGlobal),
		resource.KindZoneEgressInsight:    insight("zoneegressinsights", "Zone Egress Insight", resource.ScopeGlobal),
	} {
		d := reg.ByKind(kind)
		if d == nil || reg.ByPath(want.Path) != d {
			t.Errorf("%s is not registered under %s", kind, want.Path)
			continue
		}
		got := facts{d.Path, d.Singular, d.Plural, d.Scope, d.ReadOnly, d.Volatile, d.Flat, d.InFederation, d.CreatableInZone}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", kind, diff)
		}
		if faults := d.NewSpec().Validate(&resource.Meta{}); d.ReadOnly && faults != nil {
			t.Errorf("%s: what the control plane writes is not valid: %v", kind, faults)
		}
	}
}

func TestMultiZoneValidation(t *testing.T) {
	checkAll(t, []validation{
		{
			"nothing", "{type: MeshMultiZoneService, mesh: m, name: s, spec: {selector: {meshService: {matchLabels: {}}}}}",
			[]string{"spec.selector.meshService.matchLabels: cannot be empty", "spec.ports: cannot be empty"},
		},
		{"least", "{type: MeshMultiZoneService, mesh: m, name: s, spec: {selector: {meshService: {matchLabels: {a: b}}}, ports: [{port: 80}]}}", nil},
		{
			"ports", "{type: MeshMultiZoneService, mesh: m, name: s, spec: {selector: {meshService: {matchLabels: {a: b}}}, ports: [{port: 0}, {port: 80}, {name: '80', port: 70000}]}}",
			[]string{"spec.ports[0].port: " + portRange, "spec.ports[2].port: " + portRange, "spec.ports[2].name: must be unique"},
		},
		{"long name", "{type: MeshMultiZoneService, mesh: m, name: " + strings.Repeat("a", 64) + ", spec: {selector: {meshService: {matchLabels: {a: b}}}, ports: [{port: 80}]}}", nil},
	})
}

func TestMultiZoneMatches(t *testing.T) {
	for _, tt := range []struct {
		name         string
		want, labels map[string]string
		matches      bool
	}{
		{"all labels", map[string]string{"a": "b"}, map[string]string{"a": "b", "c": "d"}, true},
		{"one is missing", map[string]string{"a": "b", "e": ""}, map[string]string{"a": "b"}, false},
		{"another value", map[string]string{"a": "b"}, map[string]string{"a": "c"}, false},
		{"nothing wanted", nil, map[string]string{"a": "b"}, false},
	} {
		s := resource.MultiZoneSelector{MeshService: resource.LabelSelector{MatchLabels: tt.want}}
		if got := s.Matches(tt.labels); got != tt.matches {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
}

func TestExternalValidation(t *testing.T) {
	external := func(name, spec string) string {
		return "{type: MeshExternalService, mesh: m, name: " + name + ", spec: {" + spec + "}}"
	}
	const match = "match: {type: HostnameGenerator, port: 443, protocol: http}"
	checkAll(t, []validation{
		{"good", external("e", match+`, endpoints: [{address: example.com, port: 443}, {address: "::1", port: 1}], extension: {type: x},
			tls: {enabled: true, version: {min: TLS12, max: TLS13}, verification: {mode: Secured, serverName: example.com,
			subjectAltNames: [{type: Prefix, value: a}], caCert: {inline: YQ==}, clientCert: {secret: a}, clientKey: {inlineString: b}}}`), nil},
		{
			"captured: schema first", external("e", `match: {type: HostnameGenerator, port: 0, protocol: foo}, endpoints: [{address: a b, port: 1}], tls: {enabled: true, verification: {clientCert: {secret: a}}}`),
			[]string{"spec.match.port: in body should be greater than or equal to 1", "spec.match.protocol: in body should be one of [tcp grpc http http2]"},
		},
		{
			"captured: no default", external("e", "match: {port: 443}, endpoints: [{address: example.com, port: 443}], tls: {enabled: true}"),
			[]string{`spec.match.protocol: "protocol" must be one of ["tcp", "grpc", "http", "http2"]`},
		},
		{"enumerations", external("e", `match: {port: 70000, protocol: tcp}, tls: {version: {min: SSL3, max: TLS9}, verification: {mode: Skip, subjectAltNames: [{type: Suffix}]}}`), []string{
			"spec.match.port: in body should be less than or equal to 65535",
			"spec.tls.version.min: in body should be one of [TLSAuto TLS10 TLS11 TLS12 TLS13]", "spec.tls.version.max: in body should be one of [TLSAuto TLS10 TLS11 TLS12 TLS13]",
			"spec.tls.verification.mode: in body should be one of [SkipSAN SkipCA Secured SkipAll]", "spec.tls.verification.subjectAltNames[0].type: in body should be one of [Exact Prefix]",
		}},
		{"faults", external(strings.Repeat("a", 64), `match: {type: Other, port: 1, protocol: tcp}, endpoints: [{address: a b, port: 0}], extension: {},
			tls: {version: {min: TLS13, max: TLS12}, verification: {serverName: "*.x", caCert: {}, clientCert: {secret: a}}}`), []string{
			"name: must not be longer than 63 characters",
			"spec.match.type: unrecognized type 'Other' - only 'HostnameGenerator' is supported", "spec.extension.type: must not be empty",
			"spec.endpoints[0].address: address has to be a valid IP or hostname", "spec.endpoints[0].port: port must be a valid (1-65535)",
			"spec.tls.version.min: min version must be lower than max", "spec.tls.verification.serverName: must be a valid DNS name",
			"spec.tls.verification.caCert: exactly one of secret, inline and inlineString must be defined",
			"spec.tls.verification.clientKey: must be defined when clientCert is defined",
		}},
		{
			"key without certificate", external("e", match+", tls: {version: {min: TLS13, max: TLSAuto}, verification: {clientKey: {secret: a}}}"),
			[]string{"spec.tls.verification.clientCert: must be defined when clientKey is defined"},
		},
	})
}

func TestZoneProxyValidation(t *testing.T) {
	checkAll(t, []validation{
		{"ingress", "{type: ZoneIngress, name: z, networking: {address: 10.0.0.1, advertisedAddress: example.com, port: 10001, advertisedPort: 20001, admin: {port: 9901}}, availableServices: [{tags: {kuma.io/service: a}, mesh: m, instances: 2}]}", nil},
		{"no networking", "{type: ZoneIngress, name: z}", []string{"networking.port: " + portRange}},
		{"ingress faults", "{type: ZoneIngress, name: z, networking: {address: 0.0.0.0, advertisedAddress: a b, port: 1, admin: {port: 1}}, availableServices: [{tags: {a: ''}}]}", []string{
			"networking.address: must not be 0.0.0.0 or ::", "networking.admin.port: must differ from port",
			"networking.advertisedAddress: address has to be valid IP address or domain name", "networking.advertisedPort: has to be defined with advertisedAddress",
			`availableServices[0].tags["kuma.io/service"]: tag has to exist`, `availableServices[0].tags["a"]: tag value must be non-empty`,
		}},
		{
			"advertised port only", "{type: ZoneIngress, name: z, networking: {port: 1, advertisedPort: 70000}}",
			[]string{"networking.advertisedPort: " + portRange, "networking.advertisedAddress: has to be defined with advertisedPort"},
		},
		{"egress", "{type: ZoneEgress, name: z, networking: {address: 10.0.0.1, port: 10002}}", nil},
		{
			"egress faults", "{type: ZoneEgress, name: z, networking: {address: a b, port: 0, admin: {port: 70000}}}",
			[]string{"networking.address: address has to be valid IP address or domain name", "networking.port: " + portRange, "networking.admin.port: " + portRange},
		},
		{"egress without anything", "{type: ZoneEgress, name: z}", []string{"networking.port: " + portRange}},
	})
	public := resource.SpecOf[*resource.ZoneIngress](decode(t, "{type: ZoneIngress, name: z, networking: {advertisedAddress: a, advertisedPort: 1}}"))
	if !public.Public() || (&resource.ZoneIngress{}).Public() {
		t.Error("an ingress is public when it advertises an address and a port")
	}
}

func TestInsightsOnline(t *testing.T) {
	open, closed := `{"subscriptions":[{"connectTime":"a","disconnectTime":"b"},{"connectTime":"c"}]}`, `{"subscriptions":[{"connectTime":"a","disconnectTime":"b"}]}`
	for body, want := range map[string]bool{open: true, closed: false, "{}": false} {
		var proxy resource.ZoneProxyInsight
		var zone resource.ZoneInsight
		if json.Unmarshal([]byte(body), &proxy) != nil || json.Unmarshal([]byte(body), &zone) != nil {
			t.Fatal(body)
		}
		if proxy.Online() != want || zone.Online() != want {
			t.Errorf("%s: got %v and %v, want %v", body, proxy.Online(), zone.Online(), want)
		}
	}
	if (*resource.ZoneProxyInsight)(nil).Online() || (*resource.ZoneInsight)(nil).Online() {
		t.Error("nothing is online")
	}
}
