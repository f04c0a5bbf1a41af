// Package protofield reads protobuf messages field by field. The agent passes messages of Envoy and of control planes on as
// bytes, and Envoy's Go types would be a tenth of its memory: it looks at the few fields that it needs.
package protofield

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrMalformed means that bytes are no protobuf message.
var ErrMalformed = errors.New("malformed protobuf")

// field is one field of a message.
type field struct {
	number protowire.Number
	kind   protowire.Type
	val    []byte // content when length-delimited, never nil then
	num    uint64 // value of a varint
	raw    []byte // all of it, with its tag
}

// first reads the field that a message begins with.
func first(b []byte) (x field, err error) {
	number, kind, tag := protowire.ConsumeTag(b)
	if tag < 0 {
		return x, ErrMalformed
	}
	x.number, x.kind = number, kind
	size := 0
	switch kind {
	case protowire.BytesType:
		x.val, size = protowire.ConsumeBytes(b[tag:])
	case protowire.VarintType:
		x.num, size = protowire.ConsumeVarint(b[tag:])
	default:
		size = protowire.ConsumeFieldValue(number, kind, b[tag:])
	}
	if size < 0 {
		return x, ErrMalformed
	}
	x.raw = b[:tag+size]
	return x, nil
}

// Each calls f for each field that is length-delimited, whose content is val, or a varint, whose value is num and whose val is
// nil; others are left out. It ends at an error of f, or with ErrMalformed. Val is part of b.
func Each(b []byte, f func(number protowire.Number, val []byte, num uint64) error) error {
	for len(b) > 0 {
		x, err := first(b)
		if err != nil {
			return err
		}
		b = b[len(x.raw):]
		if x.kind != protowire.BytesType && x.kind != protowire.VarintType {
			continue
		}
		if err := f(x.number, x.val, x.num); err != nil {
			return err
		}
	}
	return nil
}

// Raw is Each for all fields: raw is the whole of one, with its tag.
func Raw(b []byte, f func(number protowire.Number, val []byte, num uint64, raw []byte) error) error {
	for len(b) > 0 {
		x, err := first(b)
		if err != nil {
			return err
		}
		b = b[len(x.raw):]
		if err := f(x.number, x.val, x.num, x.raw); err != nil {
			return err
		}
	}
	return nil
}

// At follows a chain of message fields and calls f with the content of each field at its end.
func At(b []byte, f func(val []byte) error, chain ...protowire.Number) error {
	if len(chain) == 0 {
		return f(b)
	}
	return Each(b, func(number protowire.Number, val []byte, _ uint64) error {
		if number != chain[0] || val == nil {
			return nil
		}
		return At(val, f, chain[1:]...)
	})
}
