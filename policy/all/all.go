// Package all knows every policy kind.
package all

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/meshcircuitbreaker"
	"github.com/kuma-dp/kuma-dp/policy/meshretry"
	"github.com/kuma-dp/kuma-dp/policy/meshtimeout"
	"github.com/kuma-dp/kuma-dp/policy/meshtrafficpermission"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Kinds returns every policy kind in the order of application (contract policies.md §3.18), which is also the order of the
// rules in `_rules`.
func Kinds() []policy.Kind {
	return []policy.Kind{
		meshtimeout.Kind(),
		meshtrafficpermission.Kind(),
		meshcircuitbreaker.Kind(),
		meshretry.Kind(),
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
