package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/internal/yamljson"
)

// Types of the Secrets of Kubernetes that are secrets of a mesh.
const (
	typeOfMesh   = "system.kuma.io/secret"
	typeOfGlobal = "system.kuma.io/global-secret"
)

// UniversalFromKubernetes turns the JSON of one Kubernetes object into the universal form of the same resource (contract
// controlplane.md §2.1, policies.md §1.1) and returns the namespace that it names, which the universal form has not:
// metadata moves to the top, the label kuma.io/mesh becomes the mesh, older kinds have the fields of their spec there too.
// The status stays, creationTimestamp does not: only stores write times.
// It needs no registry, so that kinds of another control plane pass. The error is a *DecodeError when fields are wrong.
func UniversalFromKubernetes(data []byte) (universal []byte, namespace string, err error) {
	if err := yamljson.CheckJSON(data, MaxDepth); err != nil {
		return nil, "", fmt.Errorf("decode Kubernetes object: %w", err)
	}
	if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return nil, "", errors.New("decode Kubernetes object: body is not an object")
	}
	var o kubernetesObject
	if err := unmarshal("", data, &o, ""); err != nil {
		if bad, ok := errors.AsType[*DecodeError](err); ok {
			bad.Kind = Kind(o.Kind)
		}
		return nil, "", err
	}
	head, faults := o.envelope()
	var spec []byte
	switch {
	case len(faults) > 0:
	case o.Kind == string(KindSecret):
		spec, err = marshal(Secret{Data: o.Data["value"]})
	case !nestsSpec(head.Type):
		spec, faults = flatSpec(o.Spec)
	}
	if len(faults) > 0 {
		return nil, "", &DecodeError{Kind: Kind(o.Kind), Faults: faults}
	}
	if err != nil {
		return nil, "", fmt.Errorf("decode Kubernetes object: %w", err)
	}
	if universal, err = marshal(head); err != nil {
		return nil, "", fmt.Errorf("decode Kubernetes object: %w", err)
	}
	if spec != nil {
		universal = joinObjects(universal, spec)
	} else {
		universal = appendMember(universal, "spec", o.Spec)
		universal = appendMember(universal, "status", o.Status)
	}
	return universal, o.Metadata.Namespace, nil
}

// envelope returns what surrounds the spec in the universal form, with the faults of what surrounds it here.
func (o *kubernetesObject) envelope() (envelope, Faults) {
	var f Faults
	head := envelope{Type: Kind(o.Kind), Mesh: o.Mesh, Name: o.Metadata.Name, Labels: maps.Clone(o.Metadata.Labels)}
	if mesh, given := head.Labels[LabelMesh]; given {
		if o.Mesh != "" && o.Mesh != mesh {
			f.Add(Path("metadata.labels").Key(LabelMesh), "must not differ from mesh "+o.Mesh)
		}
		head.Mesh = mesh
		delete(head.Labels, LabelMesh)
	}
	switch {
	case o.Kind == "":
		f.Add("kind", "cannot be empty")
	case o.Kind == string(KindSecret):
		o.secret(&head, &f)
	case o.APIVersion != apiVersion || o.Kind == string(KindGlobalSecret):
		f.Add("apiVersion", fmt.Sprintf("%s of %q is no resource of a mesh: want %s", o.Kind, o.APIVersion, apiVersion))
	}
	if head.Name == "" {
		f.Add("metadata.name", "cannot be empty")
	}
	return head, f
}

// secret checks a Secret, which is one of Kubernetes itself.
func (o *kubernetesObject) secret(head *envelope, f *Faults) {
	if o.APIVersion != "v1" {
		f.Add("apiVersion", fmt.Sprintf("Secret of %q is no secret of a mesh: want v1", o.APIVersion))
	}
	switch o.Type {
	case typeOfMesh:
	case typeOfGlobal:
		head.Type = KindGlobalSecret
	default:
		f.Add("type", fmt.Sprintf("must be %s or %s", typeOfMesh, typeOfGlobal))
	}
}

// flatSpec checks the spec of an older kind, whose fields stand beside the name in the universal form.
func flatSpec(raw json.RawMessage) ([]byte, Faults) {
	if !present(raw) {
		return []byte("{}"), nil
	}
	var fields map[string]json.RawMessage
	if err := unmarshal("", raw, &fields, "spec"); err != nil {
		if bad, ok := errors.AsType[*DecodeError](err); ok {
			return nil, bad.Faults
		}
		return nil, Faults{{Field: "spec", Reason: err.Error()}}
	}
	var f Faults
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		// encoding/json takes a field in any case.
		switch strings.ToLower(name) {
		case "type", "mesh", "name", "labels", "creationtime", "modificationtime":
			f.Add(Path("spec").Field(name), "is not a field of the spec")
		}
	}
	return raw, f
}

// nestsSpec tells whether a kind keeps its spec in the universal form: policies and the newer kinds do, the older ones,
// which were protobuf messages, do not.
func nestsSpec(k Kind) bool {
	switch k {
	case KindMesh, KindMeshGateway, KindMeshGatewayRoute, KindMeshInsight:
		return false
	default:
		return k == KindHostnameGenerator || strings.HasPrefix(string(k), "Mesh")
	}
}

// KeepHidden gives next, which was read from the Kubernetes form, the labels of old that the form does not show. Without
// it, writing back what was read would drop them.
func KeepHidden(old, next *Resource) {
	for key, value := range old.Labels {
		if _, given := next.Labels[key]; given || !hiddenLabel(key) {
			continue
		}
		if next.Labels == nil {
			next.Labels = map[string]string{}
		}
		next.Labels[key] = value
	}
}
