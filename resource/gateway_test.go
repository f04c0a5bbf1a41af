package resource_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/resource"
)

const (
	isEmpty   = "cannot be empty"
	noService = `mandatory tag "kuma.io/service" is missing`
)

// gateway is a MeshGateway with these listeners.
func gateway(listeners string) string {
	return "{type: MeshGateway, mesh: m, name: edge, selectors: [{match: {kuma.io/service: edge}}], conf: {listeners: [" + listeners + "]}}"
}

func TestMeshGatewayValidation(t *testing.T) {
	const at = "conf.listeners[0]."
	checkAll(t, []validation{
		{"http", gateway("{port: 8080, protocol: HTTP, hostname: foo.example.com, tags: {port: http/8080}, crossMesh: true, resources: {connectionLimit: 10}}"), nil},
		{"https", gateway("{port: 8443, protocol: HTTPS, hostname: '*.example.com', tls: {mode: TERMINATE, options: {}, certificates: [{secret: cert}]}}"), nil},
		{"tcp and tls", gateway("{port: 1, protocol: TCP}, {port: 2, protocol: TLS, tls: {mode: PASSTHROUGH}}, {port: 3, protocol: TLS, tls: {mode: TERMINATE, certificates: [{inlineString: pem}]}}"), nil},
		{"hostnames of a port", gateway("{port: 1, protocol: HTTP, hostname: a.b}, {port: 1, protocol: HTTP, hostname: '*'}"), nil},
		{"nothing", "{type: MeshGateway, mesh: m, name: edge}", []string{"selectors: must have at least one element", "conf: " + isEmpty}},
		{"no listener", gateway(""), []string{"conf.listeners: " + isEmpty}},
		{"selector without tags", "{type: MeshGateway, mesh: m, name: e, selectors: [{}], conf: {listeners: [{port: 1, protocol: TCP}]}}", []string{"selectors[0].match: must have at least one tag", "selectors[0].match: " + noService}},
		{"selector without service", "{type: MeshGateway, mesh: m, name: e, selectors: [{match: {a: ''}}], conf: {listeners: [{port: 1, protocol: TCP}]}}", []string{`selectors[0].match["a"]: tag value must be non-empty`, "selectors[0].match: " + noService}},
		{"any service", "{type: MeshGateway, mesh: m, name: e, selectors: [{match: {kuma.io/service: '*'}}], conf: {listeners: [{port: 1, protocol: TCP}]}}", nil},
		{"service tag", "{type: MeshGateway, mesh: m, name: e, tags: {kuma.io/service: a}, selectors: [{match: {kuma.io/service: a}}], conf: {listeners: [{port: 1, protocol: TCP, tags: {kuma.io/service: b}}]}}", []string{`tags["kuma.io/service"]: tag name must not be "kuma.io/service"`, at + `tags["kuma.io/service"]: tag name must not be "kuma.io/service"`}},
		{"bad tags", gateway("{port: 1, protocol: TCP, tags: {'a b': 'c d'}}"), []string{at + `tags["a b"]: tag name must consist of alphanumeric characters, dots, dashes, slashes and underscores`, at + `tags["a b"]: tag value must consist of alphanumeric characters, dots, dashes and underscores`}},
		{"port and protocol", gateway("{}, {port: 70000, protocol: UDP}"), []string{at + "port: " + portRange, at + "protocol: " + isEmpty, "conf.listeners[1].port: " + portRange, "conf.listeners[1].protocol: in body should be one of [TCP TLS HTTP HTTPS]"}},
		{"hostname", gateway("{port: 1, protocol: HTTP, hostname: 'a b'}, {port: 2, protocol: HTTP, hostname: 10.0.0.1}"), []string{at + "hostname: invalid hostname", "conf.listeners[1].hostname: invalid hostname"}},
		{"tls absent", gateway("{port: 1, protocol: HTTPS}, {port: 2, protocol: TLS}"), []string{at + "tls: " + isEmpty, "conf.listeners[1].tls: " + isEmpty}},
		{"tls without mode", gateway("{port: 1, protocol: HTTPS, tls: {}}"), []string{at + "tls.mode: " + isEmpty}},
		{"tls of another mode", gateway("{port: 1, protocol: HTTPS, tls: {mode: x}}"), []string{at + "tls.mode: in body should be one of [TERMINATE PASSTHROUGH]"}},
		{"passthrough of https", gateway("{port: 1, protocol: HTTPS, tls: {mode: PASSTHROUGH, certificates: [{secret: a}]}}"), []string{at + "tls.mode: mode is not supported on HTTPS listeners", at + "tls.certificates: must be empty in TLS passthrough mode"}},
		{"no certificate", gateway("{port: 1, protocol: TLS, tls: {mode: TERMINATE}}"), []string{at + "tls.certificates: cannot be empty in TLS termination mode"}},
		{"certificate from nowhere", gateway("{port: 1, protocol: TLS, tls: {mode: TERMINATE, certificates: [{}]}}"), []string{at + "tls.certificates[0]: exactly one of secret, inline and inlineString must be defined"}},
		{"cross mesh", gateway("{port: 1, protocol: TCP, hostname: '*', crossMesh: true}"), []string{at + "protocol: must be HTTP when crossMesh is set", at + "hostname: must not be a wildcard when crossMesh is set"}},
		{"protocols of a port", gateway("{port: 1, protocol: TCP}, {port: 1, protocol: HTTP}"), []string{"conf.listeners[1]: protocol conflicts with other listeners on this port"}},
		{"hostname twice", gateway("{port: 1, protocol: HTTP}, {port: 1, protocol: HTTP, hostname: '*'}"), []string{"conf.listeners[1]: multiple listeners for hostname on this port"}},
		{"limits of a port", gateway("{port: 1, protocol: HTTP, hostname: a, resources: {connectionLimit: 1}}, {port: 1, protocol: HTTP, hostname: b}"), []string{"conf.listeners[1].resources.connectionLimit: conflicting values for this port"}},
	})
}

