package wirejson

import (
	"encoding/binary"
	"math"
	"strconv"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// typed begins an object with the type of what was in an Any.
func (w *writer) typed(url []byte) bool {
	w.named(true, `"@type": `)
	return w.text(url)
}

// any writes what is in an Any with its type; what has a form of its own as a value beside that.
func (w *writer) any(m *message, b []byte) bool {
	var few [2]span
	spans, ok := m.scan(few[:0], b)
	switch {
	case !ok:
		return false
	case len(spans) == 0:
		w.raw("{}")
		return true
	case spans[0].field != 0:
		return false // without a type
	}
	url, _ := delimited(b[spans[0].start:spans[0].end])
	inner := w.r.find(url)
	if len(url) == 0 || inner == nil {
		return false
	}
	var inside []byte
	if len(spans) > 1 {
		inside, _ = delimited(b[spans[1].start:spans[1].end])
	}
	if inner.form == object {
		return w.object(inner, inside, url)
	}
	if !w.open('{') || !w.typed(url) {
		return false
	}
	w.named(false, `"value": `)
	if !w.message(inner, inside) {
		return false
	}
	w.close('}', false)
	return true
}

// only writes the one field that a message has, or what takes its place.
func (w *writer) only(m *message, b []byte, empty string) bool {
	var few [1]span
	spans, ok := m.scan(few[:0], b)
	if !ok {
		return false
	}
	if len(spans) == 0 {
		w.raw(empty)
		return true
	}
	return w.field(&m.fields[0], b[spans[0].start:spans[0].end])
}

func (w *writer) wrapper(m *message, b []byte) bool {
	empty := "0"
	switch m.fields[0].kind {
	case protoreflect.BoolKind:
		empty = "false"
	case protoreflect.StringKind, protoreflect.BytesKind:
		empty = `""`
	case protoreflect.Int64Kind, protoreflect.Uint64Kind:
		empty = `"0"`
	}
	return w.only(m, b, empty)
}

// value writes a Value, of which exactly one field must be there. Numbers that are none of JSON the library refuses.
func (w *writer) value(m *message, b []byte) bool {
	var few [1]span
	spans, ok := m.scan(few[:0], b)
	if !ok || len(spans) == 0 {
		return false
	}
	f, inside := &m.fields[spans[0].field], b[spans[0].start:spans[0].end]
	if f.kind == protoreflect.DoubleKind {
		if v := math.Float64frombits(binary.LittleEndian.Uint64(inside)); math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return w.field(f, inside)
}

// What a Duration and a Timestamp may be.
const (
	maxNanos            = 999_999_999
	maxDurationSeconds  = 315_576_000_000
	minTimestampSeconds = -62_135_596_800
	maxTimestampSeconds = 253_402_300_799
)

// time returns the two fields of a Duration or Timestamp.
func (m *message) time(b []byte) (seconds int64, nanos int32, ok bool) {
	var few [2]span
	spans, ok := m.scan(few[:0], b)
	for _, s := range spans {
		v, _ := varint(b[s.start:s.end])
		if s.field == 0 {
			seconds = int64(v)
		} else {
			nanos = int32(v)
		}
	}
	return seconds, nanos, ok
}

func (w *writer) duration(m *message, b []byte) bool {
	seconds, nanos, ok := m.time(b)
	if !ok || seconds > 0 && nanos < 0 || seconds < 0 && nanos > 0 {
		return false
	}
	w.out = append(w.out, '"')
	if seconds < 0 || nanos < 0 {
		w.out = append(w.out, '-')
		seconds, nanos = -seconds, -nanos
	}
	// What is negative still has no positive form.
	if seconds < 0 || seconds > maxDurationSeconds || nanos < 0 || nanos > maxNanos {
		return false
	}
	w.out = strconv.AppendInt(w.out, seconds, 10)
	w.fraction(nanos)
	w.raw(`s"`)
	return true
}

func (w *writer) timestamp(m *message, b []byte) bool {
	seconds, nanos, ok := m.time(b)
	if !ok || seconds < minTimestampSeconds || seconds > maxTimestampSeconds || nanos < 0 || nanos > maxNanos {
		return false
	}
	w.out = time.Unix(seconds, 0).UTC().AppendFormat(append(w.out, '"'), "2006-01-02T15:04:05")
	w.fraction(nanos)
	w.raw(`Z"`)
	return true
}

// fraction writes 0, 3, 6 or 9 digits after a point.
func (w *writer) fraction(nanos int32) {
	if nanos == 0 {
		return
	}
	digits := 9
	for nanos%1000 == 0 {
		nanos /= 1000
		digits -= 3
	}
	w.out = append(w.out, '.')
	for unit := int32(math.Pow10(digits - 1)); unit > 0; unit /= 10 {
		w.out = append(w.out, byte('0'+nanos/unit%10))
	}
}
