package resource

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

const apiVersion = "kuma.io/v1alpha1"

type kubernetesObject struct {
	Kind       string          `json:"kind"`
	APIVersion string          `json:"apiVersion"`
	Metadata   kubernetesMeta  `json:"metadata"`
	Mesh       string          `json:"mesh,omitempty"`
	Spec       json.RawMessage `json:"spec,omitempty"`
	Status     json.RawMessage `json:"status,omitempty"`
	// Type and Data belong to secrets.
	Type string            `json:"type,omitempty"`
	Data map[string][]byte `json:"data,omitempty"`
}

type kubernetesMeta struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace,omitempty"`
	CreationTimestamp string            `json:"creationTimestamp,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
}

// EncodeKubernetes writes a resource as the Kubernetes object that it would be, in the given namespace when its kind has
// one (contract controlplane.md §2.1 and appendix A). Of the labels it keeps those that a person gave: the control plane
// computes the others again. Older kinds have their mesh beside the spec, the others in a label.
func (r *Registry) EncodeKubernetes(res *Resource, namespace string) ([]byte, error) {
	d := r.byKind[res.Kind]
	if d == nil {
		return nil, fmt.Errorf("encode %s: %w", res.Key, &UnknownKindError{Kind: res.Kind})
	}
	out := kubernetesObject{
		Kind: string(res.Kind), APIVersion: apiVersion,
		Metadata: kubernetesMeta{Name: res.Name, Labels: givenLabels(res.Labels)},
	}
	if !res.CreationTime.IsZero() {
		out.Metadata.CreationTimestamp = res.CreationTime.UTC().Format(time.RFC3339)
	}
	if !clusterScoped(res.Kind) {
		out.Metadata.Namespace = namespace
	}
	meshLabel := !d.Flat || res.Kind == KindSecret
	switch {
	case res.Mesh == "":
	case meshLabel:
		if out.Metadata.Labels == nil {
			out.Metadata.Labels = map[string]string{}
		}
		out.Metadata.Labels[LabelMesh] = res.Mesh
	default:
		out.Mesh = res.Mesh
	}
	if secret, ok := res.Spec.(*Secret); ok {
		out.Kind, out.APIVersion = "Secret", "v1"
		out.Type = typeOfMesh
		if res.Kind == KindGlobalSecret {
			out.Type = typeOfGlobal
		}
		out.Data = map[string][]byte{"value": secret.Data}
		return marshal(out)
	}
	var err error
	if out.Spec, out.Status, err = res.marshalParts(d); err != nil {
		return nil, err
	}
	return marshal(out)
}

// clusterScoped tells the kinds that have no namespace on Kubernetes.
func clusterScoped(k Kind) bool {
	switch k {
	case KindMesh, KindMeshGateway, KindMeshGatewayRoute, KindZone, KindMeshInsight, KindServiceInsight, KindZoneInsight:
		return true
	default:
		return isOlderPolicy(k)
	}
}

// givenLabels leaves out what the control plane computes.
func givenLabels(labels map[string]string) map[string]string {
	given := maps.Clone(labels)
	maps.DeleteFunc(given, func(key, _ string) bool { return hiddenLabel(key) })
	return given
}

// hiddenLabel tells whether a label is one of those that the Kubernetes form does not show.
func hiddenLabel(key string) bool {
	switch key {
	case LabelMesh, LabelOrigin, LabelZone, LabelEnv, LabelDisplayName, LabelManagedBy:
		return true
	default:
		return false
	}
}
