package meshpassthrough_test

import (
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshpassthrough"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

func TestValidate(t *testing.T) {
	match := func(matches ...string) string { return "default: {appendMatch: [" + strings.Join(matches, ", ") + "]}" }
	const at = "spec.default.appendMatch"
	domain := func(name string) string {
		return match("{type: Domain, value: '" + name + "', port: 443, protocol: tls}")
	}
	const badDomain = at + "[0].value: provided DNS has incorrect value"
	policytest.Validate(t, meshpassthrough.Kind(), []policytest.Case{
		{Name: "nothing", Spec: ""},
		{Name: "mode", Spec: "targetRef: {kind: MeshSubset, tags: {a: b}, proxyTypes: [Sidecar]}, default: {passthroughMode: None}"},
		{Name: "matches", Spec: match("{type: Domain, value: '*.A_b.com', protocol: tls}", "{type: IP, value: 'fd00::1', port: 1, protocol: tcp}", "{type: CIDR, value: 10.1.2.3/16, port: 65535, protocol: grpc}", "{type: Domain, value: a, protocol: http}")},
		{Name: "top", Spec: "targetRef: {kind: MeshService, name: a}", Want: []string{"spec.targetRef.kind: value is not supported"}},
		{Name: "enumerations", Spec: "default: {passthroughMode: Some, appendMatch: [{type: Host, value: a, protocol: udp}]}", Want: []string{"spec.default.passthroughMode: in body should be one of [All Matched None]", at + "[0].type: in body should be one of [Domain IP CIDR]", at + "[0].protocol: in body should be one of [tcp tls grpc http http2]"}},
		{Name: "missing", Spec: match("{}"), Want: []string{at + "[0].type: in body is required", at + "[0].value: in body is required"}},
		{Name: "empty match", Spec: match("{type: '', value: ''}"), Want: []string{at + `[0].protocol: "protocol" must be one of ["tcp", "tls", "grpc", "http", "http2"]`, at + `[0].type: "type" must be one of ["Domain", "IP", "CIDR"]`}},
		{Name: "ports", Spec: match("{type: IP, value: 10.0.0.1, port: 0, protocol: tcp}", "{type: IP, value: 10.0.0.1, port: 65536, protocol: tcp}"), Want: []string{at + "[0].port: port must be in the range [1, 65535]", at + "[1].port: port must be in the range [1, 65535]"}},
		{Name: "address", Spec: match("{type: IP, value: 10.0.0.1/8, protocol: tcp}", "{type: IP, value: 'fe80::1%eth0', protocol: tcp}"), Want: []string{at + "[0].value: provided IP has incorrect value", at + "[1].value: provided IP has incorrect value"}},
		{Name: "range", Spec: match("{type: CIDR, value: 10.0.0.0/33, protocol: tcp}", "{type: CIDR, value: 10.0.0.1, protocol: tcp}"), Want: []string{at + "[0].value: provided CIDR has incorrect value", at + "[1].value: provided CIDR has incorrect value"}},
		{Name: "wildcard in the middle", Spec: domain("a.*.com"), Want: []string{badDomain}},
		{Name: "partial wildcard", Spec: domain("*a.com"), Want: []string{badDomain + ", partial wildcard is currently not supported"}},
		{Name: "only a wildcard", Spec: domain("*"), Want: []string{badDomain + ", partial wildcard is currently not supported"}},
		{Name: "wildcard of nothing", Spec: domain("*."), Want: []string{badDomain}},
		{Name: "no domain", Spec: domain(""), Want: []string{badDomain}},
		{Name: "empty label", Spec: domain("a..b"), Want: []string{badDomain}},
		{Name: "dash", Spec: domain("-a.com"), Want: []string{badDomain}},
		{Name: "with port", Spec: domain("a.com:443"), Want: []string{badDomain}},
		{Name: "address as domain", Spec: domain("10.0.0.1"), Want: []string{badDomain}},
		{Name: "long label", Spec: domain(strings.Repeat("a", 64) + ".com"), Want: []string{badDomain}},
		{Name: "long domain", Spec: domain(strings.Repeat("a.", 126) + "aa"), Want: []string{badDomain}},
		{Name: "all at once", Spec: match("{type: Domain, value: '*.a.com', protocol: grpc}", "{type: Domain, value: a.com, protocol: tcp}"), Want: []string{at + "[0].port: wildcard domains doesn't work for all ports and layer 7 protocol", at + "[1].protocol: protocol tcp is not supported for a domain"}},
		{Name: "two protocols on a port", Spec: match("{type: Domain, value: a.com, port: 80, protocol: http}", "{type: Domain, value: b.com, port: 80, protocol: grpc}", "{type: Domain, value: c.com, port: 80, protocol: tls}", "{type: Domain, value: c.com, protocol: http2}"), Want: []string{at + "[1].port: using the same port in multiple matches requires the same protocol for the following protocols: [grpc http http2]"}},
		{Name: "twice", Spec: match("{type: IP, value: 10.0.0.1, protocol: tcp}", "{type: IP, value: 10.0.0.1, protocol: tls}", "{type: IP, value: 10.0.0.1, port: 1, protocol: tcp}", "{type: IP, value: 10.0.0.1, protocol: tcp}"), Want: []string{at + "[3].value: value 10.0.0.1 is already defiend for this port and protocol"}},
	})
}
