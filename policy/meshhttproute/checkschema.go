package meshhttproute

import (
	"strings"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// CheckSchema implements resource.SchemaChecker.
func (s *Spec) CheckSchema() []resource.Violation {
	return policy.CheckSchemaItems(s, func(f *resource.Faults, p resource.Path, item policy.Item) {
		c, ok := item.Conf.(*Conf)
		if !ok {
			return
		}
		for i, rule := range c.Rules {
			rule.checkSchema(f, p.Field("rules").Index(i))
		}
	})
}

func (r *Rule) checkSchema(f *resource.Faults, p resource.Path) {
	for i, filter := range r.Default.Filters {
		filter.checkSchema(f, p.Field("default").Field("filters").Index(i))
	}
	for i, ref := range r.Default.BackendRefs {
		ref.CheckSchema(f, p.Field("default").Field("backendRefs").Index(i))
	}
	switch {
	case r.Matches == nil:
		f.Add(p.Field("matches"), "in body is required")
	case len(r.Matches) == 0:
		f.Add(p.Field("matches"), "in body should have at least 1 items")
	}
	for i, m := range r.Matches {
		m.checkSchema(f, p.Field("matches").Index(i))
	}
}

func (m *Match) checkSchema(f *resource.Faults, p resource.Path) {
	if m.Path != nil {
		policy.NeedOneOf(f, p.Field("path").Field("type"), m.Path.Type, Exact, PathPrefix, RegularExpression)
		policy.NeedText(f, p.Field("path").Field("value"), m.Path.Value)
	}
	f.OneOf(p.Field("method"), m.Method, "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")
	for i, q := range m.QueryParams {
		p := p.Field("queryParams").Index(i)
		policy.NeedOneOf(f, p.Field("type"), q.Type, Exact, RegularExpression)
		policy.NeedText(f, p.Field("name"), q.Name)
	}
	for i, h := range m.Headers {
		p := p.Field("headers").Index(i)
		f.OneOf(p.Field("type"), h.Type, Exact, HeaderPresent, RegularExpression, HeaderAbsent, HeaderPrefix)
		policy.CheckHeaderName(f, p.Field("name"), h.Name)
	}
}

// maxRemoved is the schema's limit of HeaderModifier.Remove.
const maxRemoved = 16

func (t *Filter) checkSchema(f *resource.Faults, p resource.Path) {
	policy.NeedOneOf(f, p.Field("type"), t.Type,
		RequestHeaderModifierType, ResponseHeaderModifierType, RequestRedirectType, URLRewriteType, RequestMirrorType)
	t.RequestHeaderModifier.checkSchema(f, p.Field("requestHeaderModifier"))
	t.ResponseHeaderModifier.checkSchema(f, p.Field("responseHeaderModifier"))
	if r := t.RequestRedirect; r != nil {
		p := p.Field("requestRedirect")
		f.OneOf(p.Field("scheme"), r.Scheme, "http", "https")
		checkHostname(f, p.Field("hostname"), r.Hostname)
		r.Path.checkSchema(f, p.Field("path"))
		policy.CheckBounds(f, p.Field("port"), r.Port, 1, 65535)
		if r.StatusCode != nil {
			switch *r.StatusCode {
			case 301, 302, 303, 307, 308:
			default:
				f.Add(p.Field("statusCode"), "in body should be one of [301 302 303 307 308]")
			}
		}
	}
	if r := t.URLRewrite; r != nil {
		p := p.Field("urlRewrite")
		checkHostname(f, p.Field("hostname"), r.Hostname)
		r.Path.checkSchema(f, p.Field("path"))
	}
	if t.RequestMirror != nil {
		t.RequestMirror.BackendRef.CheckSchema(f, p.Field("requestMirror").Field("backendRef"))
	}
}

func (m *HeaderModifier) checkSchema(f *resource.Faults, p resource.Path) {
	if m == nil {
		return
	}
	m.CheckSchema(f, p)
	if len(m.Remove) > maxRemoved {
		f.Add(p.Field("remove"), "in body should have at most 16 items")
	}
}

func (r *PathRewrite) checkSchema(f *resource.Faults, p resource.Path) {
	if r != nil {
		policy.NeedOneOf(f, p.Field("type"), r.Type, ReplaceFullPath, ReplacePrefixMatch)
	}
}

// The syntax of names of hosts (contract policies.md §1.2).
const (
	hostnameSyntax    = `^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	maxHostnameLength = 253
)

// checkHostname keeps out what Envoy would refuse as a host, with the rest of the proxy's configuration; an empty name
// passes.
func checkHostname(f *resource.Faults, p resource.Path, name string) {
	if name == "" {
		return
	}
	if len(name) > maxHostnameLength {
		f.Add(p, "in body should be at most 253 chars long")
		return
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" ||
			label[0] == '-' || label[len(label)-1] == '-' {
			f.Add(p, "in body should match '"+hostnameSyntax+"'")
			return
		}
	}
}
