package meshhttproute

import (
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// change does to a route what a filter says.
type change func(*routev3.Route)

// changes are what the filters of a rule do, in their order (contract effects-routing.md §3.3). A request that is answered
// with a redirect goes nowhere: later filters that change where it goes are left out, for which 2.9 has no configuration
// at all (ibid. §11).
func (b *builder) changes(route Route) []change {
	var out []change
	redirected := false
	for _, f := range route.Rule.Default.Filters {
		switch {
		case f.Type == RequestHeaderModifierType && f.RequestHeaderModifier != nil:
			m := b.modifiable(route.Name, f.RequestHeaderModifier)
			out = append(out, func(e *routev3.Route) {
				e.RequestHeadersToAdd = append(e.RequestHeadersToAdd, headers(m)...)
				e.RequestHeadersToRemove = append(e.RequestHeadersToRemove, m.Remove...)
			})
		case f.Type == ResponseHeaderModifierType && f.ResponseHeaderModifier != nil:
			m := b.modifiable(route.Name, f.ResponseHeaderModifier)
			out = append(out, func(e *routev3.Route) {
				e.ResponseHeadersToAdd = append(e.ResponseHeadersToAdd, headers(m)...)
				e.ResponseHeadersToRemove = append(e.ResponseHeadersToRemove, m.Remove...)
			})
		case f.Type == RequestRedirectType && f.RequestRedirect != nil:
			redirected = true
			out = append(out, f.RequestRedirect.apply)
		case redirected:
			b.warn(route.Name, "%s after RequestRedirect", f.Type)
		case f.Type == URLRewriteType && f.URLRewrite != nil:
			out = append(out, f.URLRewrite.apply)
		case f.Type == RequestMirrorType && f.RequestMirror != nil:
			target := b.mirrored(route.Rule, f.RequestMirror.BackendRef)
			if target == nil {
				b.warn(route.Name, "RequestMirror to %s %s, which is no service of requests", f.RequestMirror.BackendRef.Kind, f.RequestMirror.BackendRef.Name)
				continue
			}
			b.out.Targets = append(b.out.Targets, target)
			share := fraction(f.RequestMirror.Percentage)
			out = append(out, func(e *routev3.Route) {
				a := e.GetRoute()
				a.RequestMirrorPolicies = append(a.RequestMirrorPolicies, &routev3.RouteAction_RequestMirrorPolicy{
					Cluster: target.Cluster, RuntimeFraction: share,
				})
			})
		}
	}
	return out
}

// modifiable leaves out the headers that Envoy lets nobody change in this way.
func (b *builder) modifiable(route string, m *HeaderModifier) *HeaderModifier {
	fixed := func(name string) bool {
		if strings.HasPrefix(name, ":") || strings.EqualFold(name, "host") {
			b.warn(route, "header %s cannot be changed; URLRewrite changes the host", name)
			return true
		}
		return false
	}
	fixedValue := func(h policy.HeaderValue) bool { return fixed(h.Name) }
	return &HeaderModifier{
		HeaderModifier: policy.HeaderModifier{
			Set: slices.DeleteFunc(slices.Clone(m.Set), fixedValue), Add: slices.DeleteFunc(slices.Clone(m.Add), fixedValue),
		},
		Remove: slices.DeleteFunc(slices.Clone(m.Remove), fixed),
	}
}

func headers(m *HeaderModifier) []*corev3.HeaderValueOption {
	var out []*corev3.HeaderValueOption
	for _, h := range m.Set {
		out = append(out, &corev3.HeaderValueOption{
			Header: &corev3.HeaderValue{Key: h.Name, Value: literal(h.Value)}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		})
	}
	for _, h := range m.Add {
		out = append(out, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: h.Name, Value: literal(h.Value)}})
	}
	return out
}

// literal keeps a value that Envoy would take for a broken command, such as "100%". Whole commands such as "%START_TIME%"
// are Envoy's to replace, as in 2.9.
func literal(value string) string {
	if strings.Count(strings.ReplaceAll(value, "%%", ""), "%")%2 == 0 {
		return value
	}
	return strings.ReplaceAll(strings.ReplaceAll(value, "%%", "%"), "%", "%%")
}

