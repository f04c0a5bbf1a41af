package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/resource"
)

// fromKubernetes turns an object of Kubernetes into the universal form (contract controlplane.md §2.1, policies.md §1.1):
// metadata moves to the top, older kinds have their spec there too, and the namespace, which Universal has not, is left
// out with a warning unless it is the system's.
func fromKubernetes(object map[string]any) (body map[string]any, warnings []string, err error) {
	kind, _ := object["kind"].(string)
	meta, _ := object["metadata"].(map[string]any)
	if kind == "" || meta == nil {
		return nil, nil, errors.New("an object of Kubernetes needs kind and metadata")
	}
	body = map[string]any{"type": kind, "name": meta["name"]}
	labels, _ := meta["labels"].(map[string]any)
	if mesh, given := labels[resource.LabelMesh]; given {
		body["mesh"] = mesh
	}
	if mesh, given := object["mesh"]; given {
		body["mesh"] = mesh
	}
	if len(labels) > 0 {
		body["labels"] = labels
	}
	if ns, _ := meta["namespace"].(string); ns != "" && ns != resource.SystemNamespace {
		warnings = append(warnings, fmt.Sprintf("namespace %q is left out: it is applied as if it were in %s", ns, resource.SystemNamespace))
	}
	switch version, _ := object["apiVersion"].(string); {
	case kind == "Secret" && version == "v1":
		return secret(body, object, warnings)
	case !strings.HasPrefix(version, "kuma.io/"):
		return nil, nil, fmt.Errorf("%s of apiVersion %q is no resource of a mesh: want kuma.io/v1alpha1", kind, version)
	}
	if nestsSpec(kind) {
		for _, part := range []string{"spec", "status"} {
			if v, given := object[part]; given {
				body[part] = v
			}
		}
		return body, warnings, nil
	}
	spec, _ := object["spec"].(map[string]any)
	for key, value := range spec {
		if _, taken := body[key]; taken {
			return nil, nil, fmt.Errorf("spec.%s of %s is not a field of the spec", key, kind)
		}
		body[key] = value
	}
	return body, warnings, nil
}

// nestsSpec tells whether a kind keeps its spec in the universal form: policies and the newer kinds do, the older ones,
// which were protobuf messages, have its fields beside the name.
func nestsSpec(kind string) bool {
	older := []string{"Mesh", "MeshGateway", "MeshGatewayRoute", "MeshInsight"}
	return kind == "HostnameGenerator" || strings.HasPrefix(kind, "Mesh") && !slices.Contains(older, kind)
}

func secret(body, object map[string]any, warnings []string) (map[string]any, []string, error) {
	switch object["type"] {
	case "system.kuma.io/secret":
	case "system.kuma.io/global-secret":
		body["type"] = "GlobalSecret"
	default:
		return nil, nil, errors.New("a Secret of a mesh has the type system.kuma.io/secret or system.kuma.io/global-secret")
	}
	data, _ := object["data"].(map[string]any)
	if data["value"] == nil {
		return nil, nil, errors.New("a Secret of a mesh has its content in data.value")
	}
	body["data"] = data["value"]
	return body, warnings, nil
}
