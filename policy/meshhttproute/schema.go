// Package meshhttproute sends requests to other services than they were made for, and changes them on the way (contract
// policies.md §3.7, §4.7).
package meshhttproute

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Spec is the body of a MeshHTTPRoute.
type Spec struct {
	TargetRef *policy.TargetRef `json:"targetRef,omitempty"`
	To        []To              `json:"to,omitempty"`
}

// To is a destination with its rules.
type To struct {
	TargetRef policy.TargetRef `json:"targetRef"`
	Conf
}

// Conf is what an item says, and what the items of several policies are merged into, one for every hostname.
type Conf struct {
	// Hostnames belong to a top-level MeshGateway.
	Hostnames []string `json:"hostnames,omitempty"`
	Rules     []Rule   `json:"rules,omitzero"`
}

// Rule takes the requests that one of its matches takes.
type Rule struct {
	Matches []Match  `json:"matches"`
	Default RuleConf `json:"default"`
}

// RuleConf is what happens to requests. Lists are told apart from absent ones when they are empty.
type RuleConf struct {
	Filters []Filter `json:"filters,omitzero"`
	// BackendRefs says where requests go; without any they go to the destination.
	BackendRefs []policy.BackendRef `json:"backendRefs,omitzero"`
}

// Match takes requests with all that it names. The order of the fields here and in the types of its members is that of
// Kuma: Hash depends on it.
type Match struct {
	Path        *PathMatch    `json:"path,omitempty"`
	Method      string        `json:"method,omitempty"`
	QueryParams []QueryMatch  `json:"queryParams,omitempty"`
	Headers     []HeaderMatch `json:"headers,omitempty"`
}

// PathMatch matches the path; Type is Exact, PathPrefix or RegularExpression. A prefix ends at a slash or the end.
type PathMatch struct {
	Value string `json:"value"`
	Type  string `json:"type"`
}

// QueryMatch matches a parameter of the query; Type is Exact or RegularExpression.
type QueryMatch struct {
	Type  string `json:"type"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// HeaderMatch matches a header; Type is Exact (also when empty), Present, RegularExpression, Absent or Prefix.
type HeaderMatch struct {
	Type  string `json:"type,omitempty"`
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

// Filter changes requests or answers; the member that belongs to the Type says how.
type Filter struct {
	// Type is RequestHeaderModifier, ResponseHeaderModifier, RequestRedirect, URLRewrite or RequestMirror.
	Type                   string          `json:"type"`
	RequestHeaderModifier  *HeaderModifier `json:"requestHeaderModifier,omitempty"`
	ResponseHeaderModifier *HeaderModifier `json:"responseHeaderModifier,omitempty"`
	RequestRedirect        *Redirect       `json:"requestRedirect,omitempty"`
	URLRewrite             *Rewrite        `json:"urlRewrite,omitempty"`
	RequestMirror          *Mirror         `json:"requestMirror,omitempty"`
}

// HeaderModifier sets, adds and removes headers, in this order.
type HeaderModifier struct {
	policy.HeaderModifier
	Remove []string `json:"remove,omitempty"`
}

// Redirect answers the request with another location; what is absent stays as in the request.
type Redirect struct {
	// Scheme is http or https.
	Scheme   string       `json:"scheme,omitempty"`
	Hostname string       `json:"hostname,omitempty"`
	Path     *PathRewrite `json:"path,omitempty"`
	Port     *uint32      `json:"port,omitempty"`
	// StatusCode is 301, 302 (when absent), 303, 307 or 308.
	StatusCode *uint32 `json:"statusCode,omitempty"`
}

// Rewrite changes host and path of the request.
type Rewrite struct {
	Hostname string       `json:"hostname,omitempty"`
	Path     *PathRewrite `json:"path,omitempty"`
	// HostToBackendHostname is for a top-level MeshGateway only.
	HostToBackendHostname bool `json:"hostToBackendHostname,omitempty"`
}

// PathRewrite replaces the path or the prefix that matched; Type is ReplaceFullPath or ReplacePrefixMatch.
type PathRewrite struct {
	Type               string  `json:"type"`
	ReplaceFullPath    *string `json:"replaceFullPath,omitempty"`
	ReplacePrefixMatch *string `json:"replacePrefixMatch,omitempty"`
}

// Mirror sends a copy of the request to a backend and forgets the answer.
type Mirror struct {
	// Percentage is the share of requests to copy, a policy.Decimal; absent means all.
	Percentage *resource.IntOrString `json:"percentage,omitempty"`
	BackendRef policy.BackendRef     `json:"backendRef"`
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
