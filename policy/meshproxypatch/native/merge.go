package native

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kuma-dp/kuma-dp/policy/effect"
)

// merge puts what src says into dst, of the same type: as proto.Merge, that is scalars and map entries replace, messages
// are merged, lists are appended to; but a Duration replaces as a whole, or 2s merged into 1.5s would be 2.5s. A nested
// typed config of another type replaces too (contract effects-security.md §10).
func merge(dst, src protoreflect.Message) {
	switch from := src.Interface().(type) {
	case *durationpb.Duration:
		proto.Reset(dst.Interface())
	case *anypb.Any:
		if into, ok := dst.Interface().(*anypb.Any); ok && from.TypeUrl != into.TypeUrl {
			proto.Reset(into)
		}
	}
	src.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Message() != nil && !field.IsList() && !field.IsMap() {
			merge(dst.Mutable(field).Message(), value.Message())
			return true
		}
		one := src.New()
		one.Set(field, value)
		proto.Merge(dst.Interface(), one.Interface())
		return true
	})
}

// mergeTyped merges the content of two typed configs of one type.
func mergeTyped(dst, src *anypb.Any) error {
	if src == nil {
		return errors.New("the value has no typedConfig, the only part of a filter that is merged")
	}
	if dst.TypeUrl != src.TypeUrl {
		return fmt.Errorf("the value is of type %s, the filter of type %s", src.TypeUrl, dst.TypeUrl)
	}
	from, err := unpack(src)
	if err != nil {
		return err
	}
	return editTyped(dst, func(m proto.Message) error {
		merge(m.ProtoReflect(), from.ProtoReflect())
		return nil
	})
}

// editTyped changes the content of a typed config in place.
func editTyped(dst *anypb.Any, edit func(proto.Message) error) error {
	m, err := unpack(dst)
	if err != nil {
		return err
	}
	if err := edit(m); err != nil {
		return err
	}
	packed, err := effect.Pack(m)
	if err != nil {
		return err
	}
	dst.TypeUrl, dst.Value = packed.TypeUrl, packed.Value
	return nil
}

func unpack(a *anypb.Any) (proto.Message, error) {
	m, err := anypb.UnmarshalNew(a, proto.UnmarshalOptions{Resolver: effect.Types{}})
	if err != nil {
		return nil, fmt.Errorf("read typed config: %w", readable(err))
	}
	return m, nil
}
