package wirejson_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	_ "google.golang.org/protobuf/types/known/apipb" // generated types that are no well-known ones
	_ "google.golang.org/protobuf/types/known/durationpb"
	_ "google.golang.org/protobuf/types/known/emptypb"
	_ "google.golang.org/protobuf/types/known/fieldmaskpb"
	_ "google.golang.org/protobuf/types/known/structpb"
	_ "google.golang.org/protobuf/types/known/timestamppb"
	_ "google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/internal/wirejson"
)

// modern is a file whose message Modern, made by modernFields, has each type as a singular field, a list, an optional field, a
// member of a oneof and the values of a map.
const modern = `
name: "modern.proto" package: "t" syntax: "proto3"
dependency: ["google/protobuf/any.proto", "google/protobuf/duration.proto", "google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto",
  "google/protobuf/struct.proto", "google/protobuf/field_mask.proto", "google/protobuf/empty.proto"]
enum_type { name: "Color" options { allow_alias: true }
  value { name: "NONE" number: 0 } value { name: "RED" number: 1 } value { name: "ROUGE" number: 1 } value { name: "MINUS" number: -1 } }
message_type { name: "Empty" }
message_type { name: "Small"
  field { name: "text" number: 2 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "odd_name" json_name: "an \"odd\" näme" number: 1 label: LABEL_OPTIONAL type: TYPE_INT32 }
  field { name: "loose" number: 3 label: LABEL_REPEATED type: TYPE_INT32 options { packed: false } }
  field { name: "more" number: 4 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".t.Small" } }
message_type { name: "Keys"
  field { name: "by_number" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".t.Keys.ByNumberEntry" }
  nested_type { name: "ByNumberEntry" options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_INT32 } field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_STRING } } }
message_type { name: "Far" field { name: "far" number: 500000000 label: LABEL_OPTIONAL type: TYPE_STRING } }
message_type { name: "Modern" oneof_decl { name: "either" } oneof_decl { name: "or" } %s }
`

// old is a file of what is left to the library, and of what is not though it is old.
const old = `
name: "old.proto" package: "t" syntax: "proto2"
enum_type { name: "Closed" value { name: "ONE" number: 1 } }
message_type { name: "Required" field { name: "r" number: 1 label: LABEL_REQUIRED type: TYPE_STRING } }
message_type { name: "Outer"
  field { name: "required" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: ".t.Required" }
  field { name: "text" number: 2 label: LABEL_OPTIONAL type: TYPE_STRING default_value: "x" }
  field { name: "list" number: 3 label: LABEL_REPEATED type: TYPE_INT32 } }
message_type { name: "Old"
  field { name: "closed" number: 1 label: LABEL_OPTIONAL type: TYPE_ENUM type_name: ".t.Closed" }
  field { name: "g" number: 3 label: LABEL_OPTIONAL type: TYPE_GROUP type_name: ".t.Old.G" }
  nested_type { name: "G" field { name: "n" number: 1 label: LABEL_OPTIONAL type: TYPE_INT32 } }
  extension_range { start: 100 end: 200 } }
extension { name: "ext" number: 100 label: LABEL_OPTIONAL type: TYPE_STRING extendee: ".t.Old" }
`

const types = `DOUBLE FLOAT INT64 UINT64 INT32 FIXED64 FIXED32 BOOL STRING BYTES UINT32 SFIXED32 SFIXED64 SINT32 SINT64
.t.Color .google.protobuf.NullValue .t.Modern .t.Small .t.Empty .t.Keys .google.protobuf.Any .google.protobuf.Duration
.google.protobuf.Timestamp .google.protobuf.BoolValue .google.protobuf.Int32Value .google.protobuf.Int64Value
.google.protobuf.UInt32Value .google.protobuf.UInt64Value .google.protobuf.FloatValue .google.protobuf.DoubleValue
.google.protobuf.StringValue .google.protobuf.BytesValue .google.protobuf.Struct .google.protobuf.ListValue
.google.protobuf.Value .google.protobuf.FieldMask .google.protobuf.Empty`

