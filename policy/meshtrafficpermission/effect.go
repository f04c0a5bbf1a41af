package meshtrafficpermission

import (
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Apply puts an RBAC filter in front of every filter chain of an inbound that ends mTLS (contract effects-security.md
// §4). Without a rule that allows something everything is denied. Chains without TLS stay open: their clients have no
// identity, and letting them in is what PERMISSIVE means. An inbound that no policy of the kind selects stays as
// TrafficPermissions have it; on any other they have no say.
func Apply(p *effect.Proxy, r *policy.Rules) error {
	if p.MTLSMode == "" {
		return nil
	}
	for _, in := range p.Inbounds {
		older := in.Older[resource.KindTrafficPermission]
		if _, selected := r.ForInbound(in.Resource); older && !selected {
			continue
		}
		allow, shadow := rbac(p.Mesh, r.Enforced(in.Resource))
		for _, c := range in.Listener.Chains {
			if c.TLS == nil {
				continue
			}
			if older {
				c.Open()
			}
			if h := c.HCM(); h != nil {
				h.Prepend(&effect.Filter{Name: effect.FilterHTTPRBAC, Config: &httprbacv3.RBAC{Rules: allow, ShadowRules: shadow}})
				continue
			}
			c.Prepend(effect.NetworkRBAC(in.Listener.Name, allow, shadow))
		}
	}
	return nil
}

// rbac returns the rules, never nil, and the shadow rules, nil when no rule asks for them.
func rbac(mesh string, rules []policy.SubsetRule) (allow, shadow *rbacv3.RBAC) {
	var allowed, shadowed []*rbacv3.Principal
	var denied [][]policy.Matcher
	for _, r := range rules {
		conf, ok := r.Conf.(*Conf)
		if !ok {
			continue
		}
		switch conf.Action {
		case Allow:
			allowed = append(allowed, except(mesh, r.Matchers, denied))
		case AllowWithShadowDeny:
			shadowed = append(shadowed, except(mesh, r.Matchers, denied))
		case Deny:
			denied = append(denied, r.Matchers)
		}
	}
	allow = &rbacv3.RBAC{}
	if len(allowed)+len(shadowed) > 0 {
		allow.Policies = policies(append(allowed, shadowed...))
	}
	if len(shadowed) > 0 {
		shadow = &rbacv3.RBAC{Action: rbacv3.RBAC_DENY, Policies: policies(shadowed)}
	}
	return allow, shadow
}

func policies(principals []*rbacv3.Principal) map[string]*rbacv3.Policy {
	return map[string]*rbacv3.Policy{string(Name): effect.AnythingFor(principals...)}
}

// except is everybody with all the matchers, less those whom an earlier rule denies. Of the rules the first that matches
// counts, but Envoy lets in whoever matches any principal: without the exception, "not b may" of one policy lets a client in
// that another policy denies (docs/adr/0005). Rules that nobody can match together, nearly all, need none.
func except(mesh string, matchers []policy.Matcher, denied [][]policy.Matcher) *rbacv3.Principal {
	ids := []*rbacv3.Principal{principal(mesh, matchers)}
	for _, d := range denied {
		if overlap(matchers, d) {
			ids = append(ids, &rbacv3.Principal{Identifier: &rbacv3.Principal_NotId{NotId: principal(mesh, d)}})
		}
	}
	return effect.AllOf(ids)
}

// overlap tells whether a client with one value for each tag can match both.
func overlap(a, b []policy.Matcher) bool {
	for _, x := range a {
		for _, y := range b {
			if x.Key != y.Key {
				continue
			}
			same := x.Value == y.Value
			if same && x.Not != y.Not || !same && !x.Not && !y.Not {
				return false
			}
		}
	}
	return true
}

// principal is everybody whose certificate has all the tags.
func principal(mesh string, matchers []policy.Matcher) *rbacv3.Principal {
	ids := make([]*rbacv3.Principal, len(matchers))
	for i, m := range matchers {
		id := effect.Bearer(&matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Exact{Exact: effect.TagURI(mesh, m.Key, m.Value)},
		})
		if m.Not {
			id = &rbacv3.Principal{Identifier: &rbacv3.Principal_NotId{NotId: id}}
		}
		ids[i] = id
	}
	return effect.AllOf(ids)
}
