package wirejson

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// zero tells whether the value of a field that has no presence says nothing. Negative zero says something.
func (f *field) zero(b []byte) bool {
	switch f.wire {
	case protowire.VarintType:
		v, _ := varint(b)
		switch f.kind {
		case protoreflect.BoolKind, protoreflect.Int64Kind, protoreflect.Uint64Kind, protoreflect.Sint64Kind:
			return v == 0
		default:
			return uint32(v) == 0
		}
	case protowire.Fixed32Type:
		return binary.LittleEndian.Uint32(b) == 0
	case protowire.Fixed64Type:
		return binary.LittleEndian.Uint64(b) == 0
	default:
		inside, _ := delimited(b)
		return len(inside) == 0
	}
}

// integer writes a varint. Numbers of 64 bits are strings.
func (w *writer) integer(f *field, v uint64) {
	switch f.kind {
	case protoreflect.BoolKind:
		w.out = strconv.AppendBool(w.out, v != 0)
	case protoreflect.EnumKind:
		w.enum(f, int32(v))
	case protoreflect.Int32Kind:
		w.out = strconv.AppendInt(w.out, int64(int32(v)), 10)
	case protoreflect.Sint32Kind:
		w.out = strconv.AppendInt(w.out, protowire.DecodeZigZag(v&math.MaxUint32), 10)
	case protoreflect.Uint32Kind:
		w.out = strconv.AppendUint(w.out, uint64(uint32(v)), 10)
	case protoreflect.Int64Kind:
		w.signed(int64(v))
	case protoreflect.Sint64Kind:
		w.signed(protowire.DecodeZigZag(v))
	default:
		w.unsigned(v)
	}
}

func (w *writer) enum(f *field, v int32) {
	if f.enum == nil {
		w.raw("null")
		return
	}
	if name, ok := f.enum[protoreflect.EnumNumber(v)]; ok {
		w.raw(name)
		return
	}
	w.out = strconv.AppendInt(w.out, int64(v), 10)
}

// fixed writes a number of constant size and returns that, 0 when b is too short.
func (w *writer) fixed(f *field, b []byte) int {
	size := 8
	if f.wire == protowire.Fixed32Type {
		size = 4
	}
	if len(b) < size {
		return 0
	}
	switch f.kind {
	case protoreflect.Fixed32Kind:
		w.out = strconv.AppendUint(w.out, uint64(binary.LittleEndian.Uint32(b)), 10)
	case protoreflect.Sfixed32Kind:
		w.out = strconv.AppendInt(w.out, int64(int32(binary.LittleEndian.Uint32(b))), 10)
	case protoreflect.FloatKind:
		w.float(float64(math.Float32frombits(binary.LittleEndian.Uint32(b))), 32)
	case protoreflect.Sfixed64Kind:
		w.signed(int64(binary.LittleEndian.Uint64(b)))
	case protoreflect.DoubleKind:
		w.float(math.Float64frombits(binary.LittleEndian.Uint64(b)), 64)
	default:
		w.unsigned(binary.LittleEndian.Uint64(b))
	}
	return size
}

func (w *writer) signed(v int64) {
	w.out = append(strconv.AppendInt(append(w.out, '"'), v, 10), '"')
}

func (w *writer) unsigned(v uint64) {
	w.out = append(strconv.AppendUint(append(w.out, '"'), v, 10), '"')
}

func (w *writer) base64(b []byte) {
	w.out = append(base64.StdEncoding.AppendEncode(append(w.out, '"'), b), '"')
}

// float writes as encoding/json does, and in words what that cannot write.
func (w *writer) float(v float64, bits int) {
	switch {
	case math.IsNaN(v):
		w.raw(`"NaN"`)
		return
	case math.IsInf(v, 1):
		w.raw(`"Infinity"`)
		return
	case math.IsInf(v, -1):
		w.raw(`"-Infinity"`)
		return
	}
	format := byte('f')
	if abs := math.Abs(v); abs != 0 {
		small, large := abs < 1e-6, abs >= 1e21
		if bits == 32 {
			small, large = float32(abs) < 1e-6, float32(abs) >= 1e21
		}
		if small || large {
			format = 'e'
		}
	}
	w.out = strconv.AppendFloat(w.out, v, format, -1, bits)
	// e-09 is written as e-9.
	if n := len(w.out); format == 'e' && n >= 4 && string(w.out[n-4:n-1]) == "e-0" {
		w.out[n-2] = w.out[n-1]
		w.out = w.out[:n-1]
	}
}

func (w *writer) text(s []byte) (ok bool) {
	w.out, ok = appendText(w.out, s)
	return ok
}

// plain are the bytes that are written as they are.
var plain = func() (p [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		p[c] = c != '"' && c != '\\'
	}
	return p
}()

// appendText appends s in quotes, and says no to what is no UTF-8.
func appendText(out, s []byte) ([]byte, bool) {
	out = append(out, '"')
	start := 0
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case plain[c]:
			i++
		case c < utf8.RuneSelf:
			out = appendEscape(append(out, s[start:i]...), c)
			i++
			start = i
		default:
			r, n := utf8.DecodeRune(s[i:])
			if r == utf8.RuneError && n == 1 {
				return out, false
			}
			i += n
		}
	}
	return append(append(out, s[start:]...), '"'), true
}

const hex = "0123456789abcdef"

func appendEscape(out []byte, c byte) []byte {
	switch c {
	case '"', '\\':
	case '\b':
		c = 'b'
	case '\f':
		c = 'f'
	case '\n':
		c = 'n'
	case '\r':
		c = 'r'
	case '\t':
		c = 't'
	default:
		return append(out, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
	}
	return append(out, '\\', c)
}
