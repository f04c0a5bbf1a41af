package resource

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Form is a way to write a resource.
type Form string

// The forms that `?format=` knows; the API also accepts "k8s" for FormKubernetes.
const (
	FormUniversal  Form = "universal"
	FormKubernetes Form = "kubernetes"
)

// SystemNamespace is the namespace of FormKubernetes unless a request names another.
const SystemNamespace = "kuma-system"

// Encode writes a resource as compact JSON with the key order of Kuma (contract policies.md §1.1, controlplane.md §2.1 and
// appendix A); HTML characters stay as they are. FormKubernetes uses SystemNamespace, see EncodeKubernetes.
func (r *Registry) Encode(res *Resource, form Form) ([]byte, error) {
	switch form {
	case FormUniversal:
		return r.encodeUniversal(res)
	case FormKubernetes:
		return r.EncodeKubernetes(res, SystemNamespace)
	default:
		return nil, fmt.Errorf("encode %s: unknown format %q, want universal or kubernetes", res.Key, string(form))
	}
}

func (r *Registry) encodeUniversal(res *Resource) ([]byte, error) {
	d := r.byKind[res.Kind]
	if d == nil {
		return nil, fmt.Errorf("encode %s: %w", res.Key, &UnknownKindError{Kind: res.Kind})
	}
	out, err := marshal(envelope{
		Type: res.Kind, Mesh: res.Mesh, Name: res.Name, Labels: res.Labels,
		CreationTime: timeOrNil(res.CreationTime), ModificationTime: timeOrNil(res.ModificationTime),
	})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", res.Key, err)
	}
	spec, status, err := res.marshalParts(d)
	if err != nil {
		return nil, err
	}
	if d.Flat {
		out = joinObjects(out, spec)
	} else {
		out = appendMember(out, "spec", spec)
	}
	return appendMember(out, "status", status), nil
}

// marshalParts returns the JSON of spec, "{}" when there is none, and of status, nil when there is none.
func (r *Resource) marshalParts(d *Descriptor) (spec, status []byte, err error) {
	spec = []byte("{}")
	if r.Spec != nil {
		if spec, err = marshal(r.Spec); err != nil {
			return nil, nil, fmt.Errorf("encode spec of %s: %w", r.Key, err)
		}
	}
	if d.NewStatus == nil || r.Status == nil {
		return spec, nil, nil
	}
	if status, err = marshal(r.Status); err != nil {
		return nil, nil, fmt.Errorf("encode status of %s: %w", r.Key, err)
	}
	return spec, status, nil
}

// marshal is json.Marshal that leaves HTML characters alone.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// joinObjects appends the members of object b to object a, in whose memory it may write.
func joinObjects(a, b []byte) []byte {
	if len(b) <= len("{}") {
		return a
	}
	a = append(a[:len(a)-1], ',')
	return append(a, b[1:]...)
}

// appendMember adds one member to an object that is not empty; a nil value adds nothing.
func appendMember(object []byte, name string, value []byte) []byte {
	if value == nil {
		return object
	}
	object = append(object[:len(object)-1], `,"`+name+`":`...)
	object = append(object, value...)
	return append(object, '}')
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC())
}
