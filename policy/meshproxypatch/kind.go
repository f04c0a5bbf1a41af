package meshproxypatch

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Name is the type of the resources.
const Name resource.Kind = "MeshProxyPatch"

// Native tells what is wrong with a JSON object as the Envoy resource that target (one of the Target constants) stands
// for. A whole resource must also keep Envoy's own rules; one that is not is merged into another and may lack anything.
// It must be safe for concurrent use.
type Native func(target string, object []byte, whole bool) error

// Kind describes MeshProxyPatch. Without native only the form of Envoy resources is checked, not what they say; it comes
// from outside because the types of Envoy are many and only a control plane has them (see the package native below).
func Kind(native Native) policy.Kind {
	return policy.Kind{
		Descriptor: &resource.Descriptor{
			Kind: Name, Path: "meshproxypatches", Singular: "Mesh Proxy Patch", Plural: "Mesh Proxy Patches",
			InFederation: true,
			Policy:       &resource.PolicyTraits{TargetRef: true},
			NewSpec:      func() resource.Spec { return &Spec{native: native} },
		},
		NewConf: func() any { return &Conf{} },
	}
}
