// Package meshhttproute sends requests to other services than they were made for, and changes them on the way (contract
// policies.md §3.7, §4.7).
package meshhttproute

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Spec is the body of a MeshHTTPRoute.
type Spec struct {
	// TargetRef is the proxies whose requests are routed, the whole mesh when absent.
	TargetRef *policy.TargetRef `json:"targetRef,omitempty"`
	// To is rules by destination.
	To []To `json:"to,omitempty"`
}

// To is a destination with its rules.
type To struct {
	// TargetRef is the destination that the requests were made for.
	TargetRef policy.TargetRef `json:"targetRef"`
	Conf
}

// Conf is what an item says, and what the items of several policies are merged into, one for every hostname.
type Conf struct {
	// Hostnames belong to a top-level MeshGateway.
	Hostnames []string `json:"hostnames,omitempty"`
	// Rules are tried in their order.
	Rules []Rule `json:"rules,omitzero"`
}

// Rule takes the requests that one of its matches takes.
type Rule struct {
	// Matches are requests that the rule takes: those of any of them.
	Matches []Match `json:"matches" schema:"required"`
	// Default is what happens to them.
	Default RuleConf `json:"default" schema:"required"`
}

// RuleConf is what happens to requests. Lists are told apart from absent ones when they are empty.
type RuleConf struct {
	// Filters changes of requests and answers.
	Filters []Filter `json:"filters,omitzero"`
	// BackendRefs says where requests go; without any they go to the destination.
	BackendRefs []policy.BackendRef `json:"backendRefs,omitzero"`
}

// Match takes requests with all that it names. The order of the fields here and in the types of its members is that of
// Kuma: Hash depends on it.
type Match struct {
	// Path compares the path.
	Path *PathMatch `json:"path,omitempty"`
	// Method is the method, such as GET.
	Method string `json:"method,omitempty"`
	// QueryParams compare parameters of the query.
	QueryParams []QueryMatch `json:"queryParams,omitempty"`
	// Headers compare headers.
	Headers []HeaderMatch `json:"headers,omitempty"`
}

// PathMatch matches the path; Type is Exact, PathPrefix or RegularExpression. A prefix ends at a slash or the end.
type PathMatch struct {
	// Value is the path, or the expression.
	Value string `json:"value" schema:"required"`
	// Type is Exact, PathPrefix or RegularExpression.
	Type string `json:"type" schema:"required"`
}

// QueryMatch matches a parameter of the query; Type is Exact or RegularExpression.
type QueryMatch struct {
	// Type is Exact or RegularExpression.
	Type string `json:"type" schema:"required"`
	// Name is the parameter.
	Name string `json:"name" schema:"required"`
	// Value is what its value is compared with.
	Value string `json:"value" schema:"required"`
}

// HeaderMatch matches a header; Type is Exact (also when empty), Present, RegularExpression, Absent or Prefix.
type HeaderMatch struct {
	// Type is Exact (also when empty), Present, RegularExpression, Absent or Prefix.
	Type string `json:"type,omitempty" k8s:"Exact"`
	// Name is the header, in lower case.
	Name string `json:"name" schema:"required"`
	// Value is what its value is compared with.
	Value string `json:"value,omitempty"`
}

// Filter changes requests or answers; the member that belongs to the Type says how.
type Filter struct {
	// Type is RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect, URLRewrite or RequestMirror.
	Type string `json:"type" schema:"required"`
	// RequestHeaderModifier changes headers of the request.
	RequestHeaderModifier *HeaderModifier `json:"requestHeaderModifier,omitempty"`
	// ResponseHeaderModifier changes headers of the answer.
	ResponseHeaderModifier *HeaderModifier `json:"responseHeaderModifier,omitempty"`
	// RequestRedirect answers with another location.
	RequestRedirect *Redirect `json:"requestRedirect,omitempty"`
	// URLRewrite changes host and path.
	URLRewrite *Rewrite `json:"urlRewrite,omitempty"`
	// RequestMirror sends a copy elsewhere.
	RequestMirror *Mirror `json:"requestMirror,omitempty"`
}

// HeaderModifier sets, adds and removes headers, in this order.
type HeaderModifier struct {
	policy.HeaderModifier
	// Remove names of headers to take away.
	Remove []string `json:"remove,omitempty"`
}

// Redirect answers the request with another location; what is absent stays as in the request.
type Redirect struct {
	// Scheme is http or https.
	Scheme string `json:"scheme,omitempty"`
	// Hostname is the new host.
	Hostname string `json:"hostname,omitempty"`
	// Path is the new path.
	Path *PathRewrite `json:"path,omitempty"`
	// Port is the new port.
	Port *uint32 `json:"port,omitempty"`
	// StatusCode is 301, 302 (when absent), 303, 307 or 308.
	StatusCode *uint32 `json:"statusCode,omitempty" k8s:"302"`
}

// Rewrite changes host and path of the request.
type Rewrite struct {
	// Hostname is the new host.
	Hostname string `json:"hostname,omitempty"`
	// Path is the new path.
	Path *PathRewrite `json:"path,omitempty"`
	// HostToBackendHostname is for a top-level MeshGateway only.
	HostToBackendHostname bool `json:"hostToBackendHostname,omitempty"`
}

// PathRewrite replaces the path or the prefix that matched; Type is ReplaceFullPath or ReplacePrefixMatch.
type PathRewrite struct {
	// Type is ReplaceFullPath or ReplacePrefixMatch.
	Type string `json:"type" schema:"required"`
	// ReplaceFullPath is the new path.
	ReplaceFullPath *string `json:"replaceFullPath,omitempty"`
	// ReplacePrefixMatch is what takes the place of the prefix that matched.
	ReplacePrefixMatch *string `json:"replacePrefixMatch,omitempty"`
}

// Mirror sends a copy of the request to a backend and forgets the answer.
type Mirror struct {
	// Percentage is the share of requests to copy, a policy.Decimal; absent means all.
	Percentage *resource.IntOrString `json:"percentage,omitempty"`
	// BackendRef is where the copy goes.
	BackendRef policy.BackendRef `json:"backendRef" schema:"required"`
}

// Values of the enumerations.
const (
	Exact             = "Exact"
	PathPrefix        = "PathPrefix"
	RegularExpression = "RegularExpression"

	HeaderPresent = "Present"
	HeaderAbsent  = "Absent"
	HeaderPrefix  = "Prefix"

	RequestHeaderModifierType  = "RequestHeaderModifier"
	ResponseHeaderModifierType = "ResponseHeaderModifier"
	RequestRedirectType        = "RequestRedirect"
	URLRewriteType             = "URLRewrite"
	RequestMirrorType          = "RequestMirror"

	ReplaceFullPath    = "ReplaceFullPath"
	ReplacePrefixMatch = "ReplacePrefixMatch"
)

// Target implements policy.Targeted.
func (s *Spec) Target() policy.TargetRef { return policy.TargetOrMesh(s.TargetRef) }

// ToItems implements policy.Targeted.
func (s *Spec) ToItems() []policy.Item {
	out := make([]policy.Item, len(s.To))
	for i := range s.To {
		out[i] = policy.Item{TargetRef: s.To[i].TargetRef, Conf: &s.To[i].Conf}
	}
	return out
}

// FromItems implements policy.Targeted.
func (*Spec) FromItems() []policy.Item { return nil }

// Default implements policy.Targeted.
func (*Spec) Default() any { return nil }
