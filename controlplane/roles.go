package controlplane

import (
	"context"
	"errors"
	"maps"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// systemNamespace is where policies are written that are nobody's own.
const systemNamespace = "kuma-system"

type beforePut = func(ctx context.Context, old, next *resource.Resource) ([]resource.Violation, error)

// beforePut adds the computing of roles, when it is on, to what is done before a resource is stored.
func (c *ControlPlane) beforePut(then beforePut) beforePut {
	if !c.cfg.Policies.ComputeRole {
		return then
	}
	return func(ctx context.Context, old, next *resource.Resource) ([]resource.Violation, error) {
		if faults := computeRole(next); len(faults) > 0 {
			return faults, nil
		}
		return then(ctx, old, next)
	}
}

// computeRole writes the role of a policy that originates here into its labels (contract policies.md §4.2). A policy
// without a namespace has none, whatever its client wrote: it is a system policy. Some kinds of targetRef are for system
// policies only, so that a policy may turn out wrong.
func computeRole(r *resource.Resource) []resource.Violation {
	spec, ok := r.Spec.(policy.Targeted)
	if origin := r.Labels[resource.LabelOrigin]; !ok || origin != "" && origin != resource.OriginZone {
		return nil
	}
	namespace := r.Labels[resource.LabelNamespace]
	role, err := policy.ComputeRole(spec, namespace, systemNamespace)
	switch {
	case errors.Is(err, policy.ErrMixedItems):
		return []resource.Violation{{Field: "spec.to", Reason: err.Error()}}
	case err != nil:
		return []resource.Violation{{Field: "spec", Reason: err.Error()}}
	}
	r.Labels = maps.Clone(r.Labels)
	if namespace == "" {
		delete(r.Labels, resource.LabelPolicyRole)
	} else {
		r.Labels[resource.LabelPolicyRole] = string(role)
	}
	return resource.Validate(r)
}
