package meshhttproute_test

import (
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshhttproute"
	"github.com/kuma-dp/kuma-dp/policy/policytest"
)

const (
	rule0 = "spec.to[0].rules[0]."
	match = rule0 + "matches[0]."
	conf  = rule0 + "default."
	flt0  = conf + "filters[0]."
)

func rules(s string) string {
	return "to: [{targetRef: {kind: MeshService, name: s}, rules: " + s + "}]"
}

// matching is a spec with one match, filter one with one filter below a prefix.
func matching(s string) string { return rules("[{matches: [" + s + "], default: {}}]") }

func filter(s string) string {
	return rules("[{matches: [{path: {type: PathPrefix, value: /a}}], default: {filters: [" + s + "]}}]")
}

func onGateway(conf string) string {
	return "targetRef: {kind: MeshGateway, name: g, tags: {a: b}}, to: [{targetRef: {kind: Mesh}, hostnames: [a.example], rules: [{matches: [{}], default: {" + conf + "}}]}]"
}

func TestValidateTargetsAndMatches(t *testing.T) {
	const slash = "does not need a trailing slash because only a `/`-separated prefix or an entire path is matched"
	policytest.Validate(t, meshhttproute.Kind(), []policytest.Case{
		{Name: "nothing", Want: []string{"spec.to: needs at least one item"}},
		{Name: "no rules", Spec: "to: [{targetRef: {kind: MeshExternalService, name: s}}, {targetRef: {kind: MeshMultiZoneService, name: s}, rules: []}]"},
		{Name: "mesh", Spec: "to: [{targetRef: {kind: Mesh}, hostnames: [a]}]", Want: []string{"spec.to[0].targetRef.kind: value is not supported", "spec.to[0].hostnames: must not be defined"}},
		{Name: "top", Spec: "targetRef: {kind: MeshHTTPRoute, name: a}, to: [{targetRef: {kind: MeshService, name: s}}]", Want: []string{"spec.targetRef.kind: value is not supported"}},
		{Name: "gateway", Spec: onGateway("backendRefs: [{kind: MeshService, name: a}]")},
		{Name: "gateway redirects", Spec: onGateway("filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]")},
		{Name: "gateway without backends", Spec: onGateway(""), Want: []string{conf + "backendRefs: must not be empty"}},
		{Name: "service of a gateway", Spec: "targetRef: {kind: MeshGateway, name: g}, to: [{targetRef: {kind: MeshService, name: s}}]", Want: []string{"spec.to[0].targetRef.kind: value is not supported"}},
		{Name: "root", Spec: matching("{path: {type: PathPrefix, value: /}}")},
		{Name: "prefix", Spec: matching("{path: {type: PathPrefix, value: b/}}"), Want: []string{match + "path.value: " + slash, match + "path.value: must be an absolute path"}},
		{Name: "exact", Spec: matching("{path: {type: Exact, value: b/}}"), Want: []string{match + "path.value: must be an absolute path"}},
		{Name: "expression", Spec: matching("{path: {type: RegularExpression, value: .*/}}")},
		{Name: "twice", Spec: matching("{queryParams: [{type: Exact, name: q, value: a}, {type: Exact, name: r, value: b}, {type: RegularExpression, name: q, value: b}]}"), Want: []string{match + "queryParams[2].name: multiple entries for name q"}},
		{Name: "no matches", Spec: rules("[{default: {}}, {matches: [], default: {}}]"), Want: []string{rule0 + "matches: in body is required", "spec.to[0].rules[1].matches: in body should have at least 1 items"}},
		{Name: "schema", Spec: matching("{path: {type: prefix, value: \"\"}, method: get, queryParams: [{type: x, value: a}, {name: a}], headers: [{type: x, name: A}, {name: \"\"}, {name: " + strings.Repeat("a", 257) + "}]}"), Want: []string{
			match + "headers[0].name: in body should match '^[a-z0-9!#$%&'*+\\-.^_\\x60|~]+$'",
			match + "headers[0].type: in body should be one of [Exact Present RegularExpression Absent Prefix]",
			match + "headers[1].name: in body should be at least 1 chars long",
			match + "headers[2].name: in body should be at most 256 chars long",
			match + "method: in body should be one of [CONNECT DELETE GET HEAD OPTIONS PATCH POST PUT TRACE]",
			match + "path.type: in body should be one of [Exact PathPrefix RegularExpression]",
			match + "path.value: in body should be at least 1 chars long",
			match + "queryParams[0].name: in body is required",
			match + "queryParams[0].type: in body should be one of [Exact RegularExpression]",
			match + "queryParams[1].type: in body is required",
			match + "queryParams[1].value: in body is required",
		}},
	})
}

