package mtls

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

var errMalformed = errors.New("malformed protobuf")

// each calls f for each field of a message: val is the content of a length-delimited field, num that of a varint, raw the whole
// field with its tag.
func each(b []byte, f func(n protowire.Number, val []byte, num uint64, raw []byte) error) error {
	for len(b) > 0 {
		number, typ, tag := protowire.ConsumeTag(b)
		if tag < 0 {
			return errMalformed
		}
		size := protowire.ConsumeFieldValue(number, typ, b[tag:])
		if size < 0 {
			return errMalformed
		}
		raw := b[:tag+size]
		var val []byte
		var num uint64
		switch typ {
		case protowire.BytesType:
			val, _ = protowire.ConsumeBytes(raw[tag:])
		case protowire.VarintType:
			num, _ = protowire.ConsumeVarint(raw[tag:])
		}
		if err := f(number, val, num, raw); err != nil {
			return err
		}
		b = b[len(raw):]
	}
	return nil
}

// at calls f with each message, or text, at the end of a chain of fields.
func at(b []byte, f func(val []byte) error, fields ...protowire.Number) error {
	if len(fields) == 0 {
		return f(b)
	}
	return each(b, func(n protowire.Number, val []byte, _ uint64, _ []byte) error {
		if n != fields[0] {
			return nil
		}
		return at(val, f, fields[1:]...)
	})
}

// has tells whether a message has a field, whatever is in it.
func has(b []byte, field protowire.Number) (there bool, err error) {
	err = each(b, func(n protowire.Number, _ []byte, _ uint64, _ []byte) error {
		there = there || n == field
		return nil
	})
	return there, err
}

// text is the last value of a string field.
func text(b []byte, fields ...protowire.Number) (s string, err error) {
	err = at(b, func(val []byte) error { s = string(val); return nil }, fields...)
	return s, err
}

// message appends a length-delimited field.
func message(to []byte, field protowire.Number, content ...[]byte) []byte {
	size := 0
	for _, c := range content {
		size += len(c)
	}
	to = protowire.AppendVarint(protowire.AppendTag(to, field, protowire.BytesType), uint64(size))
	for _, c := range content {
		to = append(to, c...)
	}
	return to
}

// field is a length-delimited field on its own.
func field(n protowire.Number, content ...[]byte) []byte { return message(nil, n, content...) }

// number is a varint field on its own.
func number(n protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), value)
}