// gatewayRoute is a MeshGatewayRoute with this rule.
func gatewayRoute(rule string) string {
	return "{type: MeshGatewayRoute, mesh: m, name: r, selectors: [{match: {kuma.io/service: edge}}], conf: {http: {rules: [{" + rule + "}]}}}"
}

func TestMeshGatewayRouteValidation(t *testing.T) {
	const (
		at      = "conf.http.rules[0]."
		matches = "matches: [{path: {match: PREFIX, value: /}}]"
		to      = "backends: [{weight: 1, destination: {kuma.io/service: a}}]"
	)
	filter := func(filter string) string { return gatewayRoute(matches + ", " + to + ", filters: [{" + filter + "}]") }
	checkAll(t, []validation{
		{"least", gatewayRoute(matches + ", " + to), nil},
		{"matches", gatewayRoute(to + ", matches: [{method: GET, headers: [{name: a, value: b}, {match: PRESENT, name: c}, {match: ABSENT, name: d}], queryParameters: [{match: REGEX, name: e, value: f.*}]}, {path: {match: REGEX, value: '/a.*'}}, {path: {value: /b}}]"), nil},
		{"headers", filter("requestHeader: {set: [{name: a, value: b}], add: [{name: c, value: d}], remove: [e]}"), nil},
		{"mirror", filter("mirror: {percentage: 1.5, backend: {destination: {kuma.io/service: b}}}"), nil},
		{"rewrite", filter("rewrite: {replacePrefixMatch: ''}"), nil},
		{"host", filter("rewrite: {hostToBackendHostname: true}"), nil},
		{"redirect needs no backend", gatewayRoute(matches + ", filters: [{redirect: {scheme: https, hostname: example.com, port: 443, statusCode: 302, path: {replaceFull: /x}}}]"), nil},
		{"tcp", "{type: MeshGatewayRoute, mesh: m, name: r, selectors: [{match: {a: b}}], conf: {tcp: {rules: [{backends: [{destination: {kuma.io/service: a}}]}]}}}", nil},
		{"nothing", "{type: MeshGatewayRoute, mesh: m, name: r}", []string{"selectors: must have at least one element", "conf: " + isEmpty}},
		{"both", "{type: MeshGatewayRoute, mesh: m, name: r, selectors: [{match: {a: b}}], conf: {http: {}, tcp: {}}}", []string{"conf: must have exactly one defined: http, tcp"}},
		{"no rule", "{type: MeshGatewayRoute, mesh: m, name: r, selectors: [{match: {a: b}}], conf: {tcp: {}}}", []string{"conf.tcp.rules: " + isEmpty}},
		{"no tcp backend", "{type: MeshGatewayRoute, mesh: m, name: r, selectors: [{match: {a: b}}], conf: {tcp: {rules: [{}]}}}", []string{"conf.tcp.rules[0].backends: " + isEmpty}},
		{"empty http", "{type: MeshGatewayRoute, mesh: m, name: r, selectors: [{match: {a: b}}], conf: {http: {hostnames: ['', a b]}}}", []string{"conf.http.hostnames[0]: " + isEmpty, "conf.http.hostnames[1]: invalid hostname", "conf.http.rules: " + isEmpty}},
		{"empty rule", gatewayRoute(""), []string{at + "matches: " + isEmpty, at + "backends: " + isEmpty}},
		{"empty match", gatewayRoute("matches: [{}], " + to), []string{at + "matches[0]: " + isEmpty}},
		{"bad paths", gatewayRoute("matches: [{path: {}}, {path: {match: x, value: a}}, {path: {match: REGEX, value: '('}}], " + to), []string{
			at + "matches[0].path.value: " + isEmpty, at + "matches[1].path.match: in body should be one of [EXACT PREFIX REGEX]", at + "matches[1].path.value: must be an absolute path", at + "matches[2].path.value: invalid regular expression",
		}},
		{"bad values", gatewayRoute("matches: [{method: x, headers: [{}], queryParameters: [{match: PRESENT, name: a}, {match: REGEX, name: b, value: '('}]}], " + to), []string{
			at + "matches[0].method: in body should be one of [CONNECT DELETE GET HEAD OPTIONS PATCH POST PUT TRACE]", at + "matches[0].headers[0].name: " + isEmpty, at + "matches[0].headers[0].value: " + isEmpty,
			at + "matches[0].queryParameters[0].match: in body should be one of [EXACT REGEX]", at + "matches[0].queryParameters[1].value: invalid regular expression",
		}},
		{"no filter", filter(""), []string{at + "filters[0]: must have exactly one defined: requestHeader, responseHeader, mirror, redirect, rewrite"}},
		{"no header", filter("responseHeader: {}"), []string{at + "filters[0].responseHeader: " + isEmpty}},
		{"bad headers", filter("requestHeader: {set: [{name: a}], add: [{value: b}], remove: ['']}"), []string{at + "filters[0].requestHeader.set[0].value: " + isEmpty, at + "filters[0].requestHeader.add[0].name: " + isEmpty, at + "filters[0].requestHeader.remove[0]: " + isEmpty}},
		{"no mirror", filter("mirror: {}"), []string{at + "filters[0].mirror.backend: " + isEmpty, at + "filters[0].mirror.percentage: has to be in [0.0 - 100.0] range"}},
		{"bad mirror", filter("mirror: {percentage: 101, backend: {destination: {a: b}}}"), []string{at + "filters[0].mirror.backend.destination: " + noService, at + "filters[0].mirror.percentage: has to be in [0.0 - 100.0] range"}},
		{"bad redirect", filter("redirect: {scheme: ftp, hostname: a b, port: 70000, statusCode: 200, path: {}}"), []string{
			at + "filters[0].redirect.scheme: in body should be one of [http https]", at + "filters[0].redirect.hostname: invalid hostname", at + "filters[0].redirect.port: " + portRange,
			at + "filters[0].redirect.statusCode: must be in the range [300, 308]", at + "filters[0].redirect.path: " + isEmpty,
		}},
		{"two rewrites", filter("rewrite: {replaceFull: /a, replacePrefixMatch: /b}"), []string{at + "filters[0].rewrite: must have only one type defined: replaceFull, replacePrefixMatch"}},
		{"prefix of no prefix", gatewayRoute("matches: [{method: GET}], filters: [{rewrite: {replacePrefixMatch: /b}}], " + to), []string{at + "filters[0].rewrite.replacePrefixMatch: cannot be used without a match on path prefix"}},
		{"bad backend", gatewayRoute(matches + ", backends: [{}]"), []string{at + "backends[0].destination: must have at least one tag", at + "backends[0].destination: " + noService}},
	})
}

func TestGatewayForms(t *testing.T) {
	const body = `"selectors":[{"match":{"kuma.io/service":"edge"}}],"tags":{"a":"b"},"conf":{"listeners":[{"hostname":"a","port":8443,"protocol":"HTTPS",` +
		`"tls":{"mode":"TERMINATE","certificates":[{"secret":"s"}],"options":{}},"tags":{"c":"d"},"crossMesh":true,"resources":{"connectionLimit":7}}]}}`
	const universal = `{"type":"MeshGateway","mesh":"m","name":"edge",` + body
	r, err := registry().Decode([]byte(universal))
	if err != nil {
		t.Fatal(err)
	}
	for form, want := range map[resource.Form]string{
		resource.FormUniversal:  universal,
		resource.FormKubernetes: `{"kind":"MeshGateway","apiVersion":"kuma.io/v1alpha1","metadata":{"name":"edge"},"mesh":"m","spec":{` + body + `}`,
	} {
		got, err := registry().Encode(r, form)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", form, diff)
		}
	}
}
