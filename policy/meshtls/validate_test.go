package meshtls_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshtls"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestValidate(t *testing.T) {
	policytest.Validate(t, meshtls.Kind(), []policytest.Case{
		{Name: "nothing"},
		{Name: "no from", Spec: "targetRef: {kind: Mesh, proxyTypes: [Sidecar]}, from: []"},
		{Name: "all", Spec: "from: [{targetRef: {kind: Mesh}, default: {mode: Strict, tlsVersion: {min: TLS12, max: TLS13}, tlsCiphers: [ECDHE-RSA-CHACHA20-POLY1305]}}]"},
		{Name: "mode of a subset", Spec: "targetRef: {kind: MeshSubset, tags: {a: b}}, from: [{targetRef: {kind: Mesh}, default: {mode: Permissive}}]"},
		{Name: "one version", Spec: "from: [{targetRef: {kind: Mesh}, default: {tlsVersion: {min: TLS12, max: TLS12}}}]"},
		{Name: "auto is no bound", Spec: "from: [{targetRef: {kind: Mesh}, default: {tlsVersion: {min: TLS13, max: TLSAuto}}}]"},
		{Name: "reversed", Spec: "from: [{targetRef: {kind: Mesh}, default: {tlsVersion: {min: TLS13, max: TLS12}}}]", Want: []string{"spec.from[0].default.tlsVersion.min: min version must be lower than max"}},
		{Name: "schema", Spec: "targetRef: {kind: MeshService}, from: [{targetRef: {kind: MeshSubset}, default: {mode: x, tlsVersion: {min: SSL3, max: TLS14}, tlsCiphers: [\"\"]}}]", Want: []string{
			"spec.from[0].default.mode: in body should be one of [Permissive Strict]",
			"spec.from[0].default.tlsCiphers[0]: in body should be one of [ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-ECDSA-CHACHA20-POLY1305 ECDHE-RSA-AES128-GCM-SHA256 ECDHE-RSA-AES256-GCM-SHA384 ECDHE-RSA-CHACHA20-POLY1305]",
			"spec.from[0].default.tlsVersion.max: in body should be one of [TLSAuto TLS10 TLS11 TLS12 TLS13]",
			"spec.from[0].default.tlsVersion.min: in body should be one of [TLSAuto TLS10 TLS11 TLS12 TLS13]",
		}},
		{Name: "targets", Spec: "targetRef: {kind: MeshService, name: a}, from: [{targetRef: {kind: MeshSubset}, default: {}}]", Want: []string{
			"spec.targetRef.kind: value is not supported",
			"spec.from[0].targetRef.kind: value is not supported",
		}},
	})
}
