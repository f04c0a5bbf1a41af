package meshtrace

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Name is the type of the resources.
const Name resource.Kind = "MeshTrace"

// Kind describes MeshTrace.
func Kind() policy.Kind {
	return policy.Kind{
		Descriptor: &resource.Descriptor{
			Kind: Name, Path: "meshtraces", Singular: "Mesh Trace", Plural: "Mesh Traces",
			InFederation: true,
			Policy:       &resource.PolicyTraits{TargetRef: true},
			NewSpec:      func() resource.Spec { return &Spec{} },
		},
		NewConf: func() any { return &Conf{} },
	}
}
