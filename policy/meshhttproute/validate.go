package meshhttproute

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

var _ policy.Targeted = (*Spec)(nil)

// Validate implements resource.Spec (contract policies.md §3.1, §3.7).
func (s *Spec) Validate(meta *resource.Meta) []resource.Violation {
	grammar := policy.Grammar{
		Top:         policy.AnyTop(),
		TopSystem:   []string{policy.MeshGateway},
		To:          policy.RouteDestinations,
		GatewayTags: true,
	}
	onGateway := s.Target().Kind == policy.MeshGateway
	return policy.ValidateItems(s, meta, grammar, func(f *resource.Faults, p resource.Path, item policy.Item) {
		c, ok := item.Conf.(*Conf)
		if !ok {
			return
		}
		for i, rule := range c.Rules {
			rule.validate(f, p.Field("rules").Index(i), onGateway)
		}
		if len(c.Hostnames) > 0 && !onGateway {
			f.Add(p.Field("hostnames"), "must not be defined")
		}
	})
}

func (r *Rule) validate(f *resource.Faults, p resource.Path, onGateway bool) {
	for i, m := range r.Matches {
		m.validate(f, p.Field("matches").Index(i))
	}
	p = p.Field("default")
	// The prefix that a rewrite replaces is the one that matched.
	byPrefix := !slices.ContainsFunc(r.Matches, func(m Match) bool { return m.Path == nil || m.Path.Type != PathPrefix })
	redirects := false
	for i, filter := range r.Default.Filters {
		filter.validate(f, p.Field("filters").Index(i), byPrefix, onGateway)
		redirects = redirects || filter.Type == RequestRedirectType
	}
	if onGateway && !redirects && len(r.Default.BackendRefs) == 0 {
		f.Add(p.Field("backendRefs"), "must not be empty")
	}
	for i, ref := range r.Default.BackendRefs {
		ref.Validate(f, p.Field("backendRefs").Index(i))
	}
}

func (m *Match) validate(f *resource.Faults, p resource.Path) {
	if m.Path != nil {
		p := p.Field("path").Field("value")
		if m.Path.Type == PathPrefix && m.Path.Value != "/" && strings.HasSuffix(m.Path.Value, "/") {
			f.Add(p, "does not need a trailing slash because only a `/`-separated prefix or an entire path is matched")
		}
		if m.Path.Type != RegularExpression && !strings.HasPrefix(m.Path.Value, "/") {
			f.Add(p, "must be an absolute path")
		}
	}
	for i, q := range m.QueryParams {
		if slices.ContainsFunc(m.QueryParams[:i], func(earlier QueryMatch) bool { return earlier.Name == q.Name }) {
			f.Add(p.Field("queryParams").Index(i).Field("name"), "multiple entries for name "+q.Name)
		}
	}
}

func (t *Filter) validate(f *resource.Faults, p resource.Path, byPrefix, onGateway bool) {
	// What does not belong to the type has no effect.
	switch t.Type {
	case RequestHeaderModifierType:
		t.RequestHeaderModifier.validate(f, p.Field("requestHeaderModifier"))
	case ResponseHeaderModifierType:
		t.ResponseHeaderModifier.validate(f, p.Field("responseHeaderModifier"))
	case RequestRedirectType:
		p := p.Field("requestRedirect")
		if t.RequestRedirect == nil {
			f.Add(p, "must be defined")
			return
		}
		validateHostname(f, p.Field("hostname"), t.RequestRedirect.Hostname)
		t.RequestRedirect.Path.validate(f, p.Field("path"), byPrefix)
	case URLRewriteType:
		t.URLRewrite.validate(f, p.Field("urlRewrite"), byPrefix, onGateway)
	case RequestMirrorType:
		p := p.Field("requestMirror")
		if t.RequestMirror == nil {
			f.Add(p, "must be defined")
			return
		}
		policy.CheckDecimalPercent(f, p.Field("percentage"), t.RequestMirror.Percentage)
		t.RequestMirror.BackendRef.Validate(f, p.Field("backendRef"))
	}
}

func (m *HeaderModifier) validate(f *resource.Faults, p resource.Path) {
	if m == nil {
		f.Add(p, "must be defined")
		return
	}
	each := func(p resource.Path, headers []policy.HeaderValue) {
		for i, h := range headers {
			if slices.ContainsFunc(headers[:i], func(earlier policy.HeaderValue) bool { return earlier.Name == h.Name }) {
				f.Add(p.Index(i).Field("name"), "duplicate header name")
			}
		}
	}
	each(p.Field("set"), m.Set)
	each(p.Field("add"), m.Add)
	for i, name := range m.Remove {
		if slices.Contains(m.Remove[:i], name) {
			f.Add(p.Field("remove").Index(i), "duplicate header name")
		}
	}
}

func (r *Rewrite) validate(f *resource.Faults, p resource.Path, byPrefix, onGateway bool) {
	if r == nil {
		f.Add(p, "must be defined")
		return
	}
	validateHostname(f, p.Field("hostname"), r.Hostname)
	if r.HostToBackendHostname {
		p := p.Field("hostToBackendHostname")
		if !onGateway {
			f.Add(p, "can only be set with MeshGateway")
		}
		if r.Hostname != "" {
			f.Add(p, "cannot be set together with hostname")
		}
	}
	r.Path.validate(f, p.Field("path"), byPrefix)
}

func (r *PathRewrite) validate(f *resource.Faults, p resource.Path, byPrefix bool) {
	if r == nil {
		return
	}
	switch r.Type {
	case ReplaceFullPath:
		if r.ReplaceFullPath == nil {
			f.Add(p.Field("replaceFullPath"), "must be defined")
		}
	case ReplacePrefixMatch:
		if r.ReplacePrefixMatch == nil {
			f.Add(p.Field("replacePrefixMatch"), "must be defined")
		}
		if !byPrefix {
			f.Add(p.Field("type"), "can only appear if all matches match a path prefix")
		}
	}
}

func validateHostname(f *resource.Faults, p resource.Path, name string) {
	if _, err := netip.ParseAddr(name); err == nil {
		f.Add(p, "cannot be an IP address")
	}
}
