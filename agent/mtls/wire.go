package mtls

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kuma-dp/kuma-dp/agent/protofield"
)

// has tells whether a message has a field, whatever is in it.
func has(b []byte, field protowire.Number) (there bool, err error) {
	err = protofield.Each(b, func(n protowire.Number, _ []byte, _ uint64) error {
		there = there || n == field
		return nil
	})
	return there, err
}

// text is the last value of a string field.
func text(b []byte, fields ...protowire.Number) (s string, err error) {
	err = protofield.At(b, func(val []byte) error { s = string(val); return nil }, fields...)
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
