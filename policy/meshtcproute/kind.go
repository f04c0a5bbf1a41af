package meshtcproute

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Name is the type of the resources.
const Name resource.Kind = "MeshTCPRoute"

// Kind describes MeshTCPRoute.
func Kind() policy.Kind {
	return policy.Kind{
		Descriptor: &resource.Descriptor{
			Kind: Name, Path: "meshtcproutes", Singular: "Mesh TCP Route", Plural: "Mesh TCP Routes",
			InFederation: true,
			Policy:       &resource.PolicyTraits{HasTo: true, TargetRef: true},
			NewSpec:      func() resource.Spec { return &Spec{} },
		},
		NewConf: func() any { return &Conf{} },
	}
}
