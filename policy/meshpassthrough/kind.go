package meshpassthrough

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Name is the type of the resources.
const Name resource.Kind = "MeshPassthrough"

// Kind describes MeshPassthrough.
func Kind() policy.Kind {
	return policy.Kind{
		Descriptor: &resource.Descriptor{
			Kind: Name, Path: "meshpassthroughs", Singular: "Mesh Passthrough", Plural: "Mesh Passthroughs",
			InFederation: true,
			Policy:       &resource.PolicyTraits{TargetRef: true},
			NewSpec:      func() resource.Spec { return &Spec{} },
		},
		NewConf: func() any { return &Conf{} },
	}
}
