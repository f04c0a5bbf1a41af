package resource

import (
	"encoding/json"
	"fmt"
	"time"
)

// stored is the form of a store: complete, and independent of what users see.
type stored struct {
	Kind             Kind              `json:"kind"`
	Mesh             string            `json:"mesh,omitempty"`
	Name             string            `json:"name"`
	Version          uint64            `json:"version"`
	Owner            *storedKey        `json:"owner,omitempty"`
	CreationTime     time.Time         `json:"creationTime"`
	ModificationTime time.Time         `json:"modificationTime"`
	Labels           map[string]string `json:"labels,omitempty"`
	Spec             json.RawMessage   `json:"spec"`
	Status           json.RawMessage   `json:"status,omitempty"`
}

type storedKey struct {
	Kind Kind   `json:"kind"`
	Mesh string `json:"mesh,omitempty"`
	Name string `json:"name"`
}

// EncodeStored writes everything that a store must remember of a resource: also its Version and its owner, which is the
// zero Key when it has none.
func (r *Registry) EncodeStored(res *Resource, owner Key) ([]byte, error) {
	d := r.byKind[res.Kind]
	if d == nil {
		return nil, fmt.Errorf("encode %s: %w", res.Key, &UnknownKindError{Kind: res.Kind})
	}
	spec, status, err := res.marshalParts(d)
	if err != nil {
		return nil, err
	}
	s := stored{
		Kind: res.Kind, Mesh: res.Mesh, Name: res.Name, Version: res.Version,
		CreationTime: res.CreationTime.UTC(), ModificationTime: res.ModificationTime.UTC(),
		Labels: res.Labels, Spec: spec, Status: status,
	}
	if owner != (Key{}) {
		s.Owner = &storedKey{Kind: owner.Kind, Mesh: owner.Mesh, Name: owner.Name}
	}
	return marshal(s)
}

// DecodeStored reads what EncodeStored wrote. The error wraps an *UnknownKindError when this program does not know the
// kind, as after a downgrade.
func (r *Registry) DecodeStored(data []byte) (*Resource, Key, error) {
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, Key{}, fmt.Errorf("decode stored resource: %w", err)
	}
	key := Key{Kind: s.Kind, Mesh: s.Mesh, Name: s.Name}
	d := r.byKind[s.Kind]
	if d == nil {
		return nil, Key{}, fmt.Errorf("decode stored %s: %w", key, &UnknownKindError{Kind: s.Kind})
	}
	res := &Resource{
		Meta: Meta{
			Key: key, Labels: s.Labels, Version: s.Version,
			CreationTime: s.CreationTime, ModificationTime: s.ModificationTime,
		},
		Spec: d.NewSpec(),
	}
	if err := res.decodeParts(d, nested{Spec: s.Spec, Status: s.Status}); err != nil {
		return nil, Key{}, fmt.Errorf("decode stored %s: %w", key, err)
	}
	if s.Owner == nil {
		return res, Key{}, nil
	}
	return res, Key{Kind: s.Owner.Kind, Mesh: s.Owner.Mesh, Name: s.Owner.Name}, nil
}
