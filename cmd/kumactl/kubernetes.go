package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/kuma-dp/kuma-dp/resource"
)

// fromKubernetes turns an object of Kubernetes into the universal form. Its namespace, which Universal has not, is left
// out with a warning unless it is the system's.
func fromKubernetes(in map[string]any) (body map[string]any, warnings []string, err error) {
	text, err := json.Marshal(in)
	if err != nil {
		return nil, nil, err
	}
	universal, ns, err := resource.UniversalFromKubernetes(text)
	if bad, ok := errors.AsType[*resource.DecodeError](err); ok {
		return nil, nil, fmt.Errorf("object of Kubernetes: %s %s", bad.Faults[0].Field, bad.Faults[0].Reason)
	}
	if err != nil {
		return nil, nil, err
	}
	if ns != "" && ns != resource.SystemNamespace {
		warnings = append(warnings, fmt.Sprintf("namespace %q is left out: it is applied as if it were in %s", ns, resource.SystemNamespace))
	}
	body, err = object(universal)
	return body, warnings, err
}
