package meshratelimit

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Name is the type of the resources.
const Name resource.Kind = "MeshRateLimit"

// Kind describes MeshRateLimit.
func Kind() policy.Kind {
	return policy.Kind{
		Descriptor: &resource.Descriptor{
			Kind: Name, Path: "meshratelimits", Singular: "Mesh Rate Limit", Plural: "Mesh Rate Limits",
			InFederation: true,
			Policy:       &resource.PolicyTraits{HasTo: true, HasFrom: true, TargetRef: true},
			NewSpec:      func() resource.Spec { return &Spec{} },
		},
		NewConf: func() any { return &Conf{} },
	}
}
