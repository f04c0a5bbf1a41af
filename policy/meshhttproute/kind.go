package meshhttproute

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Name is the type of the resources.
const Name resource.Kind = "MeshHTTPRoute"

// Kind describes MeshHTTPRoute.
func Kind() policy.Kind {
	return policy.Kind{
		Descriptor: &resource.Descriptor{
			Kind: Name, Path: "meshhttproutes", Singular: "Mesh HTTP Route", Plural: "Mesh HTTP Routes",
			InFederation: true,
			Policy:       &resource.PolicyTraits{HasTo: true, TargetRef: true},
			NewSpec:      func() resource.Spec { return &Spec{} },
		},
		NewConf: func() any { return &Conf{} },
	}
}
