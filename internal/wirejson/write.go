package wirejson

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// writer writes one text. Its methods return false for what is left to the library, which then begins anew: so nobody need
// care what has been written of it.
type writer struct {
	r     *Renderer
	out   []byte
	depth int
}

func (w *writer) raw(s string) { w.out = append(w.out, s...) }

// line is the beginning of a line.
func (w *writer) line() string { return w.r.lines[:1+len(w.r.prefix)+w.depth*len(w.r.indent)] }

func (w *writer) open(bracket byte) bool {
	w.out = append(w.out, bracket)
	w.depth++
	return w.depth <= maxDepth
}

func (w *writer) close(bracket byte, empty bool) {
	w.depth--
	out := w.out
	if !empty {
		out = append(out, w.line()...)
	}
	out = append(out, bracket)
	w.out = out
}

// next begins an element.
func (w *writer) next(first bool) { w.named(first, "") }

// named begins a field.
func (w *writer) named(first bool, name string) {
	out := w.out
	if !first {
		out = append(out, ',')
	}
	out = append(append(out, w.line()...), name...)
	w.out = out
}

// message writes the message that is in b.
func (w *writer) message(m *message, b []byte) bool {
	switch m.form {
	case object:
		return w.object(m, b, nil)
	case anything:
		return w.any(m, b)
	case duration:
		return w.duration(m, b)
	case timestamp:
		return w.timestamp(m, b)
	case wrapper:
		return w.wrapper(m, b)
	case structure:
		return w.only(m, b, "{}")
	case list:
		return w.only(m, b, "[]")
	case value:
		return w.value(m, b)
	case library:
	}
	return false
}

// object writes the fields that are in b, after the type unless that is nil.
func (w *writer) object(m *message, b, typeURL []byte) bool {
	var few [fewSpans]span
	spans, ok := m.scan(few[:0], b)
	if !ok || !w.open('{') {
		return false
	}
	first := typeURL == nil
	if !first && !w.typed(typeURL) {
		return false
	}
	for _, s := range spans {
		f := &m.fields[s.field]
		inside := b[s.start:s.end]
		if !f.presence && !f.repeated && f.zero(inside) {
			continue
		}
		before := len(w.out)
		w.named(first, f.name)
		begun := len(w.out)
		if !w.field(f, inside) {
			return false
		}
		if len(w.out) == begun {
			w.out = w.out[:before]
			continue
		}
		first = false
	}
	w.close('}', first)
	return true
}

// field writes what a field has, nothing when that is a list without elements.
func (w *writer) field(f *field, b []byte) bool {
	switch {
	case f.values != nil:
		return w.entries(f, b)
	case f.repeated:
		return w.elements(f, b)
	}
	return w.element(f, b) > 0
}

func (w *writer) elements(f *field, b []byte) bool {
	begun := len(w.out)
	if !w.open('[') {
		return false
	}
	first := true
	for len(b) > 0 {
		tag, n := varint(b)
		b = b[n:]
		if protowire.Type(tag&7) == f.wire {
			w.next(first)
			first = false
			if n = w.element(f, b); n == 0 {
				return false
			}
			b = b[n:]
			continue
		}
		packed, n := delimited(b)
		b = b[n:]
		for len(packed) > 0 {
			w.next(first)
			first = false
			if n = w.element(f, packed); n == 0 {
				return false
			}
			packed = packed[n:]
		}
	}
	w.close(']', first)
	if first {
		w.out = w.out[:begun]
	}
	return true
}

// Tags of the entries of a map.
const (
	keyTag   = 1<<3 | byte(protowire.BytesType)
	valueTag = 2 << 3
)

// entries writes a map whose entries have both key and value, sorted by keys, as marshaling writes them.
func (w *writer) entries(f *field, b []byte) bool {
	if !w.open('{') {
		return false
	}
	var last []byte
	for first := true; len(b) > 0; first = false {
		_, n := varint(b)
		entry, size := delimited(b[n:])
		b = b[n+size:]
		if len(entry) == 0 || entry[0] != keyTag {
			return false
		}
		key, n := delimited(entry[1:])
		if n == 0 || !first && bytes.Compare(key, last) <= 0 {
			return false
		}
		last = key
		entry = entry[1+n:]
		if len(entry) == 0 || entry[0] != valueTag|byte(f.values.wire) {
			return false
		}
		w.next(first)
		if !w.text(key) {
			return false
		}
		w.raw(": ")
		if w.element(f.values, entry[1:]) != len(entry)-1 {
			return false
		}
	}
	w.close('}', false)
	return true
}

// element writes the value at the beginning of b and returns its size, 0 when it cannot be written.
func (w *writer) element(f *field, b []byte) int {
	switch f.wire {
	case protowire.VarintType:
		v, n := varint(b)
		if n > 0 {
			w.integer(f, v)
		}
		return n
	case protowire.BytesType:
		inside, size := delimited(b)
		if size == 0 || !w.delimited(f, inside) {
			return 0
		}
		return size
	}
	return w.fixed(f, b)
}

func (w *writer) delimited(f *field, b []byte) bool {
	switch f.kind {
	case protoreflect.MessageKind:
		return w.message(f.message(w.r), b)
	case protoreflect.StringKind:
		return w.text(b)
	default:
		w.base64(b)
		return true
	}
}
