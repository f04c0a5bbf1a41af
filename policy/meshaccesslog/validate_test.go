package meshaccesslog_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshaccesslog"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

// from and to put backends into the only item of a list.
func from(backends string) string {
	return "from: [{targetRef: {kind: Mesh}, default: {backends: [" + backends + "]}}]"
}

func to(target, backends string) string {
	return "to: [{targetRef: " + target + ", default: {backends: [" + backends + "]}}]"
}

func TestValidate(t *testing.T) {
	const p = "spec.from[0].default.backends[0]."
	format := func(f string) string { return from("{type: File, file: {path: /a, format: " + f + "}}") }
	policytest.Validate(t, meshaccesslog.Kind(), []policytest.Case{
		{Name: "good", Spec: from("{type: Tcp, tcp: {address: \"[::1]:1\", format: {type: Plain, plain: \"%PROTOCOL% \\\"a\\\"\", omitEmptyValues: true}}}, {type: File, file: {path: /dev/stdout, format: {type: Json, json: [{key: a, value: b}]}}}, {type: OpenTelemetry, openTelemetry: {endpoint: a, attributes: [{key: a, value: b}], body: {stringValue: a}}}")},
		{Name: "no logs", Spec: from("")},
		{Name: "gateway", Spec: "targetRef: {kind: MeshGateway, name: g, tags: {a: b}}, " + to("{kind: Mesh}", "")},
		{Name: "external service", Spec: to("{kind: MeshExternalService, name: a}", "")},
		{Name: "multi-zone service", Spec: to("{kind: MeshMultiZoneService, labels: {a: b}}", "")},
		{Name: "service of a gateway", Spec: "targetRef: {kind: MeshGateway, name: g}, " + to("{kind: MeshService, name: a}", ""), Want: []string{"spec.to[0].targetRef.kind: value is not supported"}},
		{Name: "clients", Spec: "from: [{targetRef: {kind: MeshSubset, tags: {a: b}}, default: {backends: []}}]", Want: []string{"spec.from[0].targetRef.kind: value is not supported"}},
		{Name: "nothing", Spec: "", Want: []string{"spec: at least one of 'from', 'to' has to be defined"}},
		{Name: "no backends", Spec: "from: [{targetRef: {kind: Mesh}}]", Want: []string{"spec.from[0].default.backends: must be defined"}},
		{Name: "type only", Spec: from("{type: Tcp}, {type: File}, {type: OpenTelemetry}"), Want: []string{
			"spec.from[0].default.backends[0].tcp: must be defined",
			"spec.from[0].default.backends[1].file: must be defined",
			"spec.from[0].default.backends[2].openTelemetry: must be defined",
		}},
		{Name: "schema first", Spec: from("{type: x, tcp: {address: \"\", format: {type: x}}, file: {path: a, format: {}}, openTelemetry: {}}, {}"), Want: []string{
			p + "file.format.type: in body is required",
			p + "openTelemetry.endpoint: in body is required",
			p + "tcp.address: in body should be at least 1 chars long",
			p + "tcp.format.type: in body should be one of [Plain Json]",
			p + "type: in body should be one of [Tcp File OpenTelemetry]",
			"spec.from[0].default.backends[1].type: in body is required",
		}},
		{Name: "path", Spec: from("{type: File, file: {path: a/b}}"), Want: []string{p + "file.path: file backend requires a valid path"}},
		{Name: "address without port", Spec: from("{type: Tcp, tcp: {address: a}}"), Want: []string{p + "tcp.address: tcp backend requires valid address"}},
		{Name: "address without host", Spec: from("{type: Tcp, tcp: {address: \":1\"}}"), Want: []string{p + "tcp.address: tcp backend requires valid address"}},
		{Name: "address with port 0", Spec: from("{type: Tcp, tcp: {address: \"a:0\"}}"), Want: []string{p + "tcp.address: tcp backend requires valid address"}},
		{Name: "address with a scheme", Spec: from("{type: Tcp, tcp: {address: \"http://a:1\"}}"), Want: []string{p + "tcp.address: tcp backend requires valid address"}},
		{Name: "address with a bad host", Spec: from("{type: Tcp, tcp: {address: \"a b:1\"}}"), Want: []string{p + "tcp.address: tcp backend requires valid address"}},
		{Name: "no plain", Spec: format("{type: Plain, json: [{key: a, value: b}]}"), Want: []string{p + "file.format.plain: must be defined"}},
		{Name: "empty plain", Spec: format("{type: Plain, plain: \"\"}"), Want: []string{p + "file.format.plain: must not be empty"}},
		{Name: "no json", Spec: format("{type: Json, plain: a}"), Want: []string{p + "file.format.json: must be defined"}},
		{Name: "empty json", Spec: format("{type: Json, json: []}"), Want: []string{p + "file.format.json: must not be empty"}},
		{Name: "members", Spec: format("{type: Json, json: [{}, {key: \"a\\\"\", value: b}, {key: a, value: \"\\\\\"}]}"), Want: []string{
			p + "file.format.json[0].key: key cannot be empty",
			p + "file.format.json[0].value: value cannot be empty",
			p + "file.format.json[1]: is not a valid JSON object",
			p + "file.format.json[2]: is not a valid JSON object",
		}},
		{Name: "format of tcp", Spec: from("{type: Tcp, tcp: {address: \"a:1\", format: {type: Plain}}}"), Want: []string{p + "tcp.format.plain: must be defined"}},
	})
}
