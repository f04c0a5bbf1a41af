package effecttest

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/policy/effect"
)

//go:embed fields.txt
var fields string

// knownFields are, for every message and enumeration that we send, the names that Envoy 1.32 knows: the oldest one that
// agents of the reference bring along. One that it does not know makes it refuse the whole resource.
var knownFields = sync.OnceValue(func() map[string][]string {
	out := map[string][]string{}
	for line := range strings.Lines(fields) {
		name, fields, _ := strings.Cut(strings.TrimSpace(line), ":")
		out[name] = strings.Fields(fields)
	}
	return out
})

// unknownFields names what is set in a message and Envoy 1.32 does not know.
func unknownFields(m proto.Message) ([]string, error) {
	known := knownFields()
	var bad []string
	var walk func(m protoreflect.Message) error
	check := func(full protoreflect.FullName, name protoreflect.Name) {
		if one := fmt.Sprintf("%s.%s", full, name); !slices.Contains(known[string(full)], string(name)) && !slices.Contains(bad, one) {
			bad = append(bad, one)
		}
	}
	value := func(fd protoreflect.FieldDescriptor, v protoreflect.Value) error {
		switch {
		case fd.Message() != nil:
			return walk(v.Message())
		case fd.Enum() != nil:
			e := fd.Enum().Values().ByNumber(v.Enum())
			if e == nil {
				return nil // a status that has no name: the reference sends the number (contract effects-security.md §8)
			}
			check(fd.Enum().FullName(), e.Name())
		}
		return nil
	}
	walk = func(m protoreflect.Message) error {
		if a, ok := m.Interface().(*anypb.Any); ok {
			typ, err := (effect.Types{}).FindMessageByURL(a.TypeUrl)
			if err != nil {
				return err
			}
			inner := typ.New()
			if err := proto.Unmarshal(a.Value, inner.Interface()); err != nil {
				return err
			}
			return walk(inner)
		}
		full := m.Descriptor().FullName()
		if strings.HasPrefix(string(full), "google.protobuf.") {
			return nil
		}
		if known[string(full)] == nil {
			bad = append(bad, string(full)) // also a message without fields must be listed
		}
		var err error
		m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			check(full, fd.Name())
			switch {
			case fd.IsMap():
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					err = value(fd.MapValue(), v)
					return err == nil
				})
			case fd.IsList():
				for i := 0; i < v.List().Len() && err == nil; i++ {
					err = value(fd, v.List().Get(i))
				}
			default:
				err = value(fd, v)
			}
			return err == nil
		})
		return err
	}
	if err := walk(m.ProtoReflect()); err != nil {
		return nil, err
	}
	slices.Sort(bad)
	return slices.Compact(bad), nil
}
