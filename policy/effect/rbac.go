package effect

import (
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	networkrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/kuma-dp/kuma-dp/resource"
)

// NetworkRBAC is the network filter with rules and shadow rules, which may be nil; its statistics bear the name of the
// listener.
func NetworkRBAC(listener string, rules, shadow *rbacv3.RBAC) *Filter {
	return &Filter{Name: FilterNetworkRBAC, Config: &networkrbacv3.RBAC{Rules: rules, ShadowRules: shadow, StatPrefix: StatName(listener) + "."}}
}

// AnythingFor permits everything to whoever is one of the principals.
func AnythingFor(principals ...*rbacv3.Principal) *rbacv3.Policy {
	return &rbacv3.Policy{
		Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_Any{Any: true}}}, Principals: principals,
	}
}

// TagURI is what the certificate of a proxy with a tag holds (contract effects-security.md §4).
func TagURI(mesh, key, value string) string {
	if key == resource.TagService {
		return "spiffe://" + mesh + "/" + value
	}
	return "kuma://" + key + "/" + value
}

// Bearer is whoever's certificate holds a URI that matches.
func Bearer(uri *matcherv3.StringMatcher) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_Authenticated_{
		Authenticated: &rbacv3.Principal_Authenticated{PrincipalName: uri},
	}}
}

// AllOf is whoever is all of the principals; everybody when there is none.
func AllOf(ids []*rbacv3.Principal) *rbacv3.Principal {
	switch len(ids) {
	case 0:
		return &rbacv3.Principal{Identifier: &rbacv3.Principal_Any{Any: true}}
	case 1:
		return ids[0]
	default:
		return &rbacv3.Principal{Identifier: &rbacv3.Principal_AndIds{AndIds: &rbacv3.Principal_Set{Ids: ids}}}
	}
}
