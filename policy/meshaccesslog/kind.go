package meshaccesslog

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Name is the type of the resources.
const Name resource.Kind = "MeshAccessLog"

// Kind describes MeshAccessLog.
func Kind() policy.Kind {
	return policy.Kind{
		Descriptor: &resource.Descriptor{
			Kind: Name, Path: "meshaccesslogs", Singular: "Mesh Access Log", Plural: "Mesh Access Logs",
			InFederation: true,
			Policy:       &resource.PolicyTraits{HasTo: true, HasFrom: true, TargetRef: true},
			NewSpec:      func() resource.Spec { return &Spec{} },
		},
		NewConf: func() any { return &Conf{} },
	}
}
