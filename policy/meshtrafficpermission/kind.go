package meshtrafficpermission

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Name is the type of the resources.
const Name resource.Kind = "MeshTrafficPermission"

// Kind describes MeshTrafficPermission.
func Kind() policy.Kind {
	return policy.Kind{
		Descriptor: &resource.Descriptor{
			Kind: Name, Path: "meshtrafficpermissions",
			Singular: "Mesh Traffic Permission", Plural: "Mesh Traffic Permissions",
			InFederation: true,
			Policy:       &resource.PolicyTraits{HasFrom: true, TargetRef: true},
			NewSpec:      func() resource.Spec { return &Spec{} },
		},
		NewConf: func() any { return &Conf{} },
		Permits: true,
	}
}
