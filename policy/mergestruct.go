package policy

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// structMerge does what merging the JSON forms does (contract policies.md §4.4), on the structs themselves: a field that
// the encoding leaves out keeps the older value. It is the usual way; confs whose types it does not know take the other.
type structMerge func(dst, src reflect.Value)

// structMerges remembers the structMerge of a type, nil for one that must be merged as JSON.
var structMerges sync.Map // reflect.Type → structMerge

// mergeStructs merges confs of one type, pointers to structs; false when it cannot.
func mergeStructs(kind Kind, confs []any) (any, bool) {
	t := reflect.TypeOf(confs[0])
	if t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return nil, false
	}
	known, ok := structMerges.Load(t.Elem())
	if !ok {
		m, fits := compileStruct(t.Elem(), nil)
		if !fits {
			m = nil
		}
		known, _ = structMerges.LoadOrStore(t.Elem(), m)
	}
	m := known.(structMerge)
	out := kind.NewConf()
	if m == nil || reflect.TypeOf(out) != t {
		return nil, false
	}
	dst := reflect.ValueOf(out).Elem()
	for i, c := range confs {
		v := reflect.ValueOf(c)
		switch {
		case v.Type() != t || v.IsNil():
			return nil, false
		case i == 0 && !joinsLists(t.Elem()): // which drops empty ones
			dst.Set(v.Elem()) // what it points to is replaced, never changed
		default:
			m(dst, v.Elem())
		}
	}
	return out, true
}

// joining remembers the types that joinsLists was asked about.
var joining sync.Map // reflect.Type → bool

// joinsLists tells whether lists of a type, which compileStruct knows, are joined.
func joinsLists(t reflect.Type) bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return false
	}
	if known, ok := joining.Load(t); ok {
		return known.(bool)
	}
	joins := false
	for i := range t.NumField() {
		f := t.Field(i)
		joins = joins || strings.HasPrefix(f.Tag.Get("json"), appendPrefix) || joinsLists(f.Type)
	}
	joining.Store(t, joins)
	return joins
}

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// encodesItself tells whether a type has a form of its own. Those of confs are texts and numbers: durations, fractions.
func encodesItself(t reflect.Type) bool {
	return t.Implements(jsonMarshaler) || t.Implements(textMarshaler) ||
		t.Kind() != reflect.Pointer && (reflect.PointerTo(t).Implements(jsonMarshaler) || reflect.PointerTo(t).Implements(textMarshaler))
}

func compileStruct(t reflect.Type, within []reflect.Type) (structMerge, bool) {
	for _, w := range within {
		if w == t {
			return nil, false // a type that contains itself
		}
	}
	within = append(within[:len(within):len(within)], t)
	var fields []structMerge
	for i := range t.NumField() {
		f := t.Field(i)
		m, ok := compileField(f, within)
		if !ok {
			return nil, false
		}
		if m != nil {
			fields = append(fields, func(dst, src reflect.Value) { m(dst.Field(i), src.Field(i)) })
		}
	}
	return func(dst, src reflect.Value) {
		for _, f := range fields {
			f(dst, src)
		}
	}, true
}

// compileField returns nil for a field that the encoding never shows.
func compileField(f reflect.StructField, within []reflect.Type) (structMerge, bool) {
	tag := f.Tag.Get("json")
	if f.Anonymous && tag == "" && f.Type.Kind() == reflect.Struct && !encodesItself(f.Type) {
		return compileStruct(f.Type, within)
	}
	name, options, _ := strings.Cut(tag, ",")
	switch {
	case f.Anonymous || name == "" || name == rulesField || name == hostnamesField:
		return nil, false
	case !f.IsExported() || name == "-":
		return nil, f.IsExported()
	}
	omitEmpty, omitZero := false, false
	for o := range strings.SplitSeq(options, ",") {
		switch o {
		case "omitempty":
			omitEmpty = true
		case "omitzero":
			omitZero = true
		case "":
		default:
			return nil, false
		}
	}
	t := f.Type
	switch {
	case t.Kind() == reflect.Interface, hasIsZero(t) && omitZero, t == reflect.TypeFor[json.RawMessage]():
		return nil, false
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct && !encodesItself(t):
		inner, ok := compileStruct(t.Elem(), within)
		return func(dst, src reflect.Value) {
			if src.IsNil() {
				return
			}
			own := reflect.New(t.Elem())
			if !dst.IsNil() {
				own.Elem().Set(dst.Elem())
			}
			inner(own.Elem(), src.Elem())
			dst.Set(own)
		}, ok
	case t.Kind() == reflect.Struct && !encodesItself(t):
		inner, ok := compileStruct(t, within)
		return func(dst, src reflect.Value) {
			if !omitZero || !src.IsZero() {
				inner(dst, src)
			}
		}, ok
	case t.Kind() == reflect.Slice:
		return mergeSlice(strings.HasPrefix(name, appendPrefix), omitEmpty), true
	case t.Kind() == reflect.Map:
		return mergeMap(t)
	case t.Kind() == reflect.Array, t.Kind() == reflect.Func, t.Kind() == reflect.Chan:
		return nil, false
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Map, t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Interface:
		return nil, false
	}
	return func(dst, src reflect.Value) {
		absent := src.Kind() == reflect.Pointer && src.IsNil() || omitZero && src.IsZero() ||
			omitEmpty && src.IsZero() && src.Kind() != reflect.Struct
		if !absent {
			dst.Set(src)
		}
	}, true
}

func hasIsZero(t reflect.Type) bool {
	_, ok := t.MethodByName("IsZero")
	return ok && t.Kind() != reflect.Pointer
}

func mergeSlice(joined, omitEmpty bool) structMerge {
	return func(dst, src reflect.Value) {
		switch {
		case src.IsNil() || omitEmpty && src.Len() == 0:
		case joined:
			dst.Set(reflect.AppendSlice(dst.Slice3(0, dst.Len(), dst.Len()), src))
		default:
			dst.Set(src)
		}
	}
}

// mergeMap merges maps of texts and numbers; the values of others may be objects.
func mergeMap(t reflect.Type) (structMerge, bool) {
	switch t.Elem().Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint32, reflect.Uint64, reflect.Float64:
	default:
		return nil, false
	}
	return func(dst, src reflect.Value) {
		if src.Len() == 0 {
			return
		}
		own := reflect.MakeMapWithSize(t, src.Len())
		for _, from := range []reflect.Value{dst, src} {
			for it := from.MapRange(); it.Next(); {
				own.SetMapIndex(it.Key(), it.Value())
			}
		}
		dst.Set(own)
	}, true
}
