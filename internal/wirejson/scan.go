package wirejson

import "google.golang.org/protobuf/encoding/protowire"

// span is where a field is: the value of a singular field, the elements of another with their tags.
type span struct {
	field      int16
	start, end int32
}

// fewSpans are kept on the stack.
const fewSpans = 16

// maxSize keeps places in int32.
const maxSize = 1 << 30

// scan appends the spans of the fields in b, in the order of the text, to spans. It says no to what is wrong, and to what
// our generator does not write and the library takes: fields in several places, several fields of a oneof, groups.
func (m *message) scan(spans []span, b []byte) ([]span, bool) {
	if len(b) > maxSize {
		return nil, false
	}
	var oneofs uint64
	last, ordered, unknown := int16(-1), true, false
	for at := 0; at < len(b); {
		start := at
		tag, n := varint(b[at:])
		if n == 0 {
			return nil, false
		}
		at += n
		inside := at
		size := valueSize(protowire.Type(tag&7), b[at:])
		if size == 0 {
			return nil, false
		}
		at += size
		number := tag >> 3
		if number >= uint64(len(m.byNumber)) || m.byNumber[number] == 0 {
			if number < uint64(protowire.MinValidNumber) || number > uint64(protowire.MaxValidNumber) {
				return nil, false
			}
			unknown = true
			continue
		}
		i := m.byNumber[number] - 1
		f := &m.fields[i]
		if t := protowire.Type(tag & 7); t != f.wire && !(f.packable && t == protowire.BytesType) {
			return nil, false // an unknown field of the same number
		}
		if i == last && f.repeated && !unknown {
			spans[len(spans)-1].end = int32(at)
			continue
		}
		if len(spans) == len(m.fields) || oneofs&f.oneof != 0 {
			return nil, false
		}
		if !f.repeated {
			start = inside
		}
		spans = append(spans, span{i, int32(start), int32(at)})
		ordered = ordered && i > last
		oneofs |= f.oneof
		last, unknown = i, false
	}
	return spans, ordered || sort(spans)
}

// sort puts the few spans of a message in order, and says no when one field has two.
func sort(spans []span) bool {
	for i := 1; i < len(spans); i++ {
		s, k := spans[i], i
		for ; k > 0 && spans[k-1].field > s.field; k-- {
			spans[k] = spans[k-1]
		}
		if k > 0 && spans[k-1].field == s.field {
			return false
		}
		spans[k] = s
	}
	return true
}

// valueSize returns the size of a value of b, 0 when it is wrong or a group.
func valueSize(t protowire.Type, b []byte) int {
	switch t {
	case protowire.VarintType:
		_, n := varint(b)
		return n
	case protowire.Fixed32Type:
		return atLeast(b, 4)
	case protowire.Fixed64Type:
		return atLeast(b, 8)
	case protowire.BytesType:
		size, n := varint(b)
		if n == 0 || size > uint64(len(b)-n) {
			return 0
		}
		return n + int(size)
	}
	return 0
}

func atLeast(b []byte, n int) int {
	if len(b) < n {
		return 0
	}
	return n
}

// delimited returns what follows its length, and the size of both, 0 when it is wrong.
func delimited(b []byte) (inside []byte, size int) {
	length, n := varint(b)
	if n == 0 || length > uint64(len(b)-n) {
		return nil, 0
	}
	size = n + int(length)
	return b[n:size], size
}

// varint returns the number at the beginning of b and its size, 0 when it is wrong.
func varint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 1<<7 {
		return uint64(b[0]), 1
	}
	return longVarint(b)
}

func longVarint(b []byte) (uint64, int) {
	v, n := protowire.ConsumeVarint(b)
	return v, max(n, 0)
}
