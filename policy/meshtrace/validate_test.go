package meshtrace_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshtrace"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestValidate(t *testing.T) {
	const p = "spec.default."
	backend := func(b string) string { return "default: {backends: [" + b + "]}" }
	policytest.Validate(t, meshtrace.Kind(), []policytest.Case{
		{Name: "zipkin", Spec: "default: {backends: [{type: Zipkin, zipkin: {url: \"https://a/b\", traceId128bit: true, apiVersion: httpProto, sharedSpanContext: false}}], sampling: {overall: 0, client: \"33.3\", random: 100}, tags: [{name: a, literal: b}, {name: a, header: {name: b, default: c}}]}"},
		{Name: "datadog", Spec: backend("{type: Datadog, datadog: {url: \"http://[::1]:8126\", splitService: true}}")},
		{Name: "gateway", Spec: "targetRef: {kind: MeshGateway, name: g}, " + backend("{type: OpenTelemetry, openTelemetry: {endpoint: a}}")},
		{Name: "no tracing", Spec: backend("")},
		{Name: "nothing", Spec: "", Want: []string{p + "backends: must be defined"}},
		{Name: "listeners", Spec: "targetRef: {kind: MeshGateway, name: g, tags: {a: b}}, " + backend(""), Want: []string{"spec.targetRef.tags: must not be set with kind MeshGateway"}},
		{Name: "schema first", Spec: "default: {backends: [{type: x, openTelemetry: {}, zipkin: {apiVersion: x}}, {}], sampling: {client: 101}}", Want: []string{
			p + "backends: in body should have at most 1 items",
			p + "backends[0].openTelemetry.endpoint: in body is required",
			p + "backends[0].type: in body should be one of [Zipkin Datadog OpenTelemetry]",
			p + "backends[0].zipkin.apiVersion: in body should be one of [httpJson httpProto]",
			p + "backends[0].zipkin.url: in body is required",
			p + "backends[1].type: in body is required",
		}},
		{Name: "zipkin without body", Spec: backend("{type: Zipkin}"), Want: []string{p + "backends[0].zipkin: must be defined"}},
		{Name: "datadog without body", Spec: backend("{type: Datadog}"), Want: []string{p + "backends[0].datadog: must be defined"}},
		{Name: "OpenTelemetry without body", Spec: backend("{type: OpenTelemetry}"), Want: []string{p + "backends[0].openTelemetry: must be defined"}},
		{Name: "empty URL", Spec: backend("{type: Zipkin, zipkin: {url: \"\"}}"), Want: []string{p + "backends[0].zipkin.url: must not be empty"}},
		{Name: "no URL", Spec: backend("{type: Zipkin, zipkin: {url: \"a:9411\"}}"), Want: []string{p + "backends[0].zipkin.url: must be a valid url"}},
		{Name: "bad URL", Spec: backend("{type: Datadog, datadog: {url: \"http://a:b\"}}"), Want: []string{p + "backends[0].datadog.url: must be a valid url"}},
		{Name: "datadog URL", Spec: backend("{type: Datadog, datadog: {url: \"https://a\"}}"), Want: []string{p + "backends[0].datadog.url: scheme must be http", p + "backends[0].datadog.url: port must be defined"}},
		{Name: "missing", Spec: "default: {backends: [], tags: [{literal: a}, {name: a, header: {}}]}", Want: []string{p + "tags[0].name: in body is required", p + "tags[1].header.name: in body is required"}},
		{Name: "values", Spec: "default: {backends: [], sampling: {overall: 101, client: \"-0.1\", random: x}, tags: [{name: \"\", literal: a}, {name: a}, {name: a, literal: b, header: {name: c}}, {name: a, header: {name: \"\"}}]}", Want: []string{
			p + "sampling.overall: must be between 0 and 100",
			p + "sampling.client: must be between 0 and 100",
			p + "sampling.random: string must be a valid number",
			p + "tags[0].name: must not be empty",
			p + "tags[1]: tag must have only one type defined: header, literal",
			p + "tags[2]: tag must have only one type defined: header, literal",
			p + "tags[3].header.name: must not be empty",
		}},
	})
}
