package meshhealthcheck

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Name is the type of the resources.
const Name resource.Kind = "MeshHealthCheck"

// Kind describes MeshHealthCheck.
func Kind() policy.Kind {
	return policy.Kind{
		Descriptor: &resource.Descriptor{
			Kind: Name, Path: "meshhealthchecks", Singular: "Mesh Health Check", Plural: "Mesh Health Checks",
			InFederation: true,
			Policy:       &resource.PolicyTraits{HasTo: true, TargetRef: true},
			NewSpec:      func() resource.Spec { return &Spec{} },
		},
		NewConf: func() any { return &Conf{} },
	}
}
