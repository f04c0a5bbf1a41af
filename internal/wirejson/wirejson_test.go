package wirejson_test

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/internal/wirejson"
)

// Who writes a text.
const (
	here      = "here"
	byLibrary = "the library"
	nobody    = "nobody"
)

// by tells who writes what is in a. Only the library asks for a type that is known.
func by(t *testing.T, a *anypb.Any) string {
	t.Helper()
	types := counting()
	r := wirejson.New(prefix, indent, types)
	if _, err := r.Append(nil, a); err != nil {
		return nobody
	}
	before := types.found.Load()
	if _, err := r.Append(nil, a); err != nil {
		t.Fatal(err)
	}
	if types.found.Load() != before {
		return byLibrary
	}
	return here
}

type messageCase struct{ name, typ, text, by string }

// messages are cases as the generator writes them.
var messageCases = []messageCase{
	{"empty", "t.Modern", ``, here},
	{"no fields", "t.Empty", ``, here},
	{"scalars", "t.Modern", `one_double: 1.5 one_float: 0.1 one_int64: -1 one_uint64: 18446744073709551615 one_int32: -2147483648
		one_fixed64: 3 one_fixed32: 4294967295 one_bool: true one_string: "s" one_bytes: "\x00\xff?" one_uint32: 4294967295
		one_sfixed32: -7 one_sfixed64: -8 one_sint32: -2147483648 one_sint64: -9223372036854775808 one_tcolor: RED one_nullvalue: NULL_VALUE`, here},
	{"lists", "t.Modern", `list_double: [0, -0.0, 1e21, 1e20, 1e-6, 9e-7, 1e-10, nan, inf, -inf] list_float: [0, 1e21, 1e-6, 9e-7, 3.4e38, nan, inf, -inf, 16777216]
		list_int64: [0, 1] list_uint64: [0, 1] list_int32: [0, -1] list_fixed64: [0, 1] list_fixed32: [0, 1] list_bool: [false, true]
		list_string: ["", "x"] list_bytes: ["", "x"] list_uint32: [0, 1] list_sfixed32: [0, -1] list_sfixed64: [0, -1] list_sint32: [0, -1]
		list_sint64: [0, -1] list_tcolor: [NONE, RED, MINUS, 7] list_nullvalue: [NULL_VALUE, NULL_VALUE]`, here},
	{"optional zeros", "t.Modern", `opt_double: 0 opt_float: 0 opt_int64: 0 opt_uint64: 0 opt_int32: 0 opt_fixed64: 0 opt_fixed32: 0 opt_bool: false
		opt_string: "" opt_bytes: "" opt_uint32: 0 opt_sfixed32: 0 opt_sfixed64: 0 opt_sint32: 0 opt_sint64: 0 opt_tcolor: NONE opt_nullvalue: NULL_VALUE`, here},
	{"negative zeros", "t.Modern", `one_double: -0.0 one_float: -0.0`, here},
	{"member of a oneof", "t.Modern", `or_int32: 0 or_tcolor: RED`, here},
	{"null of a oneof", "t.Modern", `or_nullvalue: NULL_VALUE`, here},
	{"unknown number of an enum", "t.Modern", `one_tcolor: 77`, here},
	{"negative number of an enum", "t.Modern", `one_tcolor: MINUS`, here},
	{"maps", "t.Modern", `map_string { key: "b" value: "1" } map_string { key: "a" value: "" } map_string { key: "" value: "2" } map_string { key: "\"é" value: "3" }
		map_bool { key: "x" value: false } map_bytes { key: "x" value: "" } map_double { key: "x" value: nan } map_tsmall { key: "x" value { text: "y" } }
		map_tsmall { key: "w" value {} } map_tcolor { key: "x" value: NONE } map_nullvalue { key: "x" value: NULL_VALUE } map_int64 { key: "x" value: 0 }
		map_fixed32 { key: "x" value: 0 }`, here},
	{"escapes", "t.Modern", `list_string: ["\"\\\b\f\n\r\t\x00\x1f\x7f", "<>&", "é\u2028\u2029\ufffd\U0001F600", "a\nb"]`, here},
	{"nested messages", "t.Modern", `one_tmodern { one_tsmall { more { more { text: "deep" } } } list_tsmall {} list_tsmall { text: "x" } } one_tempty {}`, here},
	{"numbers in another order than declared", "t.Small", `text: "x" odd_name: 1`, here},
	{"elements that are not packed", "t.Small", `loose: [0, 1]`, here},
	{"old messages without oddities", "t.Outer", `text: "" list: [1, 2]`, here},
	{"generated types", "google.protobuf.Api", `name: "a" methods { name: "m" request_streaming: true syntax: SYNTAX_PROTO3 options { name: "o"
		value { [type.googleapis.com/t.Small] { text: "x" } } } } source_context { file_name: "f" } mixins {}`, here},

	{"durations", "t.Modern", `list_duration: [{}, { seconds: 1 }, { seconds: -1 nanos: -500000000 }, { nanos: -1 }, { nanos: 1000 }, { nanos: 120000000 },
		{ seconds: 315576000000 nanos: 999999999 }, { seconds: -315576000000 }]`, here},
	{"duration of too many seconds", "google.protobuf.Duration", `seconds: 315576000001`, nobody},
	{"duration of too many negative seconds", "google.protobuf.Duration", `seconds: -315576000001`, nobody},
	{"duration of the least seconds", "google.protobuf.Duration", `seconds: -9223372036854775808`, nobody},
	{"duration of too many nanos", "google.protobuf.Duration", `nanos: 1000000000`, nobody},
	{"duration of the least nanos", "google.protobuf.Duration", `nanos: -2147483648`, nobody},
	{"duration of two signs", "google.protobuf.Duration", `seconds: 1 nanos: -1`, nobody},
	{"timestamps", "t.Modern", `list_timestamp: [{}, { seconds: -62135596800 }, { seconds: 253402300799 nanos: 999999999 }, { seconds: 1700000000 nanos: 50 }, { nanos: 50000000 }]`, here},
	{"timestamp too early", "google.protobuf.Timestamp", `seconds: -62135596801`, nobody},
	{"timestamp too late", "google.protobuf.Timestamp", `seconds: 253402300800`, nobody},
	{"timestamp of negative nanos", "google.protobuf.Timestamp", `nanos: -1`, nobody},
	{"wrappers of zero", "t.Modern", `one_boolvalue {} one_int32value {} one_int64value {} one_uint32value {} one_uint64value {} one_floatvalue {} one_doublevalue {}
		one_stringvalue {} one_bytesvalue {}`, here},
	{"wrappers", "t.Modern", `one_boolvalue { value: true } one_int32value { value: -1 } one_int64value { value: -1 } one_uint32value { value: 1 } one_uint64value { value: 1 }
		one_floatvalue { value: 0.5 } one_doublevalue { value: inf } one_stringvalue { value: "x\n" } one_bytesvalue { value: "x" }`, here},
	{"structs", "google.protobuf.Struct", `fields { key: "null" value { null_value: NULL_VALUE } } fields { key: "number" value { number_value: 1e30 } }
		fields { key: "string" value { string_value: "" } } fields { key: "bool" value { bool_value: false } } fields { key: "struct" value { struct_value {} } }
		fields { key: "list" value { list_value { values { list_value {} } values { struct_value { fields { key: "a" value { number_value: 0 } } } } } } }`, here},
	{"empty struct", "google.protobuf.Struct", ``, here},
	{"empty list", "google.protobuf.ListValue", ``, here},
	{"empty value", "google.protobuf.Value", ``, nobody},
	{"struct of an empty value", "google.protobuf.Struct", `fields { key: "a" value {} }`, nobody},
	{"value that is no number", "google.protobuf.Value", `number_value: nan`, nobody},
	{"value that is infinite", "google.protobuf.Value", `number_value: -inf`, nobody},
	{"field mask", "google.protobuf.FieldMask", `paths: ["a_b.c", "d"]`, byLibrary},
	{"wrong field mask", "google.protobuf.FieldMask", `paths: ["aB"]`, nobody},

	{"any", "t.Modern", `one_any { [type.googleapis.com/t.Small] { text: "x" } }`, here},
	{"empty anys", "t.Modern", `one_any {} list_any {} list_any { type_url: "type.googleapis.com/t.Empty" }`, here},
	{"any without type", "t.Modern", `one_any { value: "x" }`, nobody},
	{"any of an unknown type", "t.Modern", `one_any { type_url: "type.googleapis.com/t.Nothing" }`, nobody},
	{"any of another host", "t.Modern", `one_any { type_url: "\n/t.Small" }`, here},
	{"any of something else", "t.Modern", `one_any { type_url: "type.googleapis.com/t.Small" value: "\x08" }`, nobody},
	{"any of an any", "google.protobuf.Any", `[type.googleapis.com/google.protobuf.Any] { [type.googleapis.com/t.Small] { text: "x" } }`, here},
	{"any of an empty any", "t.Modern", `one_any { [type.googleapis.com/google.protobuf.Any] {} }`, here},
	{"any of a duration", "t.Modern", `one_any { [type.googleapis.com/google.protobuf.Duration] { seconds: 1 } }`, here},
	{"any of a wrapper", "t.Modern", `one_any { [type.googleapis.com/google.protobuf.UInt64Value] {} }`, here},
	{"any of a struct", "t.Modern", `one_any { [type.googleapis.com/google.protobuf.Struct] { fields { key: "a" value { string_value: "b" } } } }`, here},
	{"any of a value", "t.Modern", `one_any { [type.googleapis.com/google.protobuf.Value] { null_value: NULL_VALUE } }`, here},
	{"any of nothing", "t.Modern", `one_any { [type.googleapis.com/google.protobuf.Empty] {} }`, here},
	{"any of a field mask", "t.Modern", `one_any { [type.googleapis.com/google.protobuf.FieldMask] { paths: "a" } }`, byLibrary},
	{"any of what is required and missing", "t.Modern", `one_any { type_url: "type.googleapis.com/t.Required" }`, byLibrary},

	{"keys that are no strings", "t.Keys", `by_number { key: 2 value: "b" } by_number { key: -1 value: "a" }`, byLibrary},
	{"numbers that are large", "t.Far", `far: "x"`, byLibrary},
	{"group, closed enum and extension", "t.Old", `closed: ONE g { n: 1 } [t.ext]: "x"`, byLibrary},
	{"required", "t.Outer", `required { r: "x" }`, byLibrary},
	{"required and missing", "t.Outer", `required {}`, nobody},
}