func TestValidateFilters(t *testing.T) {
	const hostname = `in body should match '^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'`
	const byPrefix = "can only appear if all matches match a path prefix"
	many := strings.TrimSuffix(strings.Repeat("a, ", 17), ", ")
	policytest.Validate(t, meshhttproute.Kind(), []policytest.Case{
		{Name: "bodies", Spec: filter("{type: RequestHeaderModifier}, {type: ResponseHeaderModifier}, {type: RequestRedirect}, {type: URLRewrite}, {type: RequestMirror}"), Want: []string{
			conf + "filters[0].requestHeaderModifier: must be defined",
			conf + "filters[1].responseHeaderModifier: must be defined",
			conf + "filters[2].requestRedirect: must be defined",
			conf + "filters[3].urlRewrite: must be defined",
			conf + "filters[4].requestMirror: must be defined",
		}},
		{Name: "type", Spec: filter("{type: x}, {}"), Want: []string{
			flt0 + "type: in body should be one of [RequestHeaderModifier ResponseHeaderModifier RequestRedirect URLRewrite RequestMirror]",
			conf + "filters[1].type: in body is required",
		}},
		{Name: "headers twice", Spec: filter("{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: v}, {name: a, value: v}], add: [{name: a, value: v}, {name: b, value: v}, {name: b, value: v}], remove: [c, a, c]}}"), Want: []string{
			flt0 + "requestHeaderModifier.set[1].name: duplicate header name",
			flt0 + "requestHeaderModifier.add[2].name: duplicate header name",
			flt0 + "requestHeaderModifier.remove[2]: duplicate header name",
		}},
		{Name: "too many", Spec: filter("{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [" + many + "]}}"), Want: []string{flt0 + "responseHeaderModifier.remove: in body should have at most 16 items"}},
		{Name: "redirect schema", Spec: filter("{type: RequestRedirect, requestRedirect: {scheme: ftp, hostname: a..b, path: {type: x}, port: 0, statusCode: 304}}"), Want: []string{
			flt0 + "requestRedirect.scheme: in body should be one of [http https]",
			flt0 + "requestRedirect.hostname: " + hostname,
			flt0 + "requestRedirect.path.type: in body should be one of [ReplaceFullPath ReplacePrefixMatch]",
			flt0 + "requestRedirect.port: in body should be greater than or equal to 1",
			flt0 + "requestRedirect.statusCode: in body should be one of [301 302 303 307 308]",
		}},
		{Name: "hostnames", Spec: filter("{type: URLRewrite, urlRewrite: {hostname: -a}}, {type: URLRewrite, urlRewrite: {hostname: \"a:1\"}}, {type: URLRewrite, urlRewrite: {hostname: " + strings.Repeat("a", 254) + "}}"), Want: []string{
			flt0 + "urlRewrite.hostname: " + hostname,
			conf + "filters[1].urlRewrite.hostname: " + hostname,
			conf + "filters[2].urlRewrite.hostname: in body should be at most 253 chars long",
		}},
		{Name: "addresses", Spec: filter("{type: RequestRedirect, requestRedirect: {hostname: 1.2.3.4}}, {type: URLRewrite, urlRewrite: {hostname: 1.2.3.4}}"), Want: []string{
			flt0 + "requestRedirect.hostname: cannot be an IP address",
			conf + "filters[1].urlRewrite.hostname: cannot be an IP address",
		}},
		{Name: "paths", Spec: filter("{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath}}}, {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch}}}"), Want: []string{
			flt0 + "requestRedirect.path.replaceFullPath: must be defined",
			conf + "filters[1].urlRewrite.path.replacePrefixMatch: must be defined",
		}},
		{Name: "prefix of a mere method", Spec: rules("[{matches: [{path: {type: PathPrefix, value: /a}}, {method: GET}], default: {filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: \"\"}}}]}}]"), Want: []string{flt0 + "urlRewrite.path.type: " + byPrefix}},
		{Name: "prefix of an exact path", Spec: rules("[{matches: [{path: {type: Exact, value: /a}}], default: {filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]}}]"), Want: []string{flt0 + "requestRedirect.path.type: " + byPrefix}},
		{Name: "backend's host", Spec: filter("{type: URLRewrite, urlRewrite: {hostToBackendHostname: true, hostname: a}}"), Want: []string{
			flt0 + "urlRewrite.hostToBackendHostname: can only be set with MeshGateway",
			flt0 + "urlRewrite.hostToBackendHostname: cannot be set together with hostname",
		}},
		{Name: "backend's host of a gateway", Spec: onGateway("filters: [{type: URLRewrite, urlRewrite: {hostToBackendHostname: true}}], backendRefs: [{kind: MeshExternalService, name: a}]")},
		{Name: "mirror", Spec: filter("{type: RequestMirror, requestMirror: {percentage: \"100.01\", backendRef: {kind: Mesh}}}, {type: RequestMirror, requestMirror: {percentage: x, backendRef: {kind: MeshMultiZoneService}}}"), Want: []string{
			flt0 + "requestMirror.percentage: must be in inclusive range [0.0, 100.0]",
			flt0 + "requestMirror.backendRef.kind: value is not supported",
			conf + "filters[1].requestMirror.percentage: string must be a valid number",
			conf + "filters[1].requestMirror.backendRef.port: must be defined with kind MeshMultiZoneService",
		}},
		{Name: "backend schema", Spec: rules("[{matches: [{}], default: {filters: [{type: RequestMirror, requestMirror: {backendRef: {kind: x}}}], backendRefs: [{kind: z}]}}]"), Want: []string{
			flt0 + "requestMirror.backendRef.kind: in body should be one of [Mesh MeshSubset MeshGateway MeshService MeshExternalService MeshMultiZoneService MeshServiceSubset MeshHTTPRoute]",
			conf + "backendRefs[0].kind: in body should be one of [Mesh MeshSubset MeshGateway MeshService MeshExternalService MeshMultiZoneService MeshServiceSubset MeshHTTPRoute]",
		}},
	})
}
