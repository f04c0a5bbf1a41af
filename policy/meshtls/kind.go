package meshtls

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Name is the type of the resources.
const Name resource.Kind = "MeshTLS"

// Kind describes MeshTLS.
func Kind() policy.Kind {
	return policy.Kind{
		Descriptor: &resource.Descriptor{
			Kind: Name, Path: "meshtlses", Singular: "Mesh TLS", Plural: "Mesh TLSes",
			InFederation: true,
			Policy:       &resource.PolicyTraits{HasFrom: true, TargetRef: true},
			NewSpec:      func() resource.Spec { return &Spec{} },
		},
		NewConf:  func() any { return &Conf{} },
		NoShadow: true,
	}
}
