package wirejson_test

import (
	"math"
	"slices"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"pgregory.net/rapid"
)

// TestRandomMessages: whatever a message is, the texts are equal; also of its bytes when they are cut, changed, or those of
// another follow, which merges the two.
func TestRandomMessages(t *testing.T) {
	names := []string{"t.Modern", "t.Modern", "t.Modern", "t.Small", "t.Outer", "t.Old", "google.protobuf.Struct", "google.protobuf.Any", "google.protobuf.Api"}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(names).Draw(t, "type")
		one := func() *anypb.Any {
			m := message(name)
			fill(t, m.ProtoReflect(), 3)
			return pack(m)
		}
		a := one()
		if d := differs(a); d != "" {
			t.Fatal(d)
		}
		b := one()
		b.Value = slices.Concat(a.Value, b.Value)
		if d := differs(b); d != "" {
			t.Fatalf("of two messages: %s", d)
		}
		if len(a.Value) == 0 {
			return
		}
		i := rapid.IntRange(0, len(a.Value)-1).Draw(t, "place")
		if rapid.Bool().Draw(t, "cut") {
			a.Value = a.Value[:i]
		} else {
			a.Value[i] = rapid.Byte().Draw(t, "byte")
		}
		if d := differs(a); d != "" {
			t.Fatalf("of changed bytes: %s", d)
		}
	})
}

// fill sets some fields at random.
func fill(t *rapid.T, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	if fields.Len() == 0 {
		return
	}
	if m.Descriptor().FullName() == "google.protobuf.Any" {
		if depth > 0 && rapid.Bool().Draw(t, "full") {
			inside := message(rapid.SampledFrom([]string{"t.Modern", "t.Small", "t.Empty", "google.protobuf.Duration", "google.protobuf.StringValue", "google.protobuf.Any"}).Draw(t, "inside"))
			fill(t, inside.ProtoReflect(), depth-1)
			a := pack(inside)
			m.Set(fields.ByNumber(1), protoreflect.ValueOfString(a.TypeUrl))
			m.Set(fields.ByNumber(2), protoreflect.ValueOfBytes(a.Value))
		}
		return
	}
	least := 0
	if m.Descriptor().FullName() == "google.protobuf.Value" {
		least = 1
	}
	for range rapid.IntRange(least, 5).Draw(t, "fields") {
		f := fields.Get(rapid.IntRange(0, fields.Len()-1).Draw(t, "field"))
		if m.Descriptor().FullName() == "google.protobuf.Value" && depth <= 0 {
			f = fields.ByNumber(3)
		}
		switch {
		case f.IsMap():
			for range rapid.IntRange(1, 3).Draw(t, "entries") {
				key := protoreflect.ValueOfString(rapid.String().Draw(t, "key")).MapKey()
				if f.MapKey().Kind() != protoreflect.StringKind {
					key = single(t, f.MapKey(), nil, 0).MapKey()
				}
				v := single(t, f.MapValue(), func() protoreflect.Value { return m.Mutable(f).Map().NewValue() }, depth)
				m.Mutable(f).Map().Set(key, v)
			}
		case f.IsList():
			l := m.Mutable(f).List()
			for range rapid.IntRange(1, 3).Draw(t, "elements") {
				l.Append(single(t, f, l.NewElement, depth))
			}
		default:
			m.Set(f, single(t, f, func() protoreflect.Value { return m.NewField(f) }, depth))
		}
	}
}

func single(t *rapid.T, f protoreflect.FieldDescriptor, empty func() protoreflect.Value, depth int) protoreflect.Value {
	small := rapid.Bool().Draw(t, "small") // as most are, and in the bounds of what is bounded
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rapid.Bool().Draw(t, "bool"))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(rapid.Int32Range(-2, 3).Draw(t, "enum")))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		if small {
			return protoreflect.ValueOfInt32(rapid.Int32Range(0, 2000).Draw(t, "int32"))
		}
		return protoreflect.ValueOfInt32(rapid.Int32().Draw(t, "int32"))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		if small {
			return protoreflect.ValueOfInt64(rapid.Int64Range(0, 2000).Draw(t, "int64"))
		}
		return protoreflect.ValueOfInt64(rapid.Int64().Draw(t, "int64"))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(rapid.Uint32().Draw(t, "uint32"))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(rapid.Uint64().Draw(t, "uint64"))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(math.Float32frombits(rapid.Uint32().Draw(t, "float")))
	case protoreflect.DoubleKind:
		if small {
			return protoreflect.ValueOfFloat64(rapid.Float64().Draw(t, "double"))
		}
		return protoreflect.ValueOfFloat64(math.Float64frombits(rapid.Uint64().Draw(t, "double")))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(rapid.String().Draw(t, "string"))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
	default:
		v := empty()
		if depth > 0 {
			fill(t, v.Message(), depth-1)
		} else if f.Message().FullName() == "google.protobuf.Value" {
			fill(t, v.Message(), 0)
		}
		return v
	}
}

// FuzzAppend: whatever the bytes, what the library renders is rendered equally, and what it refuses is refused.
func FuzzAppend(f *testing.F) {
	for _, c := range messageCases {
		f.Add(c.typ, c.any(f).Value)
	}
	for _, c := range wireCases() {
		if len(c.wire) < 1<<10 {
			f.Add(c.typ, c.wire)
		}
	}
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		if d := differs(&anypb.Any{TypeUrl: "type.googleapis.com/" + name, Value: b}); d != "" {
			t.Error(d)
		}
	})
}

// BenchmarkAppend writes a message of all that the generator's have: nested messages, lists, maps, and an Any in it.
func BenchmarkAppend(b *testing.B) {
	for _, c := range messageCases {
		switch c.name {
		case "scalars", "nested messages", "maps", "structs", "any":
		default:
			continue
		}
		a := c.any(b)
		for _, way := range []struct {
			name   string
			render func([]byte) ([]byte, error)
		}{
			{"here", func(to []byte) ([]byte, error) { return renderer().Append(to, a) }},
			{"library", func([]byte) ([]byte, error) { return library(a) }},
		} {
			b.Run(c.name+"/"+way.name, func(b *testing.B) {
				b.ReportAllocs()
				var to []byte
				for b.Loop() {
					var err error
					if to, err = way.render(to[:0]); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(int64(len(to)))
			})
		}
	}
}
