package effect

import (
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Validate applies Envoy's own rules to a message and to every typed config in it, however deep.
func Validate(m proto.Message) error {
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		if err := v.ValidateAll(); err != nil {
			return err
		}
	}
	return eachTyped(m.ProtoReflect(), func(a *anypb.Any) error {
		inner, err := anypb.UnmarshalNew(a, proto.UnmarshalOptions{Resolver: Types{}})
		if err != nil {
			return err
		}
		return Validate(inner)
	})
}

// eachTyped calls f with the typed configs of a message until one fails.
func eachTyped(m protoreflect.Message, f func(*anypb.Any) error) (err error) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		return f(a)
	}
	if !holdsTyped(m.Descriptor()) {
		return nil
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					err = eachTyped(v.Message(), f)
					return err == nil
				})
			}
		case fd.Message() == nil:
		case fd.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = eachTyped(v.List().Get(i).Message(), f)
			}
		default:
			err = eachTyped(v.Message(), f)
		}
		return err == nil
	})
	return err
}

// typedHolders remembers what holdsTyped was asked about.
var typedHolders sync.Map // protoreflect.FullName → bool

// holdsTyped tells whether a typed config can be anywhere in messages of a type.
func holdsTyped(d protoreflect.MessageDescriptor) bool {
	if known, ok := typedHolders.Load(d.FullName()); ok {
		return known.(bool)
	}
	seen := map[protoreflect.FullName]bool{}
	var reaches func(protoreflect.MessageDescriptor) bool
	reaches = func(d protoreflect.MessageDescriptor) bool {
		if d.FullName() == "google.protobuf.Any" {
			return true
		}
		if seen[d.FullName()] {
			return false
		}
		seen[d.FullName()] = true
		for i := range d.Fields().Len() {
			if inner := d.Fields().Get(i).Message(); inner != nil && reaches(inner) {
				return true
			}
		}
		return false
	}
	holds := reaches(d)
	typedHolders.Store(d.FullName(), holds)
	return holds
}
