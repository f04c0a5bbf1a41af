package all

import (
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/meshcircuitbreaker"
	"github.com/kuma-dp/kuma-dp/policy/meshretry"
	"github.com/kuma-dp/kuma-dp/policy/meshtimeout"
	"github.com/kuma-dp/kuma-dp/policy/meshtls"
	"github.com/kuma-dp/kuma-dp/policy/meshtrafficpermission"
)

// Effects returns what every kind does to Envoy's configuration, in the order of application (contract policies.md
// §3.18).
func Effects() []effect.Kind {
	return []effect.Kind{
		{Kind: meshtls.Name, Apply: meshtls.Apply},
		{Kind: meshtimeout.Name, Apply: meshtimeout.Apply},
		{Kind: meshtrafficpermission.Name, Apply: meshtrafficpermission.Apply},
		{Kind: meshcircuitbreaker.Name, Apply: meshcircuitbreaker.Apply},
		{Kind: meshretry.Name, Apply: meshretry.Apply},
	}
}
