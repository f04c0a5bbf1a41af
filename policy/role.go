package policy

import (
	"errors"

	"github.com/kuma-dp/kuma-dp/resource"
)

// Role says whom a policy affects (contract policies.md §4.2).
type Role string

// Roles, in ascending precedence.
const (
	RoleSystem        Role = "system"
	RoleProducer      Role = "producer"
	RoleConsumer      Role = "consumer"
	RoleWorkloadOwner Role = "workload-owner"
)

// RoleOf returns the role that the label states; a policy without the label is a system policy.
func RoleOf(meta *resource.Meta) Role {
	if r := meta.Labels[resource.LabelPolicyRole]; r != "" {
		return Role(r)
	}
	return RoleSystem
}

// Errors of ComputeRole.
var (
	ErrMixedLists = errors.New("it's not allowed to mix 'to' and 'from' arrays in the same policy")
	ErrMixedItems = errors.New("it's not allowed to mix producer and consumer items in the same policy")
)

// ComputeRole returns the role of a policy in a namespace, as the control plane writes it on Kubernetes. An empty
// namespace is the system namespace. The error is ErrMixedLists or ErrMixedItems.
func ComputeRole(s Targeted, namespace, systemNamespace string) (Role, error) {
	if namespace == "" || namespace == systemNamespace {
		return RoleSystem, nil
	}
	to, from := s.ToItems(), s.FromItems()
	switch {
	case len(to) > 0 && len(from) > 0:
		return "", ErrMixedLists
	case len(to) == 0:
		return RoleWorkloadOwner, nil
	}
	producer := 0
	for _, item := range to {
		ref := item.TargetRef
		if ref.Kind == MeshService && ref.Name != "" && (ref.Namespace == "" || ref.Namespace == namespace) {
			producer++
		}
	}
	switch producer {
	case 0:
		return RoleConsumer, nil
	case len(to):
		return RoleProducer, nil
	default:
		return "", ErrMixedItems
	}
}
