package wirejson

import (
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// form is how a type of messages looks.
type form uint8

const (
	object form = iota
	// library is what has parts that are not written here: extensions, required fields, groups, closed enums, keys of maps
	// that are no strings.
	library
	anything
	duration
	timestamp
	wrapper
	structure
	list
	value
)

// wellKnown are the types with a form of their own. The paths of a FieldMask must be checked, and nothing of ours has one.
var wellKnown = map[protoreflect.FullName]form{
	"google.protobuf.Any":       anything,
	"google.protobuf.Duration":  duration,
	"google.protobuf.Timestamp": timestamp,
	"google.protobuf.Struct":    structure,
	"google.protobuf.ListValue": list,
	"google.protobuf.Value":     value,
	"google.protobuf.FieldMask": library,

	"google.protobuf.BoolValue":   wrapper,
	"google.protobuf.Int32Value":  wrapper,
	"google.protobuf.Int64Value":  wrapper,
	"google.protobuf.UInt32Value": wrapper,
	"google.protobuf.UInt64Value": wrapper,
	"google.protobuf.FloatValue":  wrapper,
	"google.protobuf.DoubleValue": wrapper,
	"google.protobuf.StringValue": wrapper,
	"google.protobuf.BytesValue":  wrapper,
}

const (
	// maxNumber bounds the numbers of fields, so that a field is found by its number in a list.
	maxNumber = 1 << 12
	// maxOneofs is the number of bits of field.oneof.
	maxOneofs = 64
)

// message is what must be known of a type to write it.
type message struct {
	form form
	// fields are in the order of declaration, which is that of the text.
	fields []field
	// byNumber are places in fields, plus one.
	byNumber []int16
}

type field struct {
	// name is that of the text with quotes, colon and space.
	name string
	kind protoreflect.Kind
	// wire is the type of one element.
	wire     protowire.Type
	repeated bool
	// packable elements may be in one run of bytes.
	packable bool
	// presence makes zero something else than nothing.
	presence bool
	// oneof is a bit that the fields of a oneof share.
	oneof uint64
	// enum are the values with quotes; nil for the one that is null.
	enum map[protoreflect.EnumNumber]string
	// values are those of a map.
	values *field
	// of is the type of a message, known when the first has been met: all that a listener may contain is a lot.
	of   atomic.Pointer[message]
	desc protoreflect.MessageDescriptor
}

func (f *field) message(r *Renderer) *message {
	m := f.of.Load()
	if m == nil {
		m = r.table(f.desc)
		f.of.Store(m)
	}
	return m
}

func compile(d protoreflect.MessageDescriptor) *message {
	m := &message{form: wellKnown[d.FullName()]}
	fields := d.Fields()
	if d.IsPlaceholder() || d.IsMapEntry() || d.ExtensionRanges().Len() > 0 || d.RequiredNumbers().Len() > 0 || d.Oneofs().Len() > maxOneofs {
		m.form = library
	}
	if m.form == library {
		return m
	}
	m.fields = make([]field, fields.Len())
	for i := range m.fields {
		d := fields.Get(i)
		number := int(d.Number())
		if number >= maxNumber || !m.fields[i].compile(d) {
			return &message{form: library}
		}
		for len(m.byNumber) <= number {
			m.byNumber = append(m.byNumber, 0)
		}
		m.byNumber[number] = int16(i + 1)
	}
	return m
}

// compile tells whether such a field can be written here.
func (f *field) compile(d protoreflect.FieldDescriptor) bool {
	name, ok := appendText(nil, []byte(d.JSONName()))
	f.name = string(name) + ": "
	f.kind, f.presence = d.Kind(), d.HasPresence()
	f.repeated, f.packable = d.IsList() || d.IsMap(), d.IsList()
	if o := d.ContainingOneof(); o != nil {
		f.oneof = 1 << o.Index()
	}
	switch f.kind {
	case protoreflect.GroupKind:
		return false
	case protoreflect.MessageKind:
		f.wire, f.packable = protowire.BytesType, false
		f.desc = d.Message()
	case protoreflect.StringKind, protoreflect.BytesKind:
		f.wire, f.packable = protowire.BytesType, false
	case protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind, protoreflect.FloatKind:
		f.wire = protowire.Fixed32Type
	case protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind, protoreflect.DoubleKind:
		f.wire = protowire.Fixed64Type
	case protoreflect.EnumKind:
		if d.Enum().IsClosed() || d.Enum().IsPlaceholder() {
			return false
		}
		f.compileEnum(d.Enum())
	}
	if d.IsMap() {
		f.values = &field{}
		ok = ok && d.MapKey().Kind() == protoreflect.StringKind && f.values.compile(d.MapValue())
	}
	return ok
}

func (f *field) compileEnum(d protoreflect.EnumDescriptor) {
	if d.FullName() == "google.protobuf.NullValue" {
		return
	}
	f.enum = map[protoreflect.EnumNumber]string{}
	for i := range d.Values().Len() {
		v := d.Values().Get(i)
		if _, alias := f.enum[v.Number()]; !alias {
			f.enum[v.Number()] = `"` + string(v.Name()) + `"`
		}
	}
}
