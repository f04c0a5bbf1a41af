package meshloadbalancingstrategy

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Name is the type of the resources.
const Name resource.Kind = "MeshLoadBalancingStrategy"

// Kind describes MeshLoadBalancingStrategy.
func Kind() policy.Kind {
	return policy.Kind{
		Descriptor: &resource.Descriptor{
			Kind: Name, Path: "meshloadbalancingstrategies",
			Singular: "Mesh Load Balancing Strategy", Plural: "Mesh Load Balancing Strategies",
			InFederation: true,
			Policy:       &resource.PolicyTraits{HasTo: true, TargetRef: true},
			NewSpec:      func() resource.Spec { return &Spec{} },
		},
		NewConf: func() any { return &Conf{} },
	}
}
