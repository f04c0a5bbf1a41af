// Package all knows every policy kind.
package all

import (
	"github.com/kuma-dp/kuma-dp/policy"
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
	"github.com/kuma-dp/kuma-dp/resource"
)

// Kinds returns every policy kind in the order of application (contract policies.md §3.18), which is also the order of the
// rules in `_rules`.
func Kinds() []policy.Kind {
	return []policy.Kind{
		meshhttproute.Kind(),
		meshtcproute.Kind(),
		meshtls.Kind(),
		meshloadbalancingstrategy.Kind(),
		meshpassthrough.Kind(),
		meshaccesslog.Kind(),
		meshtrace.Kind(),
		meshfaultinjection.Kind(),
		meshratelimit.Kind(),
		meshtimeout.Kind(),
		meshtrafficpermission.Kind(),
		meshcircuitbreaker.Kind(),
		meshhealthcheck.Kind(),
		meshretry.Kind(),
		meshmetric.Kind(),
		meshproxypatch.Kind(native.Check),
	}
}

// Descriptors returns resource.Core and the descriptors of Kinds: all that a control plane stores.
func Descriptors() []*resource.Descriptor {
	out := resource.Core()
	for _, k := range Kinds() {
		out = append(out, k.Descriptor)
	}
	return out
}
