package meshmetric

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Name is the type of the resources.
const Name resource.Kind = "MeshMetric"

// Kind describes MeshMetric.
func Kind() policy.Kind {
	return policy.Kind{
		Descriptor: &resource.Descriptor{
			Kind: Name, Path: "meshmetrics", Singular: "Mesh Metric", Plural: "Mesh Metrics",
			InFederation: true,
			Policy:       &resource.PolicyTraits{TargetRef: true},
			NewSpec:      func() resource.Spec { return &Spec{} },
		},
		NewConf: func() any { return &Conf{} },
	}
}
