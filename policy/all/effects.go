package all

import (
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/meshaccesslog"
	"github.com/kuma-dp/kuma-dp/policy/meshcircuitbreaker"
	"github.com/kuma-dp/kuma-dp/policy/meshfaultinjection"
	"github.com/kuma-dp/kuma-dp/policy/meshhealthcheck"
	"github.com/kuma-dp/kuma-dp/policy/meshhttproute"
	"github.com/kuma-dp/kuma-dp/policy/meshloadbalancingstrategy"
	"github.com/kuma-dp/kuma-dp/policy/meshmetric"
	"github.com/kuma-dp/kuma-dp/policy/meshpassthrough"
	"github.com/kuma-dp/kuma-dp/policy/meshproxypatch"
	"github.com/kuma-dp/kuma-dp/policy/meshproxypatch/native"
	"github.com/kuma-dp/kuma-dp/policy/meshratelimit"
	"github.com/kuma-dp/kuma-dp/policy/meshretry"
	"github.com/kuma-dp/kuma-dp/policy/meshtcproute"
	"github.com/kuma-dp/kuma-dp/policy/meshtimeout"
	"github.com/kuma-dp/kuma-dp/policy/meshtls"
	"github.com/kuma-dp/kuma-dp/policy/meshtrace"
	"github.com/kuma-dp/kuma-dp/policy/meshtrafficpermission"
	"github.com/kuma-dp/kuma-dp/policy/older"
)

// Effects returns what every kind does to Envoy's configuration, in the order of application (contract policies.md
// §3.18). What the older policies do comes before all others but MeshTLS, which makes listeners anew (contract
// effects-security.md §2, §3).
func Effects() []effect.Kind {
	return []effect.Kind{
		{Kind: meshhttproute.Name, Route: meshhttproute.RouteOutbound},
		{Kind: meshtcproute.Name, Route: meshtcproute.RouteOutbound},
		{Kind: meshtls.Name, Apply: meshtls.Apply},
		{Kind: older.Name, Apply: older.Apply, Key: older.Key, Reach: effect.ByTags, ListenersOnly: true, Passthrough: true},
		{
			Kind: meshloadbalancingstrategy.Name, Apply: meshloadbalancingstrategy.Apply, Key: meshloadbalancingstrategy.Key,
			Endpoints: meshloadbalancingstrategy.Endpoints,
		},
		{Kind: meshpassthrough.Name, Apply: meshpassthrough.Apply, Passthrough: true},
		{
			Kind: meshaccesslog.Name, Apply: meshaccesslog.Apply, Key: meshaccesslog.Key,
			ListenersOnly: true, Whole: meshaccesslog.Whole, Passthrough: true,
		},
		{Kind: meshtrace.Name, Apply: meshtrace.Apply, Key: meshtrace.Key, Reach: effect.ByTags, ListenersOnly: true},
		{Kind: meshfaultinjection.Name, Apply: meshfaultinjection.Apply},
		{Kind: meshratelimit.Name, Apply: meshratelimit.Apply},
		{Kind: meshtimeout.Name, Apply: meshtimeout.Apply, Key: meshtimeout.Key, Reach: effect.Everything},
		{Kind: meshtrafficpermission.Name, Apply: meshtrafficpermission.Apply},
		{Kind: meshcircuitbreaker.Name, Apply: meshcircuitbreaker.Apply},
		{Kind: meshhealthcheck.Name, Apply: meshhealthcheck.Apply, Key: meshhealthcheck.Key},
		{Kind: meshretry.Name, Apply: meshretry.Apply},
		{Kind: meshmetric.Name, Apply: meshmetric.Apply},
		{Kind: meshproxypatch.Name, Patch: native.NewPatcher},
	}
}