func (r *Redirect) apply(e *routev3.Route) {
	a := &routev3.RedirectAction{HostRedirect: r.Hostname, ResponseCode: responseCode(r.StatusCode)}
	if r.Scheme != "" {
		a.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: r.Scheme}
	}
	if r.Port != nil {
		a.PortRedirect = *r.Port
	}
	switch value, whole, ok := r.Path.rewrite(e.Match); {
	case ok && whole:
		a.PathRewriteSpecifier = &routev3.RedirectAction_RegexRewrite{RegexRewrite: wholePath(value)}
	case ok:
		a.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: value}
	}
	e.Action = &routev3.Route_Redirect{Redirect: a}
}

func responseCode(status *uint32) routev3.RedirectAction_RedirectResponseCode {
	if status == nil {
		return routev3.RedirectAction_FOUND
	}
	switch *status {
	case 301:
		return routev3.RedirectAction_MOVED_PERMANENTLY
	case 303:
		return routev3.RedirectAction_SEE_OTHER
	case 307:
		return routev3.RedirectAction_TEMPORARY_REDIRECT
	case 308:
		return routev3.RedirectAction_PERMANENT_REDIRECT
	}
	return routev3.RedirectAction_FOUND
}

func (r *Rewrite) apply(e *routev3.Route) {
	a := e.GetRoute()
	if r.Hostname != "" {
		a.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: r.Hostname}
	}
	switch value, whole, ok := r.Path.rewrite(e.Match); {
	case ok && whole:
		a.RegexRewrite, a.PrefixRewrite = wholePath(value), ""
	case ok:
		a.PrefixRewrite, a.RegexRewrite = value, nil // Envoy takes one of them
	}
}

// rewrite returns what the path, as a whole or in its prefix, becomes. It is not ok when it stays. Of a match without a
// prefix the whole path is what matched.
func (r *PathRewrite) rewrite(m *routev3.RouteMatch) (value string, whole, ok bool) {
	switch {
	case r == nil:
	case r.Type == ReplaceFullPath && r.ReplaceFullPath != nil:
		return *r.ReplaceFullPath, true, true
	case r.Type == ReplacePrefixMatch && r.ReplacePrefixMatch != nil:
		_, prefix := m.PathSpecifier.(*routev3.RouteMatch_Prefix)
		return *r.ReplacePrefixMatch, !prefix, true
	}
	return "", false, false
}

func wholePath(value string) *matcherv3.RegexMatchAndSubstitute {
	return &matcherv3.RegexMatchAndSubstitute{
		Pattern: &matcherv3.RegexMatcher{Regex: ".*"},
		// A backslash would name a group, and there is none.
		Substitution: strings.ReplaceAll(value, `\`, `\\`),
	}
}

// mirrored is where copies of requests go: as in 2.9 the kuma.io/service of the name, whatever else the ref says. Where
// there is none of requests, which leaves 2.9 without a configuration, the ref means what it means elsewhere (contract
// effects-routing.md §1 trap 9, §11).
func (b *builder) mirrored(rule *Rule, ref policy.BackendRef) *effect.Target {
	byName := ref
	byName.Kind, byName.Labels, byName.Port = policy.MeshServiceSubset, nil, nil
	if t, _ := b.resolve(byName, nil); t != nil && effect.IsHTTP(t.Protocol) {
		return t
	}
	if t, _ := b.resolve(ref, writer(b.origin, "", rule, func(c RuleConf) bool { return c.Filters != nil })); t != nil && effect.IsHTTP(t.Protocol) {
		return t
	}
	return nil
}

// fraction is the share of requests to copy; nil for all.
func fraction(percentage *resource.IntOrString) *corev3.RuntimeFractionalPercent {
	if percentage == nil {
		return nil
	}
	p, _ := policy.Decimal(*percentage)
	return &corev3.RuntimeFractionalPercent{DefaultValue: effect.Percent(p)}
}