// modernFields names the fields of a type as one_string, list_string and so on. The order of their numbers is not theirs.
func modernFields() string {
	var b, optional strings.Builder
	var members [2]strings.Builder // stand together
	oneofs, number := 2, 0
	for i, t := range strings.Fields(types) {
		name := strings.ToLower(t[strings.LastIndex(t, ".")+1:])
		if strings.HasPrefix(t, ".t.") {
			name = "t" + name
		}
		kind := "type: TYPE_" + t
		message := false
		if strings.HasPrefix(t, ".") {
			kind = fmt.Sprintf("type: TYPE_ENUM type_name: %q", t)
			if message = t != ".t.Color" && t != ".google.protobuf.NullValue"; message {
				kind = fmt.Sprintf("type: TYPE_MESSAGE type_name: %q", t)
			}
		}
		field := func(b *strings.Builder, prefix, label, kind, more string) {
			number++
			fmt.Fprintf(b, "field { name: %q number: %d label: LABEL_%s %s %s }\n", prefix+"_"+name, 390*number%997+1, label, kind, more)
		}
		field(&b, "one", "OPTIONAL", kind, "")
		field(&b, "list", "REPEATED", kind, "")
		if !message {
			field(&b, "opt", "OPTIONAL", kind, fmt.Sprintf("proto3_optional: true oneof_index: %d", oneofs))
			fmt.Fprintf(&optional, "oneof_decl { name: \"_opt_%s\" }\n", name)
			oneofs++
		}
		field(&members[i%2], "or", "OPTIONAL", kind, fmt.Sprintf("oneof_index: %d", i%2))
		entry := "Map" + strings.ToUpper(name[:1]) + name[1:] + "Entry"
		field(&b, "map", "REPEATED", fmt.Sprintf("type: TYPE_MESSAGE type_name: %q", ".t.Modern."+entry), "")
		fmt.Fprintf(&b, `nested_type { name: %q options { map_entry: true }
			field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING } field { name: "value" number: 2 label: LABEL_OPTIONAL %s } }`, entry, kind)
	}
	return members[1].String() + b.String() + members[0].String() + optional.String()
}

// registry has the types of the two files, besides those that are generated.
type registry struct {
	*protoregistry.Types
	// found counts how often a type has been asked for.
	found *atomic.Int64
}

var testTypes = sync.OnceValue(func() registry {
	types := &protoregistry.Types{}
	for _, text := range []string{fmt.Sprintf(modern, modernFields()), old} {
		var d descriptorpb.FileDescriptorProto
		if err := prototext.Unmarshal([]byte(text), &d); err != nil {
			panic(err)
		}
		file, err := protodesc.NewFile(&d, protoregistry.GlobalFiles)
		if err != nil {
			panic(err)
		}
		for i := range file.Messages().Len() {
			if err := types.RegisterMessage(dynamicpb.NewMessageType(file.Messages().Get(i))); err != nil {
				panic(err)
			}
		}
		for i := range file.Extensions().Len() {
			if err := types.RegisterExtension(dynamicpb.NewExtensionType(file.Extensions().Get(i))); err != nil {
				panic(err)
			}
		}
	}
	return registry{types, new(atomic.Int64)}
})

func (r registry) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	r.found.Add(1)
	if t, err := r.Types.FindMessageByURL(url); err == nil {
		return t, nil
	}
	return protoregistry.GlobalTypes.FindMessageByURL(url)
}

// counting returns the types with a counter of its own.
func counting() registry { return registry{testTypes().Types, new(atomic.Int64)} }

const prefix, indent = "  ", " "

// library is what Append must append.
func library(a *anypb.Any) ([]byte, error) {
	m, err := anypb.UnmarshalNew(a, proto.UnmarshalOptions{Resolver: testTypes()})
	if err != nil {
		return nil, err
	}
	compact, err := protojson.MarshalOptions{Resolver: testTypes()}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = json.Indent(&out, compact, prefix, indent)
	return out.Bytes(), err
}

// tryLibrary: of a dynamic message with a key of another type in the entry of a map, proto.Unmarshal panics.
func tryLibrary(a *anypb.Any) (text []byte, panicked bool, err error) {
	defer func() { panicked = recover() != nil }()
	text, err = library(a)
	return text, false, err
}

var renderer = sync.OnceValue(func() *wirejson.Renderer { return wirejson.New(prefix, indent, testTypes()) })

// differs tells how Append and the library differ.
func differs(a *anypb.Any) string {
	want, panicked, wantErr := tryLibrary(a)
	if panicked {
		return ""
	}
	got, err := renderer().Append([]byte("before"), a)
	switch {
	case (err != nil) != (wantErr != nil):
		return fmt.Sprintf("error is %v, the library's is %v", err, wantErr)
	case err == nil && string(got) != "before"+string(want):
		return fmt.Sprintf("text is\n%s\nthe library's\n%s", got, want)
	case err != nil && string(got) != "before":
		return fmt.Sprintf("after an error there is %q", got)
	}
	return ""
}

func message(name string) proto.Message {
	t, err := testTypes().FindMessageByURL("type.googleapis.com/" + name)
	if err != nil {
		panic(err)
	}
	return t.New().Interface()
}

func pack(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true, AllowPartial: true}); err != nil {
		panic(err)
	}
	return a
}
