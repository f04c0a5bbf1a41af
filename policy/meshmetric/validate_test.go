package meshmetric_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshmetric"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestValidate(t *testing.T) {
	const p = "spec.default."
	policytest.Validate(t, meshmetric.Kind(), []policytest.Case{
		{Name: "good", Spec: "targetRef: {kind: MeshGateway, name: g, tags: {a: b}}, default: {sidecar: {includeUnused: true, profiles: {appendProfiles: [{name: All}, {name: None}], exclude: [{type: Regex, match: a.*}], include: [{type: Prefix, match: \"[\"}, {type: Contains, match: a}]}}, applications: [{name: a, path: /m, address: 127.0.0.1, port: 1}, {port: 65535}], backends: [{type: Prometheus, prometheus: {clientId: a, port: 1, path: /m, tls: {mode: ProvidedTLS}}}, {type: OpenTelemetry, openTelemetry: {endpoint: \"a:4317\", refreshInterval: 1s}}, {type: OpenTelemetry, openTelemetry: {endpoint: \"[::1]:4317\"}}]}"},
		{Name: "nothing", Spec: ""},
		{Name: "no backends", Spec: "default: {backends: []}"},
		{Name: "route", Spec: "targetRef: {kind: MeshHTTPRoute, name: r}", Want: []string{"spec.targetRef.kind: value is not supported"}},
		{Name: "schema first", Spec: "default: {sidecar: {profiles: {appendProfiles: [{name: X}, {}], exclude: [{match: a}], include: [{type: x}]}}, backends: [{type: Prometheus, prometheus: {tls: {mode: x}}}, {type: x}, {}, {type: Prometheus, prometheus: {port: 70000, path: /m}}]}", Want: []string{
			p + "backends[0].prometheus.path: in body is required",
			p + "backends[0].prometheus.port: in body is required",
			p + "backends[0].prometheus.tls.mode: in body should be one of [Disabled ProvidedTLS ActiveMTLSBackend]",
			p + "backends[1].type: in body should be one of [Prometheus OpenTelemetry]",
			p + "backends[2].type: in body is required",
			p + "sidecar.profiles.appendProfiles[0].name: in body should be one of [All Basic None]",
			p + "sidecar.profiles.appendProfiles[1].name: in body is required",
			p + "sidecar.profiles.exclude[0].type: in body is required",
			p + "sidecar.profiles.include[0].match: in body is required",
			p + "sidecar.profiles.include[0].type: in body should be one of [Prefix Regex Exact Contains]",
		}},
		{Name: "missing", Spec: "default: {applications: [{}], backends: [{type: OpenTelemetry, openTelemetry: {}}]}", Want: []string{p + "applications[0].port: in body is required", p + "backends[0].openTelemetry.endpoint: in body is required"}},
		{Name: "values", Spec: "default: {sidecar: {profiles: {exclude: [{type: Regex, match: \"[\"}], include: [{type: Regex, match: \"(\"}]}}, applications: [{port: 0}, {port: 65536}], backends: [{type: Prometheus, prometheus: {port: 0, path: /m}}, {type: OpenTelemetry, openTelemetry: {endpoint: \"http://x:1\", refreshInterval: 0s}}, {type: OpenTelemetry, openTelemetry: {endpoint: \"\"}}, {type: OpenTelemetry, openTelemetry: {endpoint: \"a b\"}}, {type: Prometheus}, {type: OpenTelemetry}]}", Want: []string{
			p + "sidecar.profiles.exclude[0].match: invalid regex",
			p + "sidecar.profiles.include[0].match: invalid regex",
			p + "applications[0].port: port must be a valid (1-65535)",
			p + "applications[1].port: port must be a valid (1-65535)",
			p + "backends[0].prometheus.port: port must be a valid (1-65535)",
			p + "backends[1].openTelemetry.endpoint: must not use schema",
			p + "backends[1].openTelemetry.refreshInterval: must be greater than zero when defined",
			p + "backends[2].openTelemetry.endpoint: must be a valid url",
			p + "backends[3].openTelemetry.endpoint: must be a valid url",
			p + "backends[4].prometheus: must be defined",
			p + "backends[5].openTelemetry: must be defined",
		}},
	})
}