func (c *messageCase) any(tb testing.TB) *anypb.Any {
	tb.Helper()
	m := message(c.typ)
	if err := (prototext.UnmarshalOptions{Resolver: testTypes(), AllowPartial: true}).Unmarshal([]byte(c.text), m); err != nil {
		tb.Fatalf("%s: %v", c.name, err)
	}
	return pack(m)
}

func TestMessages(t *testing.T) {
	for _, c := range messageCases {
		t.Run(c.name, func(t *testing.T) { check(t, c.any(t), c.by) })
	}
}

func check(t *testing.T, a *anypb.Any, who string) {
	t.Helper()
	if d := differs(a); d != "" {
		t.Error(d)
	}
	if got := by(t, a); got != who {
		t.Errorf("it is written by %s, want %s", got, who)
	}
}

type wireCase struct {
	name, typ string
	wire      []byte
	by        string
}

// number returns the number of a field of Modern.
func number(name string) protowire.Number {
	return message("t.Modern").ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(name)).Number()
}

// varints, bytes and so on are one field.
func varintField(n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
}

func bytesField(n protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, n, protowire.BytesType), v)
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// wireCases are those that our generator does not write.
func wireCases() []wireCase {
	one := func(kind string) protowire.Number { return number("one_" + kind) }
	entry := func(key, value string) []byte {
		return bytesField(number("map_string"), string(cat(bytesField(1, key), bytesField(2, value))))
	}
	fixed := func(n protowire.Number, v float64) []byte {
		return protowire.AppendFixed64(protowire.AppendTag(nil, n, protowire.Fixed64Type), math.Float64bits(v))
	}
	deep := func(levels int) []byte {
		var b []byte
		for range levels {
			b = bytesField(4, string(b))
		}
		return b
	}
	value := func(n protowire.Number, v string) string { return string(bytesField(n, v)) }
	return []wireCase{
		{"zeros without presence", "t.Modern", cat(varintField(one("int32"), 0), varintField(one("bool"), 0), varintField(one("uint64"), 0), varintField(one("tcolor"), 0),
			bytesField(one("string"), ""), bytesField(one("bytes"), ""), fixed(one("double"), 0), varintField(one("sint32"), 0)), here},
		{"zeros of 32 bits", "t.Modern", cat(varintField(one("int32"), 1<<32), varintField(one("uint32"), 1<<32), varintField(one("tcolor"), 1<<32), varintField(one("sint32"), 1<<33)), here},
		{"too many bits", "t.Modern", cat(varintField(one("int32"), 1<<33|5), varintField(one("uint32"), 1<<63|6), varintField(one("tcolor"), 1<<40|1), varintField(one("sint32"), 1<<50|3), varintField(one("bool"), 1<<40)), here},
		{"one zero and other fields", "t.Small", cat(bytesField(2, ""), varintField(1, 0), varintField(3, 1)), here},
		{"unknown fields", "t.Modern", cat(varintField(3000, 1), bytesField(one("string"), "x"), bytesField(3001, "y"), fixed(3002, 1), varintField(1<<29-1, 1)), here},
		{"unknown field in a list", "t.Small", cat(varintField(3, 1), varintField(9, 1), varintField(3, 2)), byLibrary},
		{"unknown group", "t.Small", cat(protowire.AppendTag(nil, 9, protowire.StartGroupType), protowire.AppendTag(nil, 9, protowire.EndGroupType)), byLibrary},
		{"number of another type", "t.Small", bytesField(1, "x"), byLibrary},
		{"scalar twice", "t.Small", cat(varintField(1, 1), varintField(1, 2)), byLibrary},
		{"scalar twice, zero last", "t.Small", cat(varintField(1, 1), varintField(1, 0)), byLibrary},
		{"scalar twice, apart", "t.Small", cat(varintField(1, 1), bytesField(2, "x"), varintField(1, 2)), byLibrary},
		{"message twice", "t.Small", cat(bytesField(4, value(2, "x")), bytesField(4, string(varintField(1, 1)))), byLibrary},
		{"list in two places", "t.Small", cat(varintField(3, 1), bytesField(2, "x"), varintField(3, 2)), byLibrary},
		{"two of a oneof", "t.Modern", cat(varintField(number("or_bool"), 1), bytesField(number("or_bytes"), "")), byLibrary},
		{"packed where it need not be", "t.Small", bytesField(3, "\x01\x00\x02"), here},
		{"packed and not", "t.Small", cat(varintField(3, 7), bytesField(3, "\x01\x02"), varintField(3, 8)), here},
		{"packed nothing", "t.Small", cat(bytesField(3, ""), bytesField(3, "")), here},
		{"packed half", "t.Small", bytesField(3, "\x80"), nobody},
		{"packed half of a fixed number", "t.Modern", bytesField(number("list_fixed32"), "\x01\x02\x03"), nobody},
		{"not packed where it should be", "t.Modern", cat(fixed(number("list_double"), 1), fixed(number("list_double"), 0)), here},
		{"keys in order", "t.Modern", cat(entry("a", "1"), entry("b", "2")), here},
		{"keys out of order", "t.Modern", cat(entry("b", "2"), entry("a", "1")), byLibrary},
		{"key twice", "t.Modern", cat(entry("a", "2"), entry("a", "1")), byLibrary},
		{"entry without key and value", "t.Modern", bytesField(number("map_string"), ""), byLibrary},
		{"entry without key", "t.Modern", bytesField(number("map_string"), value(2, "x")), byLibrary},
		{"entry without value", "t.Modern", bytesField(number("map_tsmall"), value(1, "x")), byLibrary},
		{"entry with more", "t.Modern", bytesField(number("map_string"), value(1, "x")+value(2, "y")+value(3, "z")), byLibrary},
		{"entry with value first", "t.Modern", bytesField(number("map_string"), value(2, "y")+value(1, "x")), byLibrary},
		{"wrapper with more", "google.protobuf.UInt32Value", cat(varintField(3, 1), varintField(1, 5)), here},
		{"wrapper of an explicit zero", "google.protobuf.Int64Value", varintField(1, 0), here},
		{"wrapper twice", "google.protobuf.Int64Value", cat(varintField(1, 1), varintField(1, 2)), byLibrary},
		{"duration backwards", "google.protobuf.Duration", cat(varintField(2, 5), varintField(1, 6)), here},
		{"value twice", "google.protobuf.Value", cat(varintField(4, 1), bytesField(3, "x")), byLibrary},
		{"any backwards", "google.protobuf.Any", cat(bytesField(2, value(2, "x")), bytesField(1, "x/t.Small")), here},
		{"any of an empty type", "google.protobuf.Any", bytesField(1, ""), byLibrary},
		{"no UTF-8", "t.Small", bytesField(2, "\xff"), nobody},
		{"no UTF-8 before another", "t.Small", cat(bytesField(2, "\xff"), bytesField(2, "x")), nobody},
		{"half a rune", "t.Small", bytesField(2, "x\xf0\x9f\x98"), nobody},
		{"surrogate", "t.Small", bytesField(2, "\xed\xa0\x80"), nobody},
		{"no UTF-8 in a key", "t.Modern", entry("\xff", ""), nobody},
		{"no UTF-8 in an old message", "t.Outer", bytesField(2, "\xff"), nobody},
		{"type that is no UTF-8", "google.protobuf.Any", bytesField(1, "\xff/t.Small"), nobody},
		{"half a tag", "t.Small", []byte{0x80}, nobody},
		{"half a varint", "t.Small", []byte{1 << 3, 0x80}, nobody},
		{"varint of too many bytes", "t.Small", []byte("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), nobody},
		{"varint longer than it must be", "t.Small", []byte("\x88\x00\x81\x80\x00"), here},
		{"string that ends too early", "t.Small", []byte{2<<3 | 2, 2, 'x'}, nobody},
		{"string of a huge length", "t.Small", []byte("\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"), nobody},
		{"field zero", "t.Small", []byte{0, 1}, nobody},
		{"field of too large a number", "t.Small", cat(protowire.AppendVarint(nil, 1<<32), []byte{1}), nobody},
		{"unknown wire type", "t.Small", []byte{1<<3 | 6, 1}, nobody},
		{"end of no group", "t.Small", protowire.AppendTag(nil, 1, protowire.EndGroupType), nobody},
		{"nested as deep as we go", "t.Small", deep(63), here},
		{"nested deeper", "t.Small", deep(64), byLibrary},
		{"nested deeper than the library goes", "t.Small", deep(10_001), nobody},
	}
}

func TestWire(t *testing.T) {
	for _, c := range wireCases() {
		t.Run(c.name, func(t *testing.T) { check(t, &anypb.Any{TypeUrl: "type.googleapis.com/" + c.typ, Value: c.wire}, c.by) })
	}
}

func TestTypes(t *testing.T) {
	for _, url := range []string{"", "/", "t.Small", "x/t.Small", "type.googleapis.com/t.Nothing"} {
		t.Run(url, func(t *testing.T) {
			if d := differs(&anypb.Any{TypeUrl: url}); d != "" {
				t.Error(d)
			}
		})
	}
	_, err := renderer().Append(nil, &anypb.Any{TypeUrl: "x/t.Nothing"})
	if err == nil || !strings.Contains(err.Error(), "render x/t.Nothing: ") {
		t.Errorf("error is %v", err)
	}
	if d := differs(nil); d != "" {
		t.Error(d)
	}
}

// TestSideBySide: those who meet types first at the same time write the same.
func TestSideBySide(t *testing.T) {
	r := wirejson.New(prefix, indent, testTypes())
	var cases []*anypb.Any
	var want [][]byte
	for _, c := range messageCases {
		if c.by != nobody {
			a := c.any(t)
			text, err := library(a)
			if err != nil {
				t.Fatal(err)
			}
			cases, want = append(cases, a), append(want, text)
		}
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i, a := range cases {
				if got, err := r.Append(nil, a); err != nil || !bytes.Equal(got, want[i]) {
					t.Errorf("text is %s (%v), want %s", got, err, want[i])
				}
			}
		})
	}
	wg.Wait()
}

// TestManyURLs: what people make up is not remembered without end, and is written all the same.
func TestManyURLs(t *testing.T) {
	types := counting()
	r := wirejson.New(prefix, indent, types)
	a := &anypb.Any{Value: bytesField(2, "x")}
	const more = 1 << 11
	ask := func() int64 {
		before := types.found.Load()
		for i := range more {
			a.TypeUrl = strconv.Itoa(i) + "/t.Small"
			if _, err := r.Append(nil, a); err != nil {
				t.Fatal(err)
			}
		}
		return types.found.Load() - before
	}
	ask()
	if n := ask(); n == 0 || n == more {
		t.Errorf("%d of %d types are looked up again", n, more)
	}
}
