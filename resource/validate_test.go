package resource_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/resource"
)

// decode reads YAML that must be well formed.
func decode(t *testing.T, body string) *resource.Resource {
	t.Helper()
	r, err := registry().DecodeYAML([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

type validation struct {
	name, body string
	// want holds "field: reason", none for a valid resource.
	want []string
}

func checkAll(t *testing.T, tests []validation) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, texts(resource.Validate(decode(t, tt.body)))); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func texts(faults []resource.Violation) []string {
	var out []string
	for _, f := range faults {
		out = append(out, f.Field+": "+f.Reason)
	}
	return out
}

const (
	subdomain = "invalid characters. A lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
	refKinds  = "invalid value. Available values are: MeshExternalService,MeshMultiZoneService,MeshService"
	portRange = "port must be in the range [1, 65535]"
)

func TestNames(t *testing.T) {
	checkAll(t, []validation{
		{"good", "{type: Zone, name: a-1.b}", nil},
		{"empty", "{type: Zone}", []string{"name: cannot be empty"}},
		{"upper case", "{type: Zone, name: A}", []string{"name: " + subdomain}},
		{"underscore", "{type: Zone, name: a_b}", []string{"name: " + subdomain}},
		{"edge", "{type: Zone, name: a-.b}", []string{"name: " + subdomain}},
		{"long", "{type: Zone, name: " + strings.Repeat("a", 254) + "}", []string{"name: value length must less or equal 253"}},
		{"no mesh", "{type: Secret, name: a, data: YQ==}", []string{"mesh: cannot be empty"}},
		{"bad mesh", "{type: Secret, mesh: a/b, name: a, data: YQ==}", []string{"mesh: invalid characters. Valid characters are numbers, lowercase latin letters and '-', '_', '.' symbols."}},
		{"older mesh", "{type: Secret, mesh: a_b, name: a, data: YQ==}", nil},
		{"long service", "{type: MeshService, mesh: m, name: " + strings.Repeat("a", 64) + "}", []string{"name: must not be longer than 63 characters"}},
		{"hashed service", "{type: MeshService, mesh: m, name: " + strings.Repeat("a", 64) + ", labels: {kuma.io/display-name: a}}", nil},
	})
	older := decode(t, "{type: Zone, name: a_b}")
	if faults := resource.ValidateUpdate(older); faults != nil {
		t.Errorf("update of an older name: %v", faults)
	}
	older.Name = "a/b"
	if resource.ValidateUpdate(older) == nil {
		t.Error("update of a name with a slash passed")
	}
}

func TestLabels(t *testing.T) {
	checkAll(t, []validation{
		{"good", `{type: Zone, name: z, labels: {a: "", example.com/b_c: "1.x"}}`, nil},
		{"origin", "{type: Zone, name: z, labels: {kuma.io/origin: foo}}", []string{`labels["kuma.io/origin"]: unknown resource origin "foo"`}},
		{"key", "{type: Zone, name: z, labels: {-a: b}}", []string{`labels["-a"]: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character`}},
		{"prefix", "{type: Zone, name: z, labels: {A/a: b}}", []string{`labels["A/a"]: prefix part must be a lowercase RFC 1123 subdomain of at most 253 characters`}},
		{"no name", "{type: Zone, name: z, labels: {a/: b}}", []string{`labels["a/"]: name part must be non-empty`}},
		{"long name", "{type: Zone, name: z, labels: {" + strings.Repeat("a", 64) + ": b}}", []string{`labels["` + strings.Repeat("a", 64) + `"]: name part must be no more than 63 characters`}},
		{"long value", "{type: Zone, name: z, labels: {a: " + strings.Repeat("a", 64) + "}}", []string{`labels["a"]: must be no more than 63 characters`}},
		{"value", "{type: Zone, name: z, labels: {a: b/c}}", []string{`labels["a"]: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character`}},
	})
}

func TestComputeLabels(t *testing.T) {
	zone := resource.ZoneInfo{Zone: "zone-a"}
	for _, tt := range []struct {
		name, body string
		info       resource.ZoneInfo
		want       map[string]string
	}{
		{"service", "{type: MeshService, mesh: m, name: s}", zone, map[string]string{"kuma.io/mesh": "m", "kuma.io/origin": "zone", "kuma.io/zone": "zone-a", "kuma.io/env": "universal"}},
		{"dataplane", "{type: Dataplane, mesh: m, name: s}", zone, map[string]string{"kuma.io/mesh": "m", "kuma.io/origin": "zone", "kuma.io/zone": "zone-a", "kuma.io/env": "universal"}},
		{"generator", "{type: HostnameGenerator, name: s}", zone, map[string]string{"kuma.io/origin": "zone", "kuma.io/zone": "zone-a", "kuma.io/env": "universal"}},
		{"mesh", "{type: Mesh, name: s}", zone, nil},
		{"secret", "{type: Secret, mesh: m, name: s}", zone, map[string]string{"kuma.io/mesh": "m"}},
		{"given", "{type: MeshService, mesh: m, name: s, labels: {kuma.io/mesh: x, kuma.io/env: kubernetes, kuma.io/zone: z, a: b}}", zone, map[string]string{"kuma.io/mesh": "x", "kuma.io/origin": "zone", "kuma.io/zone": "z", "kuma.io/env": "kubernetes", "a": "b"}},
		{"from global", "{type: MeshService, mesh: m, name: s, labels: {kuma.io/origin: global}}", zone, map[string]string{"kuma.io/mesh": "m", "kuma.io/origin": "global"}},
		{"on global", "{type: MeshService, mesh: m, name: s}", resource.ZoneInfo{Global: true}, map[string]string{"kuma.io/mesh": "m"}},
		{"kubernetes", "{type: HostnameGenerator, name: s}", resource.ZoneInfo{Zone: "z", Env: resource.EnvKubernetes}, map[string]string{"kuma.io/origin": "zone", "kuma.io/zone": "z", "kuma.io/env": "kubernetes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := decode(t, tt.body)
			resource.ComputeLabels(r, tt.info)
			if diff := cmp.Diff(tt.want, r.Labels); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateLabels(t *testing.T) {
	zone := resource.ZoneInfo{Zone: "zone-a"}
	federated := resource.ZoneInfo{Zone: "zone-a", Federated: true}
	for _, tt := range []struct {
		name, labels string
		info         resource.ZoneInfo
		want         []string
	}{
		{"none", "{}", zone, nil},
		{"own", "{kuma.io/origin: zone, kuma.io/zone: zone-a, kuma.io/mesh: m}", federated, nil},
		{"other zone", "{kuma.io/zone: b}", zone, []string{`labels["kuma.io/zone"]: kuma.io/zone label should have zone-a value`}},
		{"other mesh", "{kuma.io/mesh: b}", zone, []string{`labels["kuma.io/mesh"]: kuma.io/mesh label must not differ from mesh set on resource`}},
		{"other zone on global", "{kuma.io/zone: b}", resource.ZoneInfo{Global: true}, nil},
		{"from global", "{kuma.io/origin: global, kuma.io/zone: b}", zone, nil},
		{"federated without origin", "{}", federated, []string{`labels["kuma.io/origin"]: the origin label must be set to 'zone'`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := decode(t, "{type: MeshService, mesh: m, name: s, labels: "+tt.labels+"}")
			if diff := cmp.Diff(tt.want, texts(resource.ValidateLabels(r, tt.info))); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMeshValidation(t *testing.T) {
	mesh := func(rest string) string { return "{type: Mesh, name: m, " + rest + "}" }
	backend := func(rest string) string { return mesh("mtls: {backends: [{name: a, " + rest + "}]}") }
	p := "mtls.backends[0]."
	checkAll(t, []validation{
		{"empty", "{type: Mesh, name: m}", nil},
		{"mtls", mesh("mtls: {enabledBackend: a, backends: [{name: a, type: builtin, mode: PERMISSIVE, dpCert: {rotation: {expiration: 1d}, requestTimeout: 5s}, rootChain: {requestTimeout: 1s}, conf: {caCert: {RSAbits: 4096, expiration: 10y}}}]}"), nil},
		{"two backends", mesh("mtls: {backends: [{name: a, type: builtin}, {name: a, type: builtin}]}"), []string{"mtls.backends: cannot have more than 1 backends", `mtls.backends[1].name: "a" name is already used for another backend`}},
		{"rotation", mesh("mtls: {enabledBackend: a, rotation: {to: b}, backends: [{name: a, type: builtin}, {name: b, type: builtin, conf: {caCert: {keyType: ECDSA}}}]}"), nil},
		{"rotation to nothing", mesh("mtls: {enabledBackend: a, rotation: {to: c}, backends: [{name: a, type: builtin}, {name: b, type: builtin}]}"), []string{"mtls.rotation.to: has to be set to one of the backends in the mesh"}},
		{"rotation without mTLS", mesh("mtls: {rotation: {to: a}, backends: [{name: a, type: builtin}]}"), []string{"mtls.rotation: needs an enabledBackend"}},
		{"rotation of three", mesh("mtls: {enabledBackend: a, rotation: {to: b}, backends: [{name: a, type: builtin}, {name: b, type: builtin}, {name: c, type: builtin}]}"), []string{"mtls.backends: cannot have more than 2 backends during a rotation"}},
		{"type of key", backend("type: builtin, conf: {caCert: {keyType: DSA}}"), []string{p + "conf.caCert.keyType: in body should be one of [RSA ECDSA]"}},
		{"enabled", mesh("mtls: {enabledBackend: b, backends: [{name: a, type: builtin}]}"), []string{"mtls.enabledBackend: has to be set to one of the backends in the mesh"}},
		{"name", mesh("mtls: {backends: [{type: builtin}]}"), []string{p + "name: cannot be empty"}},
		{"name syntax", mesh("mtls: {backends: [{name: A, type: builtin}]}"), []string{p + "name: " + subdomain}},
		{"type", backend("type: vault"), []string{p + "type: could not find installed plugin for this type"}},
		{"mode", backend("type: builtin, mode: strict"), []string{p + "mode: in body should be one of [STRICT PERMISSIVE]"}},
		{"no expiration", backend("type: builtin, dpCert: {}"), []string{p + "dpcert.rotation.expiration: has to be a valid format"}},
		{"expiration", backend("type: builtin, dpCert: {rotation: {expiration: 1h30m}}"), []string{p + "dpcert.rotation.expiration: has to be a valid format"}},
		{"timeouts", backend("type: builtin, dpCert: {rotation: {expiration: 1d}, requestTimeout: x}, rootChain: {requestTimeout: 0s}"), []string{p + "dpcert.requestTimeout: has to be a duration of more than zero, such as 10s", p + "rootChain.requestTimeout: has to be a duration of more than zero, such as 10s"}},
		{"builtin conf", backend("type: builtin, conf: {caCert: {RSAbits: 1024, expiration: never}}"), []string{p + "conf.caCert.RSAbits: must be in inclusive range [2048, 8192]", p + "conf.caCert.expiration: has to be a valid format"}},
		{"builtin conf type", backend("type: builtin, conf: {caCert: {RSAbits: x}}"), []string{p + `conf.caCert.RSAbits: in body must be of type integer: "string"`}},
		{"provided", backend("type: provided, conf: {cert: {secret: c}, key: {file: /k}}"), nil},
		{"provided sources", backend("type: provided, conf: {cert: {secret: c, file: f}}"), []string{p + "conf.cert: exactly one of secret, file, inline, inlineString has to be defined", p + "conf.key: has to be defined"}},
		{"older backends", mesh("logging: {defaultBackend: a, backends: [{name: a, type: file, conf: {path: /a}}]}, tracing: {backends: [{name: b, type: zipkin, sampling: 0, conf: {url: 'https://z:9411/api/v2/spans', apiVersion: httpProto, sharedSpanContext: false}}, {name: d, type: datadog, conf: {address: 10.0.0.1, port: 8126}}]}, metrics: {enabledBackend: c, backends: [{name: c, type: prometheus}]}"), nil},
		{"older names", mesh("metrics: {backends: [{name: a}, {name: a}, {}]}"), []string{`metrics.backends[1].name: "a" name is already used for another backend`, "metrics.backends[2].name: cannot be empty"}},
		{"logging", mesh("logging: {backends: [{name: a, type: tcp, conf: {address: 'logs:5000'}, format: '%START_TIME%'}, {name: a, type: file}, {type: tcp}, {name: b, type: udp}, {name: c}, {name: d, type: tcp, conf: {address: ':1'}}]}"), []string{
			`logging.backends[1].name: "a" name is already used for another backend`, "logging.backends[2].name: cannot be empty",
			"logging.backends[1].conf.path: cannot be empty", "logging.backends[2].conf.address: cannot be empty", "logging.backends[3].type: in body should be one of [file tcp]",
			"logging.backends[4].type: cannot be empty", "logging.backends[5].conf.address: must be host:port, such as logs.example.com:5000",
		}},
		{"tracing", mesh("tracing: {backends: [{name: a, type: zipkin, sampling: 100.1}, {name: b, type: zipkin, conf: {url: 'tcp://a', apiVersion: v3}}, {name: c, type: datadog}, {name: d, type: datadog, conf: {address: a/b, port: 70000}}, {name: e, type: jaeger}, {name: a}]}"), []string{
			`tracing.backends[5].name: "a" name is already used for another backend`,
			"tracing.backends[0].sampling: must be in inclusive range [0.0, 100.0]", "tracing.backends[0].conf.url: cannot be empty",
			"tracing.backends[1].conf.url: must be a URL with scheme http or https and a host, such as http://zipkin:9411/api/v2/spans", "tracing.backends[1].conf.apiVersion: in body should be one of [httpJson httpJsonV1 httpProto]",
			"tracing.backends[2].conf.address: cannot be empty", "tracing.backends[2].conf.port: " + portRange,
			"tracing.backends[3].conf.address: address has to be valid IP address or domain name", "tracing.backends[3].conf.port: " + portRange,
			"tracing.backends[4].type: in body should be one of [zipkin datadog]", "tracing.backends[5].type: cannot be empty",
		}},
		{"older choice", mesh("logging: {defaultBackend: a}, tracing: {defaultBackend: a}, metrics: {enabledBackend: a}"), []string{"logging.defaultBackend: has to be set to one of the logging backend in mesh", "tracing.defaultBackend: has to be set to one of the tracing backend in mesh", "metrics.enabledBackend: has to be set to one of the backends in the mesh"}},
		{"older types", mesh("metrics: {backends: 1}"), []string{`metrics.backends: in body must be of type array: "number"`}},
		{"provided skipped", mesh("mtls: {skipValidation: true, backends: [{name: a, type: provided}]}"), nil},
		{"egress", mesh("routing: {zoneEgress: true}"), []string{"mtls: has to be set when zoneEgress enabled"}},
		{"mode of services", mesh("meshServices: {mode: Always}"), []string{"meshServices.mode: in body should be one of [Disabled Everywhere ReachableBackends Exclusive]"}},
		{"constraints", mesh(`constraints: {dataplaneProxy: {requirements: [{tags: {a: "*"}}, {}], restrictions: [{tags: {a: "b*"}}]}}`), []string{"constraints.dataplaneProxy.requirements[1].tags: must have at least one tag", `constraints.dataplaneProxy.restrictions[0].tags["a"]: tag value must consist of alphanumeric characters, dots, dashes and underscores`}},
	})
}

func TestValidateMeshChange(t *testing.T) {
	const forbidden = "Changing CA when mTLS is enabled is forbidden. Disable mTLS first and then change the CA"
	const both = "backends \"a\" and \"b\" must both be there before and after the change: see `kumactl rotate authority`"
	on := func(enabled, names, rest string) string {
		return "{enabledBackend: '" + enabled + "', backends: [" + names + "]" + rest + "}"
	}
	const a, b, ab, rotation = "{name: a}", "{name: b}", "{name: a}, {name: b}", ", rotation: {to: b}"
	for _, tt := range []struct{ name, from, to, want string }{
		{"on", on("", ab, ""), on("a", ab, ""), ""},
		{"off", on("a", ab, ""), on("", ab, ""), ""},
		{"same", on("a", ab, ""), on("a", ab, ""), ""},
		{"exchange", on("a", ab, ""), on("b", ab, ""), forbidden},
		{"exchange with the rotation", on("a", a, ""), on("b", ab, rotation), forbidden},
		{"rotation begins", on("a", a, ""), on("a", ab, rotation), ""},
		{"rotation goes on", on("a", ab, rotation), on("b", ab, rotation), ""},
		{"rotation turns back", on("b", ab, rotation), on("a", ab, rotation), ""},
		{"the old one is taken away at once", on("a", ab, rotation), on("b", b, rotation), both},
		{"the new one is not trusted yet", on("a", a, rotation), on("b", ab, rotation), both},
		{"rotation ends", on("b", ab, rotation), on("b", b, ""), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mesh := func(mtls string) *resource.Mesh {
				return resource.SpecOf[*resource.Mesh](decode(t, "{type: Mesh, name: m, mtls: "+mtls+"}"))
			}
			got := ""
			for _, v := range resource.ValidateMeshChange(mesh(tt.from), mesh(tt.to)) {
				got += v.Reason
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestDataplaneValidation(t *testing.T) {
	dp := func(rest string) string { return "{type: Dataplane, mesh: m, name: d, networking: {" + rest + "}}" }
	inbound := func(rest string) string {
		return dp("address: 10.0.0.1, inbound: [{port: 80, tags: {kuma.io/service: a}, " + rest + "}]")
	}
	with := func(rest string) string {
		return dp("address: 10.0.0.1, inbound: [{port: 80, tags: {kuma.io/service: a}}], " + rest)
	}
	in, out, refs := "networking.inbound[0].", "networking.outbound[0]", "networking.transparentProxing.reachableBackends.refs[0]."
	checkAll(t, []validation{
		{"nothing", "{type: Dataplane, mesh: m, name: d}", []string{"networking: has to contain at least one inbound interface or gateway"}},
		{"no inbound", dp("address: 10.0.0.1"), []string{"networking: has to contain at least one inbound interface or gateway"}},
		{"good", inbound("servicePort: 8080, serviceAddress: 127.0.0.1, state: NotReady, serviceProbe: {interval: 1s, tcp: {}}"), nil},
		{"domain name", dp("address: web.example.com, advertisedAddress: 1.2.3.4, gateway: {tags: {kuma.io/service: a}}"), nil},
		{"no address", dp("gateway: {tags: {kuma.io/service: a}}"), []string{"networking.address: address can't be empty"}},
		{"any address", dp(`address: "::", advertisedAddress: 0.0.0.0, gateway: {tags: {kuma.io/service: a}}`), []string{"networking.address: must not be 0.0.0.0 or ::", "networking.advertisedAddress: must not be 0.0.0.0 or ::"}},
		{"bad address", dp(`address: 10.0.0.256, advertisedAddress: "a b", gateway: {tags: {kuma.io/service: a}}`), []string{"networking.address: address has to be valid IP address or domain name", "networking.advertisedAddress: address has to be valid IP address or domain name"}},
		{"ports", dp("address: 10.0.0.1, inbound: [{port: 0, servicePort: 65536, tags: {kuma.io/service: a}}]"), []string{in + "port: " + portRange, in + "servicePort: " + portRange}},
		{"addresses", inbound("address: a, serviceAddress: b"), []string{in + "address: address has to be valid IP address", in + "serviceAddress: serviceAddress has to be valid IP address"}},
		{"loop", inbound("serviceAddress: 10.0.0.1"), []string{in + "serviceAddress: serviceAddress and servicePort has to differ from address and port"}},
		{"state", inbound("state: Up"), []string{in + "state: in body should be one of [Ready NotReady Ignored]"}},
		{"probe", inbound("serviceProbe: {interval: x, timeout: 0s, healthyThreshold: 0, unhealthyThreshold: 0}"), []string{in + "serviceProbe.interval: has to be a duration of more than zero, such as 10s", in + "serviceProbe.timeout: has to be a duration of more than zero, such as 10s", in + "serviceProbe.unhealthyThreshold: must be greater than 0", in + "serviceProbe.healthyThreshold: must be greater than 0"}},
		{"no service", dp("address: 10.0.0.1, inbound: [{port: 80}]"), []string{in + `tags["kuma.io/service"]: tag has to exist`}},
		{"protocol", dp(`address: 10.0.0.1, inbound: [{port: 80, tags: {kuma.io/service: a, kuma.io/protocol: udp}}, {port: 81, tags: {kuma.io/service: a, kuma.io/protocol: kafka}}]`), []string{in + `tags["kuma.io/protocol"]: tag "kuma.io/protocol" has an invalid value "udp". Allowed values: grpc, http, http2, kafka, tcp`}},
		{"tags", dp(`address: 10.0.0.1, inbound: [{port: 80, tags: {kuma.io/service: "", "a b": c, d: "e*"}}]`), []string{in + `tags["a b"]: tag name must consist of alphanumeric characters, dots, dashes, slashes and underscores`, in + `tags["d"]: tag value must consist of alphanumeric characters, dots, dashes and underscores`, in + `tags["kuma.io/service"]: tag value must be non-empty`}},
		{"builtin", "{type: Dataplane, mesh: m, name: d, probes: {port: 1}, networking: {address: 10.0.0.1, gateway: {type: BUILTIN, tags: {kuma.io/service: a}}, inbound: [{port: 1, tags: {kuma.io/service: a}}], outbound: [{port: 1, tags: {kuma.io/service: a}}]}}", []string{"networking.inbound: inbound cannot be defined for builtin gateways", "networking.outbound: outbound cannot be defined for builtin gateways", "probes: probes cannot be defined for builtin gateways"}},
		{"delegated", with("gateway: {type: DELEGATED}"), []string{"networking.inbound: inbound cannot be defined for delegated gateways", `networking.gateway.tags["kuma.io/service"]: tag has to exist`}},
		{"outbound", with("outbound: [{address: a, port: 0}]"), []string{out + ".port: " + portRange, out + ".address: address has to be valid IP address", out + `.tags: mandatory tag "kuma.io/service" is missing`}},
		{"outbound both", with("outbound: [{port: 1, tags: {kuma.io/service: a}, backendRef: {kind: MeshService, name: a, port: 1}}]"), []string{out + ": both backendRef and tags/service cannot be defined"}},
		{"outbound ref", with("outbound: [{port: 1, backendRef: {kind: Mesh, port: 1}}]"), []string{out + ".backendRef.kind: " + refKinds, out + ".backendRef: either 'name' or 'labels' should be specified"}},
		{"redirection", with("transparentProxying: {redirectPortInbound: 70000, redirectPortOutbound: 70000, ipFamilyMode: v6}"), []string{"networking.transparentProxying.redirectPortInbound: " + portRange, "networking.transparentProxying.redirectPortOutbound: " + portRange, "networking.transparentProxying.ipFamilyMode: in body should be one of [UnSpecified DualStack IPv4 IPv6]"}},
		{"ref kind", with("transparentProxying: {reachableBackends: {refs: [{kind: Mesh}]}}"), []string{refs + "kind: " + refKinds, refs + "name: name or labels are required"}},
		{"ref namespace", with("transparentProxying: {reachableBackends: {refs: [{kind: MeshService, namespace: a}]}}"), []string{refs + "name: name is required, when namespace is defined"}},
		{"ref labels", with("transparentProxying: {reachableBackends: {refs: [{kind: MeshService, name: a, labels: {a: b}}]}}"), []string{refs + "labels: labels cannot be defined when name is specified"}},
		{"admin", with("outbound: [{port: 80, tags: {kuma.io/service: a}}], admin: {port: 80}"), []string{"networking.admin.port: must differ from inbound", "networking.admin.port: must differ from outbound"}},
		{"probes", "{type: Dataplane, mesh: m, name: d, probes: {port: 0, endpoints: [{inboundPort: 0, inboundPath: a, path: /b}]}, networking: {address: 10.0.0.1, inbound: [{port: 80, tags: {kuma.io/service: a}}]}}", []string{"probes.port: " + portRange, "probes.endpoints[0].inboundPort: " + portRange, "probes.endpoints[0].inboundPath: should be a valid URL Path"}},
	})
}

func TestServiceValidation(t *testing.T) {
	checkAll(t, []validation{
		{"good", "{type: MeshService, mesh: m, name: s, spec: {selector: {dataplaneTags: {}}, ports: [{port: 80, targetPort: web}, {port: 81}]}}", nil},
		{"ports", "{type: MeshService, mesh: m, name: s, spec: {ports: [{port: 0}, {port: 70000, targetPort: 70000}]}}", []string{"spec.ports[0].port: " + portRange, "spec.ports[1].port: " + portRange, "spec.ports[1].targetPort: " + portRange}},
		{"same section", "{type: MeshService, mesh: m, name: s, spec: {ports: [{port: 80}, {name: '80', port: 81}]}}", []string{"spec.ports[1].name: must be unique"}},
		{"enumerations", "{type: MeshService, mesh: m, spec: {state: Up, identities: [{type: X}]}}", []string{"spec.state: in body should be one of [Available Unavailable]", "spec.identities[0].type: in body should be one of [ServiceTag]"}},
		{"no secret", "{type: Secret, mesh: m, name: s}", []string{"data: cannot be empty"}},
	})
}

const badHostname = `a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and ` +
	`end with an alphanumeric character (e.g. 'example.com', regex used for validation is ` +
	`'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`

func TestGeneratorValidation(t *testing.T) {
	generator := func(selector, template string) string {
		return "{type: HostnameGenerator, name: g, spec: {selector: {" + selector + "}, template: '" + template + "'}}"
	}
	one := "meshService: {}"
	checkAll(t, []validation{
		{"good", generator(one, `{{ .DisplayName }}.{{ .Namespace }}.svc.{{ .Zone }}.{{ label "a" }}.mesh.local`), nil},
		{"no selector", generator("", "a"), []string{"spec.selector: exact one selector (meshService, meshExternalService) must be defined"}},
		{"two selectors", generator("meshService: {}, meshMultiZoneService: {}", "a"), []string{"spec.selector: exact one selector (meshService, meshExternalService) must be defined"}},
		{"empty", generator(one, ""), []string{"spec.template: must not be empty"}},
		{"unclosed", generator(one, "{{ .Name"), []string{"spec.template: couldn't parse template: template: :1: unclosed action"}},
		{"no such field", generator(one, "{{ .Nope }}"), []string{`spec.template: couldn't render template with stub values: template: :1:3: executing "" at <.Nope>: can't evaluate field Nope in type hostname.meshedName`}},
		{"no name", generator(one, "{{ .Name }}_"), []string{`spec.template: template renders to "name_" which is not a valid DNS name: ` + badHostname}},
		{"upper case", generator(one, "A.{{ .Name }}"), []string{`spec.template: template renders to "A.name" which is not a valid DNS name: ` + badHostname}},
		{"formats", generator(one, `{{ printf "%s-%s" .DisplayName .Zone }}.{{ slice .Mesh 0 2 }}`), nil},
		{"range", generator(one, "{{ with .Name }}{{ range 9999999999 }}{{ end }}{{ end }}a"), []string{"spec.template: couldn't parse template: range is not supported"}},
		{"range in a part", generator(one, `{{ define "x" }}{{ if true }}{{ else }}{{ range 9 }}{{ end }}{{ end }}{{ end }}a`), []string{"spec.template: couldn't parse template: define and block are not supported"}},
		{"recursion", generator(one, `{{ define "x" }}{{ template "x" }}{{ end }}{{ template "x" }}`), []string{"spec.template: couldn't parse template: define and block are not supported"}},
		{"long", generator(one, `{{ printf "%5000d" 1 }}`), []string{"spec.template: couldn't render template with stub values: " + `template: :1:3: executing "" at <printf "%5000d" 1>: error calling printf: output is too long`}},
	})
}

func TestSetDefaults(t *testing.T) {
	info := resource.ZoneInfo{Zone: "z"}
	dp := decode(t, "{type: Dataplane, mesh: m, name: d, networking: {gateway: {}, inbound: [{port: 1, tags: {kuma.io/zone: other}}, {port: 2}]}}")
	resource.SetDefaults(dp, info)
	n := resource.SpecOf[*resource.Dataplane](dp).Networking
	for _, tags := range []map[string]string{n.Gateway.Tags, n.Inbound[0].Tags, n.Inbound[1].Tags} {
		if tags["kuma.io/zone"] != "z" {
			t.Errorf("tags %v lack the zone", tags)
		}
	}
	svc := decode(t, "{type: MeshService, mesh: m, name: s}")
	resource.SetDefaults(svc, info)
	if got := resource.SpecOf[*resource.MeshService](svc).State; got != resource.StateUnavailable {
		t.Errorf("state = %q, want Unavailable", got)
	}
	resource.SetDefaults(decode(t, "{type: Dataplane, mesh: m, name: d}"), info)
}

func TestIntOrString(t *testing.T) {
	for in, want := range map[string]string{`80`: "80", `"web"`: "web", `4294967295`: "4294967295", `""`: "0"} {
		var v resource.IntOrString
		if err := json.Unmarshal([]byte(in), &v); err != nil || v.String() != want {
			t.Errorf("%s = %v, %v; want %s", in, v, err, want)
		}
	}
	for _, in := range []string{`-1`, `1.5`, `4294967296`, `true`, `[]`, `1e400`} {
		var v resource.IntOrString
		if err := json.Unmarshal([]byte(in), &v); err == nil {
			t.Errorf("%s = %v, want an error", in, v)
		}
	}
}

func TestKeepComputed(t *testing.T) {
	old := decode(t, `{type: MeshService, mesh: m, name: s, spec: {state: Available, identities: [{type: ServiceTag, value: a}]},
		status: {vips: [{ip: 241.0.0.0}]}}`)
	silent := decode(t, "{type: MeshService, mesh: m, name: s, spec: {ports: [{port: 1, targetPort: 1}]}}")
	resource.KeepComputed(old, silent)
	spec := resource.SpecOf[*resource.MeshService](silent)
	if silent.Status != old.Status || spec.State != "Available" || len(spec.Identities) != 1 {
		t.Errorf("got status %v, state %q, identities %v", silent.Status, spec.State, spec.Identities)
	}
	explicit := decode(t, "{type: MeshService, mesh: m, name: s, spec: {state: Unavailable, identities: []}, status: {}}")
	resource.KeepComputed(old, explicit)
	spec = resource.SpecOf[*resource.MeshService](explicit)
	if explicit.Status == old.Status || spec.State != "Unavailable" || len(spec.Identities) != 0 {
		t.Errorf("what was given is lost: status %v, state %q, identities %v", explicit.Status, spec.State, spec.Identities)
	}
}
